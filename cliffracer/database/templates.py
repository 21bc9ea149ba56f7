"""A fresh database per test, copied from a prepared one; `Stock` makes the copies ahead of time, so that a test waits for none."""

import queue
import re
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from cliffracer.database.ids import uuid7
from cliffracer.errors import SetupError


def with_database(url: str, name: str) -> str:
    """Return the same address with another database's name."""
    head, _, query = url.partition("?")
    scheme, _, rest = head.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}/{name}{'?' + query if query else ''}"


def template_of(url: str, template: str | None) -> str:
    """Return the name of the template: the one given, or the database of the URL."""
    source = template or urlsplit(url).path.lstrip("/")
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,40}", source):
        raise SetupError(f"{source!r} cannot be a template. Give the name of a database, as in cloned(url, template='app_test').")
    return source


def statement(text: str, *names: str) -> Any:
    """Return a statement with names in it."""
    from psycopg import sql  # noqa: PLC0415 - for tests only

    return sql.SQL(text).format(*map(sql.Identifier, names))


COPY = "CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy"
DROP = "DROP DATABASE IF EXISTS {} WITH (FORCE)"


@asynccontextmanager
async def cloned(url: str, *, template: str | None = None) -> AsyncGenerator[str, None]:
    """Copy a database (that of the URL, or another one of its server) and yield the copy's address; it is dropped at the end.

    Nobody may be connected to the template meanwhile. Files are copied, nothing is replayed: 15 ms on a fast disk.
    """
    import psycopg  # noqa: PLC0415 - for tests only

    source = template_of(url, template)
    name = f"{source}_{uuid7().hex[-20:]}"
    async with await psycopg.AsyncConnection.connect(with_database(url, "postgres"), autocommit=True) as connection:
        await connection.execute(statement(COPY, name, source))
    try:
        yield with_database(url, name)
    finally:
        async with await psycopg.AsyncConnection.connect(with_database(url, "postgres"), autocommit=True) as connection:
            await connection.execute(statement(DROP, name))


class Stock:
    """Copies of a database, made ahead by a thread of its own: ``with Stock(url, template="app_test") as stock``.

    A test takes one in no time and gives it back to be dropped; however slow the disk is, tests that take longer than
    a copy do not wait for it.
    """

    def __init__(self, url: str, *, template: str | None = None, ahead: int = 3) -> None:
        self._url = url
        self._source = template_of(url, template)
        self._ready: queue.Queue[str | Exception] = queue.Queue()
        self._work: queue.Queue[str | None] = queue.Queue()
        self._ahead = ahead
        self._made: set[str] = set()
        self._thread = threading.Thread(target=self._run, name="cliffracer-databases", daemon=True)

    def __enter__(self) -> Self:
        for _ in range(self._ahead):
            self._work.put("")
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._work.put(None)
        self._thread.join()

    def take(self, within: float = 60.0) -> str:
        """Return the address of a fresh copy, and have another one made."""
        self._work.put("")
        found = self._ready.get(timeout=within)
        if isinstance(found, Exception):
            raise SetupError(f"the database {self._source} cannot be copied: {found}") from found
        return with_database(self._url, found)

    def give(self, url: str) -> None:
        """Have a copy dropped."""
        self._work.put(urlsplit(url).path.lstrip("/"))

    def _run(self) -> None:
        import psycopg  # noqa: PLC0415 - for tests only

        try:
            with psycopg.connect(with_database(self._url, "postgres"), autocommit=True) as connection:
                while (name := self._work.get()) is not None:
                    self._do(connection, name)
                for left in self._made:
                    connection.execute(statement(DROP, left))
        except psycopg.Error as error:
            self._ready.put(error)

    def _do(self, connection: Any, name: str) -> None:
        import psycopg  # noqa: PLC0415 - for tests only

        if name:
            with suppress(psycopg.Error):  # one that cannot be dropped now is dropped at the end
                connection.execute(statement(DROP, name))
                self._made.discard(name)
            return
        made = f"{self._source}_{uuid7().hex[-20:]}"
        try:
            connection.execute(statement(COPY, made, self._source))
        except psycopg.Error as error:
            self._ready.put(error)
        else:
            self._made.add(made)
            self._ready.put(made)
