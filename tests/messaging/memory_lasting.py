"""Locks, leaders and timers in this process, for the backend of `tests.messaging.memory`."""

import asyncio
import time
from typing import Any, Self

from cliffracer.errors import Unavailable
from cliffracer.messaging.plans import Plan, Run, attempt


class MemoryMutex:
    """What all locks of one name share."""

    def __init__(self) -> None:
        self.free = asyncio.Lock()
        self.token = 0


class MemoryLock:
    """A lock."""

    def __init__(self, mutex: MemoryMutex, name: str, ttl: float, wait: float | None) -> None:
        if not 0 < len(name) <= 256:
            raise ValueError(f"{name[:80]!r} is no name of a lock: 1 to 256 characters")
        if ttl <= 0:
            raise ValueError(f"ttl={ttl:g} is no time to hold a lock for")
        self.token = 0
        self._mutex, self._name, self._wait = mutex, name, wait

    async def __aenter__(self) -> Self:
        try:
            async with asyncio.timeout(self._wait):
                await self._mutex.free.acquire()
        except TimeoutError:
            raise Unavailable(f"lock {self._name} is held by somebody else", reason="held") from None
        self._mutex.token += 1
        self.token = self._mutex.token
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object, /) -> None:
        self._mutex.free.release()


class MemoryLeader:
    """A leader."""

    def __init__(self, lock: MemoryLock, name: str, run: Run) -> None:
        self.name, self.leading = name, False
        self._lock, self._run = lock, run
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._stand())

    async def drain(self, seconds: float) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task], timeout=max(1.0, seconds))

    async def _stand(self) -> None:
        async with self._lock:
            self.leading = True
            try:
                await self._run()
            finally:
                self.leading = False


class MemoryTicks:
    """What all replicas of one timer share."""

    def __init__(self) -> None:
        self.done = time.time()
        self.running = asyncio.Lock()


class MemoryTimer:
    """A timer."""

    def __init__(self, ticks: MemoryTicks, name: str, plan: Plan, run: Run) -> None:
        self.name = name
        self._ticks, self._plan, self._run = ticks, plan, run
        self._task: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()

    @property
    def following(self) -> float:
        return self._plan.after(time.time())

    async def due(self) -> bool:
        return self._ticks.running.locked() or self._plan.after(self._ticks.done) <= time.time()

    async def start(self) -> None:
        self._task = asyncio.create_task(self._tick())

    async def drain(self, seconds: float) -> None:
        self._stopping.set()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=seconds)
            self._task.cancel()

    async def _tick(self) -> None:
        while not self._stopping.is_set():
            async with self._ticks.running:
                now = time.time()
                if not self._stopping.is_set() and self._plan.after(self._ticks.done) <= now:
                    self._ticks.done = self._plan.until(now)
                    await attempt(self.name, self._run)
            await _either(self._stopping, self._plan.after(time.time()) - time.time())


async def _either(event: asyncio.Event, seconds: float) -> Any:
    try:
        async with asyncio.timeout(max(0.001, min(seconds, 60.0))):
            await event.wait()
    except TimeoutError:
        return
