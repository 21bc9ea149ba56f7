"""What ``app.events(...)`` yields: all readers of a pattern share one subscription, and each event is checked once for all of them."""

import asyncio
from collections.abc import AsyncIterator, Callable, Generator
from contextvars import Context
from functools import lru_cache
from typing import Any

from cliffracer.backlog import Backlog
from cliffracer.errors import InvalidInput, NotFound, Overloaded
from cliffracer.events import Received
from cliffracer.messaging.bus import Bus, Subscription, closed
from cliffracer.messaging.claimcheck import ClaimCheck, is_claim
from cliffracer.messaging.fanout import SLICE
from cliffracer.messaging.hearing import hear
from cliffracer.messaging.jetstream import JetStream
from cliffracer.messaging.received import received_from
from cliffracer.wire.codecs import Decoder
from cliffracer.wire.shared import is_fixed, share
from cliffracer.wire.subjects import Subjects

LIMIT = 1000
"""Events that may wait for a reader that does not get on; see `Backlog`."""

_CLOSED = -1  # missed by a reader whose connection is closed: all that follows


class Reading:
    """How events are read as one type."""

    __slots__ = ("decoder", "fixed")

    def __init__(self, data: Any) -> None:
        self.decoder: Decoder[Any] = Decoder(data)
        self.fixed = is_fixed(data)


class Arrived:
    """One event off the wire; what its readers have in common is made once."""

    __slots__ = ("_payload", "_reading", "_redeemed", "_seen", "block", "claimed", "size", "subject")

    def __init__(self, subject: bytes, block: bytes | None, payload: bytes) -> None:
        self.subject = subject
        self.block = block
        self.claimed = not payload and is_claim(block)
        """Whether the payload is elsewhere, for its size."""
        self.size = len(payload) + len(block or b"")
        self._payload = payload
        self._redeemed: asyncio.Task[bytes] | None = None
        self._reading: Reading | None = None
        self._seen: Received[Any] | None = None

    async def redeem(self, claims: ClaimCheck) -> None:
        """Fetch the payload, once for all readers; one that is gone leaves an event that nobody can read."""
        if self._redeemed is None:
            self._redeemed = asyncio.create_task(self._fetch(claims), name="event payload")
        self._payload = await asyncio.shield(self._redeemed)

    async def _fetch(self, claims: ClaimCheck) -> bytes:
        try:
            return await claims.redeem(self.block)
        except NotFound:
            return b""

    def event(self, reading: Reading, subjects: Subjects) -> Received[Any] | None:
        """Return the event for one reader, its data its own unless nobody can change it; None if it does not fit."""
        if reading is not self._reading:  # the readers of a pattern almost always want the same
            self._seen = self._read(reading.decoder, subjects)
            self._reading = reading
        if self._seen is None:
            return None
        event: Received[Any] = self._seen.__copy__()  # type: ignore[attr-defined]  # as every Struct has; `copy` costs four times that
        if reading.fixed:
            share(event.data)
        else:
            event.data = reading.decoder.again(self._payload)
        return event

    def _read(self, decoder: Decoder[Any], subjects: Subjects) -> Received[Any] | None:
        try:
            return received_from(subjects, self.subject, self.block, decoder.decode(self._payload))
        except InvalidInput:
            return None  # not of this type: the durable handlers park it, a feed of another type has no use for it


class Reader:
    """One reader of a feed, with what waits for it. Awaiting it means to sleep until there is something, and returns that.

    It is a future to asyncio (PEP 3156: ``_asyncio_future_blocking``, ``add_done_callback``, ``result``, ``cancel``), one that
    is used again for each event: a new one each time, and a turn through the loop, cost as much as all the rest of a small event.
    """

    __slots__ = ("_asyncio_future_blocking", "_callback", "_cancelled", "_context", "_feed", "_first", "_loop", "missed", "others")

    def __init__(self, feed: "_Feed") -> None:
        self.missed = 0
        self.others: Backlog[Arrived] | None = None
        """What came while it did not sleep, to be taken before it is awaited again; None if there is nothing."""
        self._first: Arrived | None = None  # what it is woken for
        self._feed = feed
        self._loop = asyncio.get_running_loop()
        self._asyncio_future_blocking = False
        self._cancelled = False
        self._callback: Callable[[Reader], object] | None = None
        self._context: Context | None = None

    def take(self, arrived: Arrived) -> None:
        """Queue an event, or count it and all that follow as missed."""
        if self._callback is not None and self._first is None and self.others is None:
            self._first = arrived
        elif self.missed:
            self.missed += 1
        else:
            if self.others is None:
                self.others = Backlog(LIMIT)
            if not self.others.add(arrived, arrived.size):
                self.missed = 1

    def pop(self) -> Arrived:
        """Return what has waited longest of the ``others``."""
        assert self.others is not None  # its caller has looked
        found = self.others.take()
        if not self.others:
            self.others = None
        return found

    def __await__(self) -> Generator["Reader", None, Arrived | None]:
        self._asyncio_future_blocking = True
        self._feed.asleep.append(self)
        yield self
        found, self._first = self._first, None
        return found

    def wake(self) -> None:
        """Have the reader's task go on, here and now; no task may be running."""
        callback, context = self._callback, self._context
        if callback is not None and context is not None:
            self._callback = None
            context.run(callback, self)

    def add_done_callback(self, callback: Callable[["Reader"], object], *, context: Context) -> None:
        """Note how the task is woken; an event, or the end, may have come between its going to sleep and this."""
        self._callback, self._context = callback, context
        if self.others is not None or self.missed:
            self._loop.call_soon(self.wake)

    def cancel(self, msg: object = None) -> bool:  # noqa: ARG002 - what a future takes
        """Wake the task with `CancelledError`."""
        if self._callback is None:
            return False
        self._cancelled = True
        callback, self._callback = self._callback, None
        self._loop.call_soon(callback, self, context=self._context)
        return True

    def result(self) -> None:
        """Return nothing: who awaits has what came."""
        if self._cancelled:
            self._cancelled = False
            raise asyncio.CancelledError


