"""What many need done at once, done once."""

import asyncio
from collections.abc import Awaitable, Callable


class Together:
    """Awaited by many at the same time, it does its work once, for all of them; one that gives up leaves the others theirs.

    All get what the work raises. Who comes after it has ended has it done anew.
    """

    __slots__ = ("_running", "_work")

    def __init__(self, work: Callable[[], Awaitable[object]]) -> None:
        self._work = work
        self._running: asyncio.Task[None] | None = None

    async def __call__(self) -> None:
        running = self._running
        if running is None or running.done():
            running = self._running = asyncio.create_task(self._once())
            running.add_done_callback(_asked)
        await asyncio.shield(running)

    async def _once(self) -> None:
        await self._work()


def _asked(done: "asyncio.Task[None]") -> None:
    """Take note of how it ended: all who waited may have given up."""
    if not done.cancelled():
        done.exception()
