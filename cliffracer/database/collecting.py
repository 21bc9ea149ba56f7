"""Joins reads of single rows that concurrent calls make at the same moment into one query."""

import asyncio
from typing import Any, Generic, TypeVar
from uuid import UUID

from cliffracer.context import Context, current
from cliffracer.database.filters import natural
from cliffracer.database.model import Model
from cliffracer.errors import DeadlineExceeded, NotFound

T = TypeVar("T", bound=Model)


class Collector(Generic[T]):
    """``get`` for rows that many calls want at once: those asked for in one turn of the event loop cost one query.

    In a transaction, which other tasks' reads must not join, each get is a query of its own.
    """

    def __init__(self, repository: Any, *, size: int = 100) -> None:
        self._repository = repository
        self._size = natural("size", size, least=1)
        self._waiting: dict[UUID, list[asyncio.Future[T]]] = {}
        self._deadlines: list[float | None] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def get(self, key: UUID | str) -> T:
        """Return the row with this id, or raise `NotFound`."""
        if self._repository.in_transaction():
            found: T = await self._repository.get(key)
            return found
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._send)
        self._waiting.setdefault(self._repository.key(key), []).append(future)
        context = current.get()
        self._deadlines.append(None if context is None else context.deadline)
        if len(self._waiting) >= self._size:
            self._send()
        remaining = None if context is None else context.remaining()
        try:
            async with asyncio.timeout(remaining):
                return await future
        except TimeoutError:
            raise DeadlineExceeded("the database did not answer in time") from None

    async def get_many(self, keys: list[UUID]) -> list[T]:
        """Return the rows with these ids, in their order."""
        return list(await asyncio.gather(*(self.get(key) for key in keys)))

    def _send(self) -> None:
        waiting, self._waiting = self._waiting, {}
        deadlines, self._deadlines = self._deadlines, []
        if waiting:
            # The query belongs to no call: one that is cancelled or late must not take the others' rows with it.
            latest = None if None in deadlines else max(each for each in deadlines if each is not None)
            task = asyncio.get_running_loop().create_task(self._fetch(waiting, latest))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _fetch(self, waiting: dict[UUID, list[asyncio.Future[T]]], deadline: float | None) -> None:
        current.set(Context(deadline=deadline))
        try:
            rows = {row.id: row for row in await self._repository.find(id__in=list(waiting))}
        except Exception as error:  # noqa: BLE001 - it is raised again, in every call that waits
            for future in (future for futures in waiting.values() for future in futures if not future.done()):
                future.set_exception(error)
            return
        for key, futures in waiting.items():
            for future in futures:
                if future.done():
                    continue
                if key in rows:
                    future.set_result(rows[key])
                else:
                    future.set_exception(NotFound(f"no {self._repository.model.__name__} {key}"))
