"""SQL that the service writes itself: the same four calls on the database and on an open transaction."""

import re
import sys
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Coroutine, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import lru_cache
from itertools import count
from typing import Any, LiteralString, Protocol, TypeVar, overload

import msgspec

from cliffracer.database.deadlines import deadline_now
from cliffracer.database.filters import natural
from cliffracer.database.link import Copy, Link, Params, Statement, as_tuple
from cliffracer.database.lint import check_call
from cliffracer.database.rows import factory_of, value_of
from cliffracer.database.suspicion import Mode
from cliffracer.errors import SetupError
from cliffracer.suggestions import Suggesting

T = TypeVar("T")

_numbers = count(1)


class Composed(Protocol):
    """What ``psycopg.sql`` composes; named by what it can do, so that psycopg need not be imported for it."""

    def as_bytes(self, context: Any = ...) -> bytes:
        """Return the statement's text."""
        ...


Query = LiteralString | Composed
"""A query: text that is written in the source, or one composed with ``psycopg.sql``; values are always parameters."""


class Queries(Suggesting, ABC):
    """Runs statements; ``%s`` stands for a parameter, ``%(name)s`` for a named one."""

    __slots__ = ()

    @property
    @abstractmethod
    def suspicious(self) -> Mode:
        """What is done about values that look like an attack."""

    @property
    @abstractmethod
    def linting(self) -> bool:
        """Whether calls are looked at for queries that are put together from values."""

    @abstractmethod
    def joined(self) -> object | None:
        """Return the transaction that a statement of this task would be part of; None if it is one of its own."""

    @abstractmethod
    def transaction(self) -> AbstractAsyncContextManager[Any]:
        """Open a transaction, or a savepoint in the one that this task has open."""

    @abstractmethod
    async def rows(self, statement: Statement, params: Params = None) -> list[Any]:
        """Run one statement and return its rows."""

    @abstractmethod
    async def run(self, statement: Statement, params: Params = None) -> int:
        """Run one statement and return how many rows it touched."""

    @abstractmethod
    async def copy(self, copy: Copy, rows: Iterable[Any]) -> int:
        """Send rows by a COPY FROM STDIN and return how many were stored."""

    @abstractmethod
    def held(self) -> AbstractAsyncContextManager[Link]:
        """Hold a connection: the transaction's, or one with a read-only transaction of its own."""

    @overload
    def fetch(self, kind: type[T], query: Query, /, *params: Any, **named: Any) -> Coroutine[Any, Any, list[T]]: ...
    @overload
    def fetch(self, query: Query, /, *params: Any, **named: Any) -> Coroutine[Any, Any, list[dict[str, Any]]]: ...
    def fetch(self, *args: Any, **named: Any) -> Coroutine[Any, Any, list[Any]]:
        """Return all rows, as Structs, dicts, tuples, or the values of a single column: ``db.fetch(User, "select ...", name)``."""
        if self.linting:
            check_call(sys._getframe(1), _place(args))  # noqa: SLF001 - the documented way to a caller's source
        kind, query, params = _read(args, named, dict)
        return self.rows(_statement(query, kind), params)

    @overload
    def fetch_one(self, kind: type[T], query: Query, /, *params: Any, **named: Any) -> Coroutine[Any, Any, T | None]: ...
    @overload
    def fetch_one(self, query: Query, /, *params: Any, **named: Any) -> Coroutine[Any, Any, dict[str, Any] | None]: ...
    def fetch_one(self, *args: Any, **named: Any) -> Coroutine[Any, Any, Any]:
        """Return the first row, or None if there is none."""
        if self.linting:
            check_call(sys._getframe(1), _place(args))  # noqa: SLF001 - the documented way to a caller's source
        kind, query, params = _read(args, named, dict)
        return self._first(_statement(query, kind), params)

    @overload
    def fetch_value(self, kind: type[T], query: Query, /, *params: Any, **named: Any) -> Coroutine[Any, Any, T | None]: ...
    @overload
    def fetch_value(self, query: Query, /, *params: Any, **named: Any) -> Coroutine[Any, Any, Any]: ...
    def fetch_value(self, *args: Any, **named: Any) -> Coroutine[Any, Any, Any]:
        """Return the first column of the first row, or None if there is none."""
        if self.linting:
            check_call(sys._getframe(1), _place(args))  # noqa: SLF001 - the documented way to a caller's source
        kind, query, params = _read(args, named, Any)
        return self._first(Statement(query, value_of(kind), plain=True), params)

    def execute(self, query: Query, /, *params: Any, **named: Any) -> Coroutine[Any, Any, int]:
        """Run one statement and return how many rows it touched."""
        if self.linting:
            check_call(sys._getframe(1), 0)  # noqa: SLF001 - the documented way to a caller's source
        _, query, params_ = _read((query, *params), named, tuple)
        return self.run(Statement(query, as_tuple, plain=True), params_)

    def copy_in(self, query: Query, rows: Iterable[Any], *, types: Sequence[str] = ()) -> Coroutine[Any, Any, int]:
        """Send chunks of bytes by ``COPY ... FROM STDIN`` and return how many rows that were; with ``types``, rows in binary format."""
        if self.linting:
            check_call(sys._getframe(1), 0)  # noqa: SLF001 - the documented way to a caller's source
        return self.copy(Copy(query, tuple(types)), rows)

    def copy_out(self, query: Query) -> AsyncGenerator[bytes, None]:
        """Yield what ``COPY ... TO STDOUT`` gives, in chunks, in flat memory."""
        if self.linting:
            check_call(sys._getframe(1), 0)  # noqa: SLF001 - the documented way to a caller's source
        return self._copied_out(query)

    async def _copied_out(self, query: Query) -> AsyncGenerator[bytes, None]:
        async with self.held() as link:
            async for chunk in link.copy_out(Statement(query), deadline_now()):
                yield chunk

    @overload
    def stream(self, kind: type[T], query: Query, /, *params: Any, size: int = 500, **named: Any) -> AsyncGenerator[T, None]: ...
    @overload
    def stream(self, query: Query, /, *params: Any, size: int = 500, **named: Any) -> AsyncGenerator[dict[str, Any], None]: ...
    def stream(self, first: Any, /, *params: Any, size: int = 500, **named: Any) -> AsyncGenerator[Any, None]:
        """Yield the rows of a query one by one, fetched ``size`` at a time by a cursor of the server: memory stays flat."""
        if self.linting:
            check_call(sys._getframe(1), _place((first, *params)))  # noqa: SLF001 - the documented way to a caller's source
        kind, query, given = _read((first, *params), named, dict)
        return self.streamed(_statement(query, kind), given, size)

    async def streamed(self, statement: Statement, params: Params, size: int) -> AsyncGenerator[Any, None]:
        """Yield the rows of a statement one by one."""
        natural("size", size, least=1)
        text = statement.text if isinstance(statement.text, str) else statement.text.as_string(None)
        name = f"cliffracer_{next(_numbers)}"
        declare = msgspec.structs.replace(statement, text=f"DECLARE {name} NO SCROLL CURSOR FOR {text}", factory=as_tuple)
        fetch = msgspec.structs.replace(statement, text=f"FETCH {size} FROM {name}")
        async with self.held() as link:
            await link.run(declare, params, deadline_now())
            while True:
                rows = await link.rows(fetch, None, deadline_now())
                for row in rows:
                    yield row
                if len(rows) < size:
                    break
            await link.script(f"CLOSE {name}", deadline_now())

    async def _first(self, statement: Statement, params: Params) -> Any:
        found = await self.rows(statement, params)
        return found[0] if found else None


