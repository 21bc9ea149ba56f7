"""Single flight: what many need done at once, done once for all of them."""

import asyncio
from collections.abc import Awaitable, Callable


class SingleFlight:
    """Awaited by many at the same time, it does its work once, for all of them; one that gives up leaves the others theirs.

    All get what the work raises. Who comes after it has ended has it done anew; when all have given up, it is given up.
    """

    __slots__ = ("_round", "_work")

    def __init__(self, work: Callable[[], Awaitable[object]]) -> None:
        self._work = work
        self._round: _Round | None = None

    async def __call__(self) -> None:
        if self._round is None or self._round.task.done():
            self._round = _Round(self._work)
        await self._round.join()


class _Round:
    """The work as it is being done, and how many wait for it."""

    __slots__ = ("_waiting", "task")

    def __init__(self, work: Callable[[], Awaitable[object]]) -> None:
        self._waiting = 0
        self.task = asyncio.ensure_future(work())
        self.task.add_done_callback(_note)

    async def join(self) -> None:
        self._waiting += 1
        try:
            await asyncio.shield(self.task)
        finally:
            self._waiting -= 1
            if not self._waiting:
                self.task.cancel()


def _note(done: "asyncio.Future[object]") -> None:
    """Take note of how it ended: all who waited may have given up."""
    if not done.cancelled():
        done.exception()
