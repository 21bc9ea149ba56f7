"""Writes gathered into round trips of a chosen size."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from cliffracer.database.model import Model


class Batch:
    """Rows of any models, stored ``size`` at a time, in the order in which models were first given."""

    def __init__(self, database: Any, size: int) -> None:
        self._database = database
        self._size = size
        self._rows: dict[type[Model], list[Any]] = {}
        self._count = 0
        self.stored = 0

    async def create(self, row: Model) -> None:
        """Take a row; every ``size`` rows they are stored."""
        self._rows.setdefault(type(row), []).append(row)
        self._count += 1
        if self._count >= self._size:
            await self.flush()

    async def flush(self) -> None:
        """Store what is gathered."""
        rows, self._rows = self._rows, {}
        count, self._count = self._count, 0
        for model, given in rows.items():
            await self._database.repository(model).create_many(given)
        self.stored += count


@asynccontextmanager
async def batching(database: Any, size: int) -> AsyncGenerator[Batch, None]:
    """Gather rows in one transaction; the rest is stored at the end of the block.

    Several databases have a transaction each, so that rows may go to all of them. An error undoes all; only if one is lost while they
    are committed, one after the other, is a part kept.
    """
    alone = database.joined() is not None or len(database.shards) == 1
    async with AsyncExitStack() as stack:
        for each in (database,) if alone else database.shards:
            await stack.enter_async_context(each.transaction())
        batch = Batch(database, size)
        yield batch
        await batch.flush()
