"""A store that may be away: asked within a bound, left alone for a second once it was away, and that is said once."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

from loguru import logger

from cliffracer.caching.entries import Entry, Marks, Store
from cliffracer.errors import CliffracerError, TooLarge, Unavailable

T = TypeVar("T")
PATIENCE = 0.5  # seconds: an answer that takes longer to find may as well be made
REST = 1.0


class Away(Exception):
    """The store cannot be used now; ``theirs``: for this one answer only."""

    def __init__(self, message: str, *, theirs: bool = False) -> None:
        super().__init__(message)
        self.theirs = theirs


class Reached:
    """A store behind a bound; every method raises `Away` where the store's own would fail."""

    def __init__(self, name: str, store: Store) -> None:
        self.name = name
        self._store = store
        self._until = 0.0
        self.away = False

    async def look(self, name: str, tags: Sequence[str]) -> tuple[Entry | None, Marks]:
        """Return what is kept under a name, and how the tags stand now."""
        return await self._asked(lambda: self._store.look(name, tags))

    async def keep(self, name: str, entry: Entry, life: float) -> None:
        """Keep an answer for so many seconds."""
        await self._asked(lambda: self._store.keep(name, entry, life))

    async def forget(self, tags: Iterable[str]) -> None:
        """Make everything with one of these tags good no more."""
        await self._asked(lambda: self._store.forget(tags))

    async def claim(self, name: str, seconds: float) -> bool:
        """Say whether it is us who make an answer."""
        return await self._asked(lambda: self._store.claim(name, seconds))

    async def release(self, name: str) -> None:
        """Let others make it."""
        await self._asked(lambda: self._store.release(name))

    async def tell(self, tags: list[str]) -> None:
        """Forget for certain: with as much patience as the store has, and `Unavailable` where it could not be done."""
        try:
            async with asyncio.timeout(10 * PATIENCE):
                await self._store.forget(tags)
        except (CliffracerError, OSError, TimeoutError) as error:
            raise Unavailable(f"what is kept in {self.name} could not be forgotten", outcome="unknown") from error

    async def _asked(self, work: Callable[[], Awaitable[T]]) -> T:
        if time.monotonic() < self._until:
            raise Away(f"{self.name} was away a moment ago")
        task = asyncio.current_task()
        cancelled = 0 if task is None else task.cancelling()
        try:
            async with asyncio.timeout(PATIENCE):
                result = await work()
        except TooLarge as error:
            raise Away(error.message, theirs=True) from error
        except (CliffracerError, OSError, TimeoutError) as error:
            self._until = time.monotonic() + REST
            if not self.away:
                self.away = True
                logger.bind(error=type(error).__name__).warning("the cache in {} is away: answers are made anew", self.name)
            raise Away(f"{self.name} is away") from error
        if task is not None and task.cancelling() > cancelled:  # redis-py writes through `wait_for`, which loses it on Python 3.11
            raise asyncio.CancelledError
        if self.away:
            self.away = False
            logger.bind(store=self.name).info("the cache in {} is back", self.name)
        return result