def _statement(query: Any, kind: Any) -> Statement:
    return Statement(query, factory_of(kind), plain=True)


_SETTLES = re.compile(
    r"([\s;]+|--[^\r\n]*|/\*(?s:.*?)\*/)*+"
    r"(begin|start\s+transaction|(commit|rollback)(?!\s+prepared)|end|abort|savepoint|release|prepare\s+transaction)\b",
    re.IGNORECASE,
)


@lru_cache(maxsize=1024)  # texts are written in the source, so they are few
def _settles(text: str) -> bool:
    """Say whether a statement begins or ends a transaction or a part of one."""
    return _SETTLES.match(text) is not None


def _is_query(given: Any) -> bool:
    return isinstance(given, str) or hasattr(given, "as_bytes")


def _place(args: tuple[Any, ...]) -> int:
    """Return at which place the query is: first, or after the type of its rows."""
    return 0 if args and _is_query(args[0]) else 1


def _read(args: tuple[Any, ...], named: dict[str, Any], kind: Any) -> tuple[Any, Any, Params]:
    rest = list(args)
    if _place(args) and args:
        kind, *rest = args
    if not rest or not _is_query(rest[0]):
        raise SetupError('No query was given. Write db.fetch(User, "select * from users where name = %s", name).')
    query, *params = rest
    if isinstance(query, str) and _settles(query):
        raise SetupError(
            "BEGIN, COMMIT, ROLLBACK and SAVEPOINT are not for SQL of one's own: this connection may not be that of the next statement, "
            "or of a transaction that is open. Write async with db.transaction(): what raises in it is undone, nested it is a savepoint."
        )
    if params and named:
        raise SetupError("A query takes parameters by position (%s) or by name (%(name)s), not both.")
    return kind, query, named or params or None
