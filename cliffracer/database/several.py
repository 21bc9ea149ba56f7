"""Several databases as one."""

from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeVar

from cliffracer.database.database import Database
from cliffracer.database.link import Copy, Link, Params, Statement
from cliffracer.database.model import Model
from cliffracer.database.options import Options
from cliffracer.database.queries import Queries
from cliffracer.database.repository import Repository
from cliffracer.database.scattered import ScatteredRepository
from cliffracer.database.sharded import ShardedTransaction, current, transaction_of
from cliffracer.database.table import Table
from cliffracer.database.transaction import Isolation, Transaction
from cliffracer.errors import SetupError

M = TypeVar("M", bound=Model)


class ShardedDatabase(Database):
    """A `Database` made of several: each row of a sharded model is kept by the one that its `Shard` field chooses.

    What names no row (raw SQL, models without ``__shard__``) goes to the first, or to the one that the transaction belongs to.
    """

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
            if model.__shard__ is None:
                return super().repository(model)
            found = self._repositories[model] = ScatteredRepository(self, model)
        return found

    def joined(self) -> ShardedTransaction | None:
        """Return the transaction that this task has open."""
        return current(self)

    def transaction(self, *, isolation: Isolation | None = None, readonly: bool = False) -> AbstractAsyncContextManager[Transaction]:
        """Open a transaction for this task; its first statement decides on which database."""
        return transaction_of(self, isolation, readonly=readonly)

    async def on(self, place: int) -> Database:
        """Return one of the databases, with this task's transaction on it if there is one."""
        transaction = self.joined()
        if transaction is not None:
            await transaction.bind(place)
        return self._shards[place]

    async def _home(self, table: Table[Any] | None = None) -> Queries:
        if table is not None and table.model.__shard__ is not None:
            name = table.model.__name__
            raise SetupError(f"{name} is kept by several databases: reach it through db.repository({name}).")
        transaction = self.joined()
        if transaction is None:
            return self._shards[0]
        return (await transaction.bind()).database

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