class _Feed:
    """All readers of one pattern."""

    __slots__ = ("_due", "_loop", "_rousing", "asleep", "door", "known", "readers", "subscription")

    def __init__(self) -> None:
        self.door = asyncio.Lock()
        self.readers: dict[Reader, None] = {}
        self.asleep: list[Reader] = []
        self.subscription: Subscription | None = None
        self.known = False
        """Whether the server knows of it for sure."""
        self._rousing: list[Reader] = []
        self._due = False
        self._loop = asyncio.get_running_loop()

    def receive(self, subject: bytes, _reply: bytes, block: bytes | None, payload: bytes) -> None:
        """Hand an event to every reader, and wake those who sleep."""
        arrived = Arrived(subject, block, payload)
        for reader in self.readers:
            reader.take(arrived)
        self._rouse()

    def end(self) -> None:
        """Have every reader raise once it has taken what waits for it: the connection is closed."""
        self.subscription = None  # who joins from here on finds that out
        for reader in self.readers:
            reader.missed = reader.missed or _CLOSED
        self._rouse()

    def forget(self) -> None:
        """Drop what has come to those who wait until the feed has begun."""
        for reader in self.readers:
            reader.others, reader.missed = None, 0

    def leave(self, reader: Reader) -> None:
        """Forget a reader, now and then also where it slept."""
        del self.readers[reader]
        if len(self.asleep) > 2 * len(self.readers) + SLICE:
            self.asleep = [one for one in self.asleep if one in self.readers]

    def _rouse(self) -> None:
        """See that those who sleep now are woken."""
        self._rousing += self.asleep
        self.asleep.clear()
        if not self._due:
            self._due = True
            self._loop.call_soon(self._wake)

    def _wake(self) -> None:
        """Wake some, and the others in turns of the loop that follow: what they do is done, and others run, in between."""
        rousing = self._rousing
        self._due = len(rousing) > SLICE
        if self._due:
            self._loop.call_soon(self._wake)
        for _ in range(min(SLICE, len(rousing))):
            rousing.pop().wake()


class Feeds:
    """The feeds of one connection."""

    def __init__(self, bus: Bus, subjects: Subjects) -> None:
        self._bus = bus
        self._subjects = subjects
        self._claims = ClaimCheck(JetStream(bus), subjects.namespace)
        self._feeds: dict[str, _Feed] = {}
        bus.closed.add(self._over)

    async def read(self, pattern: str, data: Any) -> AsyncIterator[Received[Any]]:
        """Yield events from now on; `Overloaded` for a reader too far behind (see `Backlog`), `Unavailable` after the connection."""
        feed = self._feeds.setdefault(pattern, _Feed())
        reading, reader = reading_of(data), Reader(feed)
        feed.readers[reader] = None
        try:
            await self._begin(feed, pattern)
            while True:
                if reader.others is not None:
                    arrived = reader.pop()
                elif reader.missed:
                    if reader.missed == _CLOSED:
                        raise closed()
                    raise Overloaded(f"the reader of {pattern} fell too far behind; {reader.missed} events were missed")
                elif (found := await reader) is not None:
                    arrived = found
                else:  # it was woken for the others
                    continue
                if arrived.claimed:
                    await arrived.redeem(self._claims)
                event = arrived.event(reading, self._subjects)
                if event is not None:
                    yield event
        finally:
            feed.leave(reader)
            await self._end(feed, pattern)

    def _over(self) -> None:
        for feed in self._feeds.values():
            feed.end()

    async def _begin(self, feed: _Feed, pattern: str) -> None:
        async with feed.door:
            if feed.subscription is None:
                try:
                    feed.subscription = await hear(self._bus, self._subjects, pattern, feed.receive)
                except BaseException:  # away, or the reader left: the next one begins anew, with what comes from then on
                    if not feed.known:
                        feed.forget()
                    raise
            if not feed.known:  # whoever began it may have left meanwhile: what it began goes on, or there would be a gap
                await self._bus.flush()
                feed.known = True

    async def _end(self, feed: _Feed, pattern: str) -> None:
        if feed.readers:  # who begins is one of them
            return
        if self._feeds.get(pattern) is feed:
            del self._feeds[pattern]
        subscription, feed.subscription = feed.subscription, None
        if subscription is not None:
            await subscription.close()


@lru_cache(maxsize=1024)
def _cached(data: Any) -> Reading:
    return Reading(data)


def reading_of(data: Any) -> Reading:
    """Return how events are read as a type, the same for all readers."""
    try:
        return _cached(data)
    except TypeError:  # an annotation that cannot be hashed
        return Reading(data)
