"""The `Database`: a pool of connections, transactions on them, and repositories over them."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, Self, TypeVar

from cliffracer.database.away import is_away, reason
from cliffracer.database.batch import Batch, batching
from cliffracer.database.deadlines import deadline_now
from cliffracer.database.filters import natural
from cliffracer.database.link import Copy, Link, Params, Statement
from cliffracer.database.model import Model
from cliffracer.database.opening import opened
from cliffracer.database.options import Options, options_of
from cliffracer.database.pool import Pool
from cliffracer.database.repository import Repository
from cliffracer.database.retrying import retrying
from cliffracer.database.suspicion import Mode
from cliffracer.database.transaction import Isolation, Transacting, Transaction, innermost, nested, outermost

log = logging.getLogger("cliffracer.database")

M = TypeVar("M", bound=Model)
T = TypeVar("T")


class Database(Transacting):
    """Runs queries on a pooled connection, or in the transaction that this task has open."""

    suspicious: Mode = "log"
    linting: bool = True

    def __init__(self, pool: Pool, options: Options) -> None:
        self.pool = pool
        self.batch_size = options.batch_size
        self.suspicious = options.suspicious
        self.linting = options.linting
        self.relays: list[Any] = []
        """What publishes the outbox in this process."""
        self._repositories: dict[type[Model], Repository[Any]] = {}

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        settings: Any,
        *,
        name: str = "cliffracer",
        wait: float = 0.0,
        smallest: int | None = None,
        largest: int | None = None,
        patience: float | None = None,
    ) -> AsyncGenerator[Self, None]:
        """Connect as settings (or a URL) say, and close at the end of the block.

        A server that is not there is waited for up to ``wait`` seconds, then `Unavailable` names it. The pool keeps
        ``smallest`` to ``largest`` connections, and a call waits ``patience`` seconds for one, or until its deadline.
        """
        given = {"smallest": smallest, "largest": largest, "patience": patience}
        options = options_of(settings, {key: value for key, value in given.items() if value is not None})
        async with AsyncExitStack() as stack:
            pools = [await stack.enter_async_context(opened(url, options, name, wait)) for url in options.urls]
            if len(pools) == 1:
                yield cls(pools[0], options)
            else:
                from cliffracer.database.several import ShardedDatabase  # noqa: PLC0415 - only who has shards needs it

                yield ShardedDatabase([cls(pool, options) for pool in pools], options)  # type: ignore[misc]  # who subclasses has no shards

    @property
    def shards(self) -> tuple["Database", ...]:
        """The databases that this one is made of: itself, or several."""
        return (self,)

    async def on(self, place: int) -> "Database":
        """Return the database at a place among the shards, with this task's transaction on it if there is one."""
        return self.shards[place]

    def repository(self, model: type[M]) -> Repository[M]:
        """Return the repository of a model."""
        found = self._repositories.get(model)
        if found is None:
            found = self._repositories[model] = Repository(self, model)
        return found

    def transaction(self, *, isolation: Isolation | None = None, readonly: bool = False) -> AbstractAsyncContextManager[Transaction]:
        """Open a transaction for this task: ``async with db.transaction():``. Inside another one it is a savepoint."""
        outer = innermost(self)
        if outer is not None:
            return nested(outer, isolation, readonly=readonly)
        return outermost(self, self.pool, isolation, readonly=readonly)

    def joined(self) -> Transaction | None:
        """Return the transaction that this task has open."""
        return innermost(self)

    def batch(self, size: int | None = None) -> AbstractAsyncContextManager[Batch]:
        """Gather rows and store them ``size`` (settings: batch_size) at a time, in one transaction: ``await batch.create(row)``."""
        return batching(self, self.batch_size if size is None else natural("size", size, least=1))

    async def retrying(
        self, function: Callable[..., Awaitable[T]], /, *args: Any, attempts: int = 5, isolation: Isolation | None = None, **kwargs: Any
    ) -> T:
        """Call a function in a transaction, again when concurrent ones got in its way: ``await db.retrying(move, a, b, 10)``.

        Only for functions whose effects are all in the transaction, since they may be called several times.
        """
        return await retrying(self, partial(function, *args, **kwargs), attempts, isolation)

    async def rows(self, statement: Statement, params: Params = None) -> list[Any]:
        """Run one statement and return its rows."""
        deadline = deadline_now()
        transaction = innermost(self)
        if transaction is not None:
            return await transaction.link.rows(statement, params, deadline)
        pool = self.pool
        link = pool.take() or await pool.acquire_before(deadline)
        try:
            return await link.rows(statement, params, deadline)
        finally:
            pool.give(link)

    async def run(self, statement: Statement, params: Params = None) -> int:
        """Run one statement and return how many rows it touched."""
        deadline = deadline_now()
        transaction = innermost(self)
        if transaction is not None:
            return await transaction.link.run(statement, params, deadline)
        pool = self.pool
        link = pool.take() or await pool.acquire_before(deadline)
        try:
            return await link.run(statement, params, deadline)
        finally:
            pool.give(link)

    async def copy(self, copy: Copy, rows: Iterable[Any]) -> int:
        """Send rows by COPY: all or none of them are stored."""
        async with self.link() as link:
            return await link.copy_in(copy, rows, deadline_now())

    @asynccontextmanager
    async def held(self) -> AsyncGenerator[Link, None]:
        """Hold the connection of this task's transaction, or one with a read-only transaction of its own."""
        if innermost(self) is not None:
            async with self.link() as link:
                yield link
            return
        async with self.link() as link:
            await link.script("BEGIN READ ONLY", deadline_now())
            yield link
            await link.commit(deadline_now())

    @asynccontextmanager
    async def link(self) -> AsyncGenerator[Link, None]:
        """Hold the connection of this task's transaction, or one from the pool."""
        transaction = innermost(self)
        if transaction is not None:
            yield transaction.link
            return
        link = self.pool.take() or await self.pool.acquire_before(deadline_now())
        try:
            yield link
        finally:
            self.pool.give(link)

    async def listen(self, channel: str) -> AsyncGenerator[str, None]:
        """Yield what others send by ``NOTIFY`` on a channel, on a connection of its own that is made anew when it is lost.

        What is sent while there is no connection is not delivered: look at the tables after a pause as well.
        """
        pause, told = 0.05, False
        while True:
            link: Link | None = None
            try:
                link = await self.pool.connect()
                if told:
                    log.info("listening on %s goes on", channel)
                pause, told = 0.05, False
                async for payload in link.listen(channel):
                    yield payload
            except Exception as error:  # an interruption is got over, whatever the library calls it; all else is raised
                if not is_away(error):
                    raise
                if not told:  # once, however long it is away
                    log.warning("listening on %s is interrupted: %s", channel, reason(error))
                told = True
            finally:
                if link is not None:
                    link.close()
            await asyncio.sleep(pause)
            pause = min(pause * 2, 1.0)

    def wake_relays(self) -> None:
        """Let the relays of this process look into the outbox now, for what was committed here."""
        for relay in self.relays:
            relay.wake(committed=True)

    def statistics(self) -> dict[str, float]:
        """Return the pool's numbers for health and metrics."""
        return self.pool.statistics()
