"""The interface of one connection, as the rest of this folder uses it; nothing here imports psycopg."""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from cliffracer.database.table import Table

Params = Sequence[Any] | Mapping[str, Any] | None
Make = Callable[[Sequence[Any]], Any]
"""Turns a row of values into what the caller gets."""
RowFactory = Callable[[Any], Make]
"""Takes a cursor with a result, and returns the function for its rows."""


def as_tuple(_cursor: Any) -> Make:
    """Rows as tuples."""
    return tuple


class Statement(msgspec.Struct, frozen=True):
    """One statement and what is known about it. Statements that stay the same are made once and kept."""

    text: Any
    """With ``%s`` for parameters: a `str` of ours, or what `psycopg.sql` composed."""
    factory: RowFactory = as_tuple
    table: Table[Any] | None = None
    """Whose constraints name the fields in errors."""
    deleting: bool = False
    plain: bool = False
    """Results in the text format, which every type has; ours are read in the binary one."""


class Copy(msgspec.Struct, frozen=True):
    """A COPY FROM STDIN: its text, and the types of its columns if it is a binary one."""

    text: Any
    types: tuple[str, ...] = ()
    table: Table[Any] | None = None


class Link(ABC):
    """One connection to PostgreSQL: used by one task at a time, in autocommit unless `begin` was called."""

    __slots__ = ("__weakref__", "born", "committed", "idle_since")

    def __init__(self, now: float) -> None:
        self.born = now
        self.committed: Callable[[], None] | None = None
        """Called by `mend` when a COMMIT that nobody waited for any more has succeeded."""
        self.idle_since = now

    @abstractmethod
    async def rows(self, statement: Statement, params: Params, deadline: float | None) -> list[Any]:
        """Run one statement and return its rows, none for one that has no result."""

    @abstractmethod
    async def run(self, statement: Statement, params: Params, deadline: float | None) -> int:
        """Run one statement and return how many rows it touched."""

    @abstractmethod
    async def copy_in(self, copy: Copy, rows: Iterable[Any], deadline: float | None) -> int:
        """Send rows (or chunks of bytes, when the copy names no types) by COPY and return how many were stored."""

    @abstractmethod
    def copy_out(self, statement: Statement, deadline: float | None) -> AsyncGenerator[bytes, None]:
        """Yield what COPY TO STDOUT gives, in chunks."""

    @abstractmethod
    async def script(self, text: str, deadline: float | None) -> None:
        """Run statements without parameters, several at once if need be: our own, never a caller's."""

    @abstractmethod
    async def restore(self) -> None:
        """Undo what a migration has set for the session; what else it left there is removed before another task gets the connection."""

    @abstractmethod
    def listen(self, channel: str) -> AsyncGenerator[str, None]:
        """Yield the payloads of notifications on a channel, until the connection is lost; then it raises."""

    @abstractmethod
    async def commit(self, deadline: float | None) -> None:
        """End the transaction; raises if it was not committed."""

    @abstractmethod
    async def rollback(self, deadline: float | None) -> None:
        """Undo the transaction."""

    @abstractmethod
    def undo(self, savepoint: str) -> None:
        """Roll back to a savepoint, just before the next statement."""

    @abstractmethod
    def broken(self) -> bool:
        """Say whether the open transaction can only be rolled back."""

    @abstractmethod
    def busy(self) -> bool:
        """Say whether a statement is still running that nobody waits for any more."""

    @abstractmethod
    def alive(self) -> bool:
        """Say whether the server is still there, as far as can be told without asking it."""

    @abstractmethod
    def clean(self) -> bool:
        """Say whether the connection may go to another task as it is: nothing running, no transaction open."""

    @abstractmethod
    async def mend(self) -> None:
        """Stop what is still running and roll back what is open; raises if that fails: the connection is of no use then."""

    @abstractmethod
    def close(self) -> None:
        """Close the socket at once."""
