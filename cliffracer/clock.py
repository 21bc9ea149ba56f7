"""The clock for timers, retries and times to live; a test can move it."""

import asyncio
import time

LONGEST_NAP = 30.0  # seconds; the system's clock may be set meanwhile


class Clock:
    """The system's clock."""

    movable = False

    def now(self) -> float:
        """Return POSIX time."""
        return time.time()

    async def until(self, moment: float) -> None:
        """Return when a moment has come, also if the clock is set meanwhile."""
        while (wait := moment - self.now()) > 0:
            await self.nap(min(wait, LONGEST_NAP))

    async def pause(self, seconds: float) -> None:
        """Return after some seconds, however the clock is set meanwhile."""
        await asyncio.sleep(seconds)

    async def nap(self, seconds: float) -> None:
        """Sleep for some seconds, or until the clock is moved."""
        await asyncio.sleep(seconds)


SYSTEM = Clock()
