"""A clock that a test can move, so that it need not wait until tomorrow."""

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
        """Seconds by which it has been moved in all."""
        self._moves: list[tuple[float, float]] = []
        """(time of the system's clock in whole milliseconds, seconds) of each move."""
        self._moved = asyncio.Event()

    def now(self) -> float:
        """Return POSIX time by this clock."""
        return super().now() + self.ahead

    def advance(self, by: float | str | timedelta) -> "_Moved":
        """Move time forward: what is due by then is started. Awaiting it lets it begin; `Running.settled` waits until it is done."""
        self.ahead += seconds(by)
        self._moves.append((int(super().now() * 1000) / 1000, seconds(by)))
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()
        return _Moved()

    def past(self, since: float, due: float) -> bool:
        """Say whether a time ``due`` has come that was set at ``since`` by the system's clock, in milliseconds as in headers."""
        return due <= super().now() + sum(by for at, by in self._moves if at >= since)

    async def pause(self, seconds: float) -> None:
        """Return when this clock has gone on by some seconds."""
        await self.until(self.now() + seconds)

    async def nap(self, seconds: float) -> None:
        """Sleep for some seconds, or until the clock is moved."""
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
