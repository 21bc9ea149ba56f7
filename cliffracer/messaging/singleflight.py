"""Single flight: concurrent callers share one execution of the same work."""

import asyncio
from collections.abc import Awaitable, Callable


class SingleFlight:
    """Does its work once for all callers that await it at the same time; a caller that is cancelled does not affect the others.

    All get what the work raises. A call after it has ended starts it again; when all callers are cancelled, so is the work.
    """

    __slots__ = ("_round", "_work")

    def __init__(self, work: Callable[[], Awaitable[object]]) -> None:
        self._work = work
        self._round: _Round | None = None

    async def __call__(self) -> None:
        if self._round is None or self._round.over:
            self._round = _Round(self._work)
        await self._round.join()


class _Round:
    """One execution, and how many wait for it."""

    __slots__ = ("_abandoned", "_task", "_waiting")

    def __init__(self, work: Callable[[], Awaitable[object]]) -> None:
        self._waiting = 0
        self._abandoned = False
        self._task = asyncio.ensure_future(work())
        self._task.add_done_callback(_note)

    @property
    def over(self) -> bool:
        """Whether nobody can join it any more: it has ended, or is about to, since nobody waited for it."""
        return self._abandoned or self._task.done()

    async def join(self) -> None:
        self._waiting += 1
        try:
            await asyncio.shield(self._task)
        finally:
            self._waiting -= 1
            if not self._waiting:
                self._abandoned = True
                self._task.cancel()


def _note(done: "asyncio.Future[object]") -> None:
    """Retrieve the outcome, or asyncio would log it: all callers may have been cancelled."""
    if not done.cancelled():
        done.exception()
