"""Waiting, looking into the server, and calls with a deadline."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from cliffracer.context import Context, current


@contextmanager
def calling(seconds: float | None) -> Iterator[Context]:
    """Be inside a call that has so many seconds left."""
    context = Context(deadline=None if seconds is None else time.monotonic() + seconds)
    token = current.set(context)
    try:
        yield context
    finally:
        current.reset(token)


class Eye:
    """A connection of the test's own, which sees what the server is doing."""

    def __init__(self, url: str) -> None:
        self.url = url

    async def ask(self, query: str, *params: Any) -> list[tuple[Any, ...]]:
        """Run a query and return its rows."""
        async with await psycopg.AsyncConnection.connect(self.url, autocommit=True) as connection:
            cursor = await connection.execute(query, params or None)
            return await cursor.fetchall() if cursor.description else []

    async def running(self, part: str) -> int:
        """Return how many backends run a statement that contains a text."""
        query = "select count(*) from pg_stat_activity where state = 'active' and query like %s and pid <> pg_backend_pid()"
        return (await self.ask(query, f"%{part}%"))[0][0]

    async def in_transaction(self) -> int:
        """Return how many backends have a transaction open."""
        query = "select count(*) from pg_stat_activity where state like 'idle in transaction%' and datname = current_database()"
        return (await self.ask(query))[0][0]
