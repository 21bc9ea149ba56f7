"""Limits how many calls of one handler run at once, and how many may wait."""

import asyncio
from collections import deque

from cliffracer.errors import Overloaded

QUEUE_PER_PLACE = 10
SMOOTHING = 0.1


class Gate:
    """Admits calls up to ``limit`` running plus a bounded queue; every admitted call leaves exactly once.

    `admit` is synchronous, so that a burst is refused before anything is made for it; `enter` waits for a place.
    """

    __slots__ = ("admitted", "average", "capacity", "free", "limit", "refused", "waiting")

    def __init__(self, limit: int, queue: int | None = None) -> None:
        self.limit = self.free = limit
        self.capacity = limit + (limit * QUEUE_PER_PLACE if queue is None else queue)
        self.admitted = 0
        self.refused = 0
        self.average = 0.0
        """Smoothed duration of a call in seconds, for predicting the wait of queued ones."""
        self.waiting: deque[asyncio.Future[None]] = deque()

    def admit(self, remaining: float | None) -> None:
        """Count a call in; `Overloaded` if the queue is full, or too long for the caller's remaining time.

        While ``admitted`` is below ``limit`` it can be counted up without asking.
        """
        queued = self.admitted - self.limit
        if queued >= 0 and (self.admitted >= self.capacity or (remaining is not None and self.predicted(queued) > remaining)):
            self.refused += 1
            wait = max(0.05, round(self.predicted(queued), 3))
            raise Overloaded(f"as many calls run as may ({self.limit}), and {queued} wait for a place", retry_after=wait)
        self.admitted += 1

    def predicted(self, queued: int) -> float:
        """Return the predicted wait in seconds of a call behind ``queued`` others."""
        return (queued + 1) * self.average / self.limit

    async def enter(self) -> None:
        """Take a place, waiting for one in order of arrival."""
        if self.free > 0 and not self.waiting:
            self.free -= 1
            return
        place = asyncio.get_running_loop().create_future()
        self.waiting.append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self.pass_on()  # it was given at the same moment: the next in line has it
            elif place in self.waiting:  # else whoever passed a place on has passed over this one
                self.waiting.remove(place)
            raise

    def leave(self, seconds: float | None, *, entered: bool = True) -> None:
        """Count out a call after so many seconds and pass its place, if it had one, to the next in line; None if it did no work."""
        self.admitted -= 1
        if not entered:
            return
        if seconds is not None:
            self.average += (seconds - self.average) * SMOOTHING
        if self.waiting:
            self.pass_on()
        else:
            self.free += 1

    def pass_on(self) -> None:
        """Give a free place to the first call that is still waiting."""
        while self.waiting:
            place = self.waiting.popleft()
            if not place.done():
                place.set_result(None)
                return
        self.free += 1
