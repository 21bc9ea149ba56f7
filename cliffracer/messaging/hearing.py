"""Listening to events as they happen, over core NATS: those that are emitted now, and delayed ones when they are due.

A delayed event goes from the server's schedule into the stream without being published; the stream of delayed events therefore
republishes it under ``cliffracer.came.>`` at that moment (ADR-28), for subscribers on core NATS.
"""

import asyncio

from cliffracer.messaging.bus import Bus, Receive, Subscription
from cliffracer.wire.subjects import Subjects


class Hearing(Subscription):
    """Both subscriptions to a pattern of events, as one."""

    def __init__(self, now: Subscription, due: Subscription) -> None:
        self.subject, self.queue = now.subject, now.queue
        self._both = now, due

    async def drain(self) -> None:
        """End both so that nothing is lost."""
        await asyncio.gather(*(each.drain() for each in self._both))

    async def close(self) -> None:
        """End both at once."""
        now, due = self._both
        try:  # one after the other: the tasks of a `gather` that is cancelled at once never begin
            await now.close()
        finally:
            await due.close()


async def hear(bus: Bus, subjects: Subjects, pattern: str, receive: Receive, *, queue: str = "") -> Hearing:
    """Subscribe to events as they happen; a subject arrives as it was sent, and `Subjects.event_name` reads either kind."""
    now = await bus.subscribe(subjects.event(pattern), receive, queue=queue)
    try:
        return Hearing(now, await bus.subscribe(subjects.came(pattern), receive, queue=queue))
    except BaseException:  # cancelled, or closed: the caller gets nothing that it could end
        await now.close()
        raise
