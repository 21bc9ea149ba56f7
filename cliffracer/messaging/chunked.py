"""The receiving end of a stream (`chunks` is the sending end): receives its messages and re-opens the sender's window."""

import asyncio
import time
from contextlib import suppress

from cliffracer.errors import DeadlineExceeded, Internal, Unavailable
from cliffracer.messaging.bus import Bus, closed
from cliffracer.wire.calls import WINDOW, is_gone, read_chunk
from cliffracer.wire.subjects import is_inbox

RENEWED = 30.0
"""Seconds after which both ends of a stream use a new inbox: with ``allow_responses``, NATS lets a service reply
only for a limited time."""
PROBE = 5.0
"""Seconds of silence after which either end checks that the other is there and has missed nothing."""
IDLE = 60.0
"""Seconds of silence after which a stream without a deadline is given up."""
Message = tuple[bytes | None, bytes]
"""(header block, payload)."""


class Chunked:
    """Receives one stream, in order, in an inbox that is replaced now and then."""

    __slots__ = ("_arrived", "_bus", "_fresh", "_inboxes", "_name", "_opened", "_received", "_sender", "subject")

    def __init__(self, bus: Bus, name: str) -> None:
        self._bus = bus
        self._name = name
        self._received = 0
        self._arrived: asyncio.Queue[Message | None] = asyncio.Queue()  # None: the connection is closed
        self._inboxes = [bus.inbox(self._take)]
        self.subject = self._inboxes[0].subject
        """The first inbox, by which the sender knows the call."""
        self._sender = b""
        self._opened = WINDOW  # the last chunk that the sender may send
        self._fresh = time.monotonic()
        bus.closed.add(self._over)

    @property
    def due(self) -> bool:
        """Whether it is time for a new inbox."""
        return time.monotonic() - self._fresh > RENEWED

    async def next(self, until: float | None) -> tuple[int, bytes | None, bytes]:
        """Return (number, header block, payload) of the next chunk; number -1 at the end, 0 for what is no part of a stream.

        `DeadlineExceeded` where nothing comes until then (`time.monotonic`), or for long; `Internal` where a part is missing;
        `Unavailable` where the sender is gone, or the connection was closed.
        """
        while True:
            message = await self._next(until)
            if message is None:
                raise closed()
            block, payload = message
            number, end = read_chunk(block)
            if end and number == self._received:
                return -1, block, payload
            if number == 0 and self._sender and is_gone(block):
                raise Unavailable(f"the service went away in the middle of {self._name}", reason="lost", outcome="unknown")
            if number < 0 and payload.isdigit() and int(payload[:12]) != self._received:
                number, end = int(payload[:12]), True
            if number < 0:  # a probe: it waits for us, and everything that it sent has arrived
                self.restate()
                continue
            if end:
                raise Internal(f"{number} chunks of {self._name} were sent, {self._received} arrived: part of the stream is lost")
            if number > 0:
                self._received += 1
                if number != self._received:
                    raise Internal(f"chunk {number} of {self._name} arrived, {self._received} was next: part of the stream is lost")
            return number, block, payload

    async def _next(self, until: float | None) -> Message | None:
        if not self._arrived.empty():
            return self._arrived.get_nowait()
        limit = time.monotonic() + IDLE if until is None else until
        while (left := limit - time.monotonic()) > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(min(left, PROBE)):
                    return await self._arrived.get()
            self.restate()
        raise DeadlineExceeded("the stream went silent" if until is None else "the time for this stream is over")

    def reopen(self, taken: int) -> None:
        """Let the sender send some more chunks."""
        self._opened += taken
        inbox = b""
        if self.due:
            self._inboxes.append(self._bus.inbox(self._take))
            self._fresh = time.monotonic()
            inbox = self._inboxes[-1].subject
        self._bus.publish(self._sender, b"%d" % taken, None, inbox)

    def restate(self) -> None:
        """Tell the sender again up to which chunk it may send; NATS tells us if it is gone."""
        if self._sender:
            with suppress(Unavailable):  # NATS is away: it is told again later
                self._bus.publish(self._sender, b"=%d" % self._opened, None, self._inboxes[-1].subject, deadline=time.monotonic() + PROBE)

    def close(self) -> None:
        """Receive nothing more."""
        self._bus.closed.discard(self._over)
        for inbox in self._inboxes:
            inbox.close()

    def _over(self) -> None:
        self._arrived.put_nowait(None)

    def _take(self, _subject: bytes, reply: bytes, block: bytes | None, payload: bytes) -> None:
        if is_inbox(reply):  # we publish to inboxes only
            self._sender = reply
        self._arrived.put_nowait((block, payload))
