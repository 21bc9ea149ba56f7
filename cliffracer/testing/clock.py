"""A clock that a test moves, so that it need not wait for what is due tomorrow."""

import asyncio
from collections.abc import Generator
from datetime import timedelta
from typing import Any

from cliffracer.clock import Clock
from cliffracer.durations import seconds


class MovableClock(Clock):
    """Goes on like the system's clock, ahead of it by as much as it was moved: ``await t.clock.advance("1h")``."""

    movable = True

    def __init__(self) -> None:
        self.ahead = 0.0
        """Seconds by which it was moved in all."""
        self._moves: list[tuple[float, float]] = []
        """When, by the system's clock in whole milliseconds, it was moved, and by how much."""
        self._moved = asyncio.Event()

    def now(self) -> float:
        """Return POSIX time as this clock has it."""
        return super().now() + self.ahead

    def advance(self, by: float | str | timedelta) -> "_Moved":
        """Move time forward: what is due by then is started. Awaiting it lets it begin; `Running.settled` waits until it is done."""
        self.ahead += seconds(by)
        self._moves.append((int(super().now() * 1000) / 1000, seconds(by)))
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()
        return _Moved()

    def past(self, since: float, due: float) -> bool:
        """Say whether a time has come that the system's clock set for later, at ``since``, as headers have it: in milliseconds."""
        return due <= super().now() + sum(by for at, by in self._moves if at >= since)

    async def pause(self, seconds: float) -> None:
        """Return when this clock has gone on by some seconds."""
        await self.until(self.now() + seconds)

    async def nap(self, seconds: float) -> None:
        """Wait so long, or until the clock is moved."""
        try:
            async with asyncio.timeout(seconds):
                await self._moved.wait()
        except TimeoutError:
            return


class _Moved:
    def __await__(self) -> Generator[Any, None, None]:
        for _ in range(5):  # turns of the loop, so that whoever waited for the clock has gone on
            yield from asyncio.sleep(0).__await__()
        yield from asyncio.sleep(0.002).__await__()  # so that what is emitted next has another millisecond, see `MovableClock.past`
