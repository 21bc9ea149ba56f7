"""Several databases as one: each row of a sharded model is kept by the one that its `Shard` field chooses.

A transaction belongs to one of them, decided by the first row it touches, whatever was emitted before; touching another
one's is refused, since no commit could hold for both. What names no row (raw SQL, models without ``__shard__``) goes to
the first database, or to the one that the transaction belongs to.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from cliffracer.database import outbox
from cliffracer.database.database import Database
from cliffracer.database.failures import aborted
from cliffracer.database.link import Copy, Link, Params, Statement
from cliffracer.database.model import Model
from cliffracer.database.options import Options
from cliffracer.database.repository import Repository
from cliffracer.database.scattered import ScatteredRepository
from cliffracer.database.table import Table
from cliffracer.database.transaction import Isolation, Transaction, innermost, nested_options
from cliffracer.errors import ServiceError, SetupError

M = TypeVar("M", bound=Model)
AWAY = 1.0
"""Seconds after which a database is taken for one that is away."""
Act = Callable[[Transaction], Awaitable[None]]


class ShardedTransaction(Transaction):
    """A transaction on one of several databases; on which, its first statement decides."""

    __slots__ = ("_ahead", "_options", "_stack", "failed", "place", "shard")

    def __init__(self, database: "ShardedDatabase", stack: AsyncExitStack, options: dict[str, Any]) -> None:
        self.database = database
        self.task = asyncio.current_task()
        self.outer = None
        self.open = True
        self.told = False
        self.callbacks = []
        self.place: int | None = None
        self.shard: Transaction | None = None
        self.failed: Exception | None = None
        """Why what was to be done first could not be: nothing of the transaction may be kept."""
        self._stack = stack
        self._options = options
        self._ahead: list[Act] = []
        """What is done, in this order, when it is known on which database: savepoints, marks and events, which go with the rows."""

    async def bind(self, place: int | None = None) -> Transaction:
        """Return the transaction on a database, begun when it is first needed; `SetupError` if it is on another one."""
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
        bound: Transaction = await self._stack.enter_async_context(self.database.shards[place].transaction(**self._options))
        bound.callbacks.extend(self.callbacks)
        self.callbacks = bound.callbacks
        self.place, self.shard = place, bound
        ahead, self._ahead = self._ahead, []
        try:
            for act in ahead:
                await act(innermost(bound.database) or bound)
        except BaseException as error:  # a time-out around the first row, too: what was not done yet would be missing
            self.failed = error if isinstance(error, Exception) else aborted()
            raise
        return bound

    async def _when_bound(self, act: Act) -> None:
        """Do something with the transaction: now, or as soon as it is known on which database it is."""
        self._check()
        if self.shard is None:
            self._ahead.append(act)
        else:
            await act(await self.bind())

    @asynccontextmanager
    async def nested(self, isolation: Isolation | None, *, readonly: bool) -> AsyncGenerator[None, None]:
        """Set a savepoint, now or when it is known on which database."""
        async with AsyncExitStack() as level:

            async def begin(around: Transaction) -> None:
                await level.enter_async_context(around.database.transaction(isolation=isolation, readonly=readonly))

            if self.shard is None and (isolation is not None or readonly):
                raise nested_options()
            before = len(self._ahead)
            await self._when_bound(begin)
            try:
                yield
            except BaseException:  # cancelled, too: nothing of the block stays
                del self._ahead[before:]  # what it emitted is undone with it
                raise
            if begin in self._ahead:
                self._ahead.remove(begin)

    async def finish(self) -> None:
        """Do what was to be done first where no row was touched; raise if it could not be done."""
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
        """Store an event with this transaction, in the outbox of its database, when that is known."""

        async def store(bound: Transaction) -> None:
            await bound.emit(subject, payload, headers, message_id, key)

        await self._when_bound(store)

    @asynccontextmanager
    async def held(self) -> AsyncGenerator[Link, None]:
        """Hold the connection of this transaction."""
        yield (await self.bind()).link


async def _marked(shard: Database, consumer: str, event_ids: Collection[str]) -> set[str]:
    """Return which events a database has the marks of; one that is away is not waited for, rows of the others are served meanwhile."""
    try:
        async with asyncio.timeout(AWAY):
            return await outbox.marked(shard, consumer, event_ids)
    except (TimeoutError, ServiceError):
        return set()


_open: ContextVar[ShardedTransaction | None] = ContextVar("cliffracer_sharded_transaction", default=None)


class ShardedDatabase(Database):
    """A `Database` made of several."""

    def __init__(self, shards: Sequence[Database], options: Options) -> None:
        super().__init__(shards[0].pool, options)
        self._shards = tuple(shards)

    @property
    def shards(self) -> tuple[Database, ...]:
        """The databases that this one is made of."""
        return self._shards

    def shard(self, model: type[Model], value: Any) -> Database:
        """Return the database that keeps a model's rows with this value in the shard field, for SQL of one's own."""
        return self._shards[model.__shard__.place(value, len(self._shards)) if model.__shard__ else 0]

    def repository(self, model: type[M]) -> Repository[M]:
        """Return the repository of a model: over all databases if it is sharded, on the first one otherwise."""
        found = self._repositories.get(model)
        if found is None:
            kind = Repository if model.__shard__ is None else ScatteredRepository
            found = self._repositories[model] = kind(self, model)
        return found

    def joined(self) -> ShardedTransaction | None:
        """Return the transaction that this task has open."""
        found = _open.get()
        mine = found is not None and found.open and found.database is self and found.task is asyncio.current_task()
        return found if mine else None

    def transaction(self, *, isolation: Isolation | None = None, readonly: bool = False) -> AbstractAsyncContextManager[Transaction]:
        """Open a transaction for this task; its first statement decides on which database."""
        return self._transaction(isolation, readonly=readonly)

    @asynccontextmanager
    async def _transaction(self, isolation: Isolation | None, *, readonly: bool) -> AsyncGenerator[Transaction, None]:
        outer = self.joined()
        if outer is not None:
            async with outer.nested(isolation, readonly=readonly):
                yield outer
            return
        before = _open.get()
        async with AsyncExitStack() as stack:
            transaction = ShardedTransaction(self, stack, {"isolation": isolation, "readonly": readonly})
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

    async def on(self, place: int) -> Database:
        """Return one of the databases, with this task's transaction on it if there is one."""
        transaction = self.joined()
        if transaction is not None:
            await transaction.bind(place)
        return self._shards[place]

    async def _home(self, table: Table[Any] | None = None) -> Database:
        if table is not None and table.model.__shard__ is not None:
            name = table.model.__name__
            raise SetupError(f"{name} is kept by several databases: reach it through db.repository({name}).")
        transaction = self.joined()
        if transaction is None:
            return self._shards[0]
        database: Database = (await transaction.bind()).database
        return database

    async def rows(self, statement: Statement, params: Params = None) -> list[Any]:
        """Run one statement, on the first database or the transaction's."""
        return await (await self._home(statement.table)).rows(statement, params)

    async def run(self, statement: Statement, params: Params = None) -> int:
        """Run one statement, on the first database or the transaction's."""
        return await (await self._home(statement.table)).run(statement, params)

    async def copy(self, copy: Copy, rows: Iterable[Any]) -> int:
        """Send rows by COPY, to the first database or the transaction's."""
        return await (await self._home(copy.table)).copy(copy, rows)

    @asynccontextmanager
    async def held(self) -> AsyncGenerator[Link, None]:
        """Hold a connection of the first database, or the transaction's."""
        async with (await self._home()).held() as link:
            yield link

    def wake_relays(self) -> None:
        """Let the relays of this process look into the outboxes now."""
        for shard in self._shards:
            shard.wake_relays()

    def statistics(self) -> dict[str, float]:
        """Return the numbers of all pools together."""
        every = [shard.statistics() for shard in self._shards]
        return {name: sum(each[name] for each in every) for name in every[0]}
