"""Transactions where there are several databases: each belongs to one, decided by the first row that it touches.

What was emitted before that goes with it. Rows of another database are refused, since no commit could hold for both.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from contextvars import ContextVar
from typing import Any

from cliffracer.database import outbox
from cliffracer.database.failures import aborted
from cliffracer.database.link import Copy, Link, Params, Statement
from cliffracer.database.queries import Queries
from cliffracer.database.transaction import Isolation, Transacting, Transaction, innermost, nested_options
from cliffracer.errors import ServiceError, SetupError

AWAY = 1.0
"""Seconds after which a database that does not answer is taken to be away."""
Act = Callable[[Transaction], Awaitable[None]]


class ShardedTransaction(Transaction):
    """A transaction on one of several databases: the one that its first statement touches."""

    __slots__ = ("_ahead", "_options", "_stack", "failed", "place", "shard")

    def __init__(self, database: Transacting, stack: AsyncExitStack, options: dict[str, Any]) -> None:
        self.database = database
        self.task = asyncio.current_task()
        self.outer = None
        self.open = True
        self.told = False
        self.callbacks = []
        self.place: int | None = None
        self.shard: Transaction | None = None
        self.failed: Exception | None = None
        """Why one of the actions in ``_ahead`` failed: nothing of the transaction may be kept."""
        self._stack = stack
        self._options = options
        self._ahead: list[Act] = []
        """Savepoints, marks and events that are applied, in this order, once it is known which database has the rows."""

    async def bind(self, place: int | None = None) -> Transaction:
        """Return the transaction on a database, begun if there is none yet; `SetupError` if it is on another one."""
        self._check()
        if self.failed is not None:
            raise self.failed
        bound = self.shard or await self._begin(place or 0)
        if place is not None and place != self.place:
            raise SetupError(
                f"This transaction is on database {self.place}, and the row is kept by database {place}: no transaction spans two. "
                "Touch rows of one shard only, or split the work and couple the parts by an event."
            )
        return innermost(bound.database) or bound

    async def _begin(self, place: int) -> Transaction:
        bound = await self._stack.enter_async_context(self.database.shards[place].transaction(**self._options))
        bound.callbacks.extend(self.callbacks)
        self.callbacks = bound.callbacks
        self.place, self.shard = place, bound
        ahead, self._ahead = self._ahead, []
        try:
            for act in ahead:
                await act(innermost(bound.database) or bound)
        except BaseException as error:  # a time-out too: what was not applied yet would be missing
            self.failed = error if isinstance(error, Exception) else aborted()
            raise
        return bound

    async def _when_bound(self, act: Act) -> None:
        """Apply something to the transaction: now, or as soon as its database is known."""
        self._check()
        if self.shard is None:
            self._ahead.append(act)
        else:
            await act(await self.bind())

    @asynccontextmanager
    async def nested(self, isolation: Isolation | None, *, readonly: bool) -> AsyncGenerator[None, None]:
        """Set a savepoint, now or as soon as the database is known."""
        async with AsyncExitStack() as level:

            async def begin(around: Transaction) -> None:
                await level.enter_async_context(around.database.transaction(isolation=isolation, readonly=readonly))

            if self.shard is None and (isolation is not None or readonly):
                raise nested_options()
            before, waiting = len(self._ahead), len(self.callbacks)
            await self._when_bound(begin)
            try:
                yield
            except BaseException:  # cancelled, too: nothing of the block stays
                del self._ahead[before:]  # what it emitted is undone with it
                del self.callbacks[waiting:]
                raise
            if begin in self._ahead:
                self._ahead.remove(begin)

    async def finish(self) -> None:
        """Apply what is still waiting if no row was touched; raise if it could not be applied."""
        if self.failed is not None:
            raise self.failed
        if self._ahead:
            await self.bind()

    async def first_time(self, consumer: str, event_id: str) -> bool:
        """Say whether no database has the mark of an event; it is kept by the one whose rows are touched, with the transaction.

        Where that one has it by then (the event was delivered twice at once), `outbox.Handled` ends the transaction.
        """
        if await self.marked(consumer, [event_id]):
            return False

        async def mark(bound: Transaction) -> None:
            if not await bound.first_time(consumer, event_id):
                raise outbox.Handled("the event was handled by somebody else meanwhile")

        await self._when_bound(mark)
        return True

    async def marked(self, consumer: str, event_ids: Collection[str]) -> set[str]:
        """Return those of some events that any database has the mark of."""
        return set().union(*await asyncio.gather(*(_marked(shard, consumer, event_ids) for shard in self.database.shards)))

    async def mark_each(self, consumer: str, event_ids: Collection[str]) -> None:
        """Keep the marks of several events with the transaction, as `first_time` does with that of one."""

        async def mark(bound: Transaction) -> None:
            await bound.mark_each(consumer, event_ids)

        await self._when_bound(mark)

    async def rows(self, statement: Statement, params: Params = None) -> list[Any]:
        """Run one statement in this transaction and return its rows."""
        return await (await self.bind()).rows(statement, params)

    async def run(self, statement: Statement, params: Params = None) -> int:
        """Run one statement in this transaction and return how many rows it touched."""
        return await (await self.bind()).run(statement, params)

    async def copy(self, copy: Copy, rows: Iterable[Any]) -> int:
        """Send rows by COPY in this transaction."""
        return await (await self.bind()).copy(copy, rows)

    async def emit(self, subject: str, payload: bytes, headers: dict[str, str], message_id: str, key: str | None = None) -> None:
        """Store an event with this transaction, in the outbox of its database, as soon as that is known."""

        async def store(bound: Transaction) -> None:
            await bound.emit(subject, payload, headers, message_id, key)

        await self._when_bound(store)

    @asynccontextmanager
    async def held(self) -> AsyncGenerator[Link, None]:
        """Hold the connection of this transaction."""
        yield (await self.bind()).link


async def _marked(shard: Queries, consumer: str, event_ids: Collection[str]) -> set[str]:
    """Return which events a database has marks of; none if it is away, so that rows of the others can still be served."""
    try:
        async with asyncio.timeout(AWAY):
            return await outbox.marked(shard, consumer, event_ids)
    except (TimeoutError, ServiceError):
        return set()


_open: ContextVar[ShardedTransaction | None] = ContextVar("cliffracer_sharded_transaction", default=None)


def current(database: Transacting) -> ShardedTransaction | None:
    """Return the transaction that this task has open on these databases; None without one."""
    found = _open.get()
    mine = found is not None and found.open and found.database is database and found.task is asyncio.current_task()
    return found if mine else None


@asynccontextmanager
async def transaction_of(database: Transacting, isolation: Isolation | None, *, readonly: bool) -> AsyncGenerator[Transaction, None]:
    """Open a transaction for this task, or a savepoint in the one that it has open; the first statement decides on which database."""
    outer = current(database)
    if outer is not None:
        async with outer.nested(isolation, readonly=readonly):
            yield outer
        return
    before = _open.get()
    async with AsyncExitStack() as stack:
        transaction = ShardedTransaction(database, stack, {"isolation": isolation, "readonly": readonly})
        _open.set(transaction)
        try:
            yield transaction
            await transaction.finish()
        finally:
            if _open.get() is transaction:
                _open.set(before)
            transaction.open = False
    if transaction.shard is None:
        await transaction.done()  # nothing was stored, and that is all that there was to commit
