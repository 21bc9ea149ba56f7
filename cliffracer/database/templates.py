"""A fresh database per test, copied from a prepared one in milliseconds."""

import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from cliffracer.database.ids import uuid7
from cliffracer.errors import SetupError


def with_database(url: str, name: str) -> str:
    """Return the same address with another database's name."""
    head, _, query = url.partition("?")
    scheme, _, rest = head.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}/{name}{'?' + query if query else ''}"


@asynccontextmanager
async def cloned(url: str, *, template: str | None = None) -> AsyncGenerator[str, None]:
    """Copy a database (that of the URL, or another one of its server) and yield the copy's address; it is dropped at the end.

    Nobody may be connected to the template meanwhile. The copy takes 10 to 40 ms: files are copied, nothing is replayed.
    """
    import psycopg  # noqa: PLC0415 - for tests only
    from psycopg import sql  # noqa: PLC0415 - for tests only

    source = template or urlsplit(url).path.lstrip("/")
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,40}", source):
        raise SetupError(f"{source!r} cannot be a template. Give the name of a database, as in cloned(url, template='app_test').")
    name = f"{source}_{uuid7().hex[-20:]}"
    async with await psycopg.AsyncConnection.connect(with_database(url, "postgres"), autocommit=True) as connection:
        copy = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy")
        await connection.execute(copy.format(sql.Identifier(name), sql.Identifier(source)))
    try:
        yield with_database(url, name)
    finally:
        async with await psycopg.AsyncConnection.connect(with_database(url, "postgres"), autocommit=True) as connection:
            await connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
