"""The reading end of a stream (`chunks` is the sending end): where its messages arrive, and how the sender's window is opened again."""

import asyncio
import time

from cliffracer.messaging.bus import Bus

RENEWED = 30.0
"""Seconds after which both ends of a stream name a new inbox: where permissions are not ours, NATS may let a service answer
only so long after it was asked (``allow_responses``)."""
Message = tuple[bytes | None, bytes]
"""(header block, payload)."""


class Chunked:
    """An inbox, another one now and then; what arrives in any of them is one stream, in order."""

    __slots__ = ("_bus", "_fresh", "_inboxes", "_sender", "arrived", "subject")

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self.arrived: asyncio.Queue[Message] = asyncio.Queue()
        self._inboxes = [bus.inbox(self._take)]
        self.subject = self._inboxes[0].subject
        """What the sender is asked to reply to, and knows the call by."""
        self._sender = b""
        self._fresh = time.monotonic()

    @property
    def due(self) -> bool:
        """Whether it is time to name a new inbox."""
        return time.monotonic() - self._fresh > RENEWED

    def reopen(self, taken: int) -> None:
        """Let the sender send so many more."""
        inbox = b""
        if self.due:
            self._inboxes.append(self._bus.inbox(self._take))
            self._fresh = time.monotonic()
            inbox = self._inboxes[-1].subject
        self._bus.publish(self._sender, b"%d" % taken, None, inbox)

    def close(self) -> None:
        """Receive nothing more."""
        for inbox in self._inboxes:
            inbox.close()

    def _take(self, _subject: bytes, reply: bytes, block: bytes | None, payload: bytes) -> None:
        if reply.startswith(b"_INBOX"):  # nobody makes us publish anywhere else
            self._sender = reply
        self.arrived.put_nowait((block, payload))
