"""What a streaming handler yields, sent in numbered chunks while the caller has room for them."""

import asyncio
from math import inf
from time import monotonic
from typing import Any

from cliffracer.errors import Cancelled, TooLarge
from cliffracer.messaging import chunked
from cliffracer.messaging.bus import Bus, Inbox
from cliffracer.wire.calls import MSGPACK_REPLY, PROBE_BLOCK, chunk_block, end_block, is_gone
from cliffracer.wire.codecs import encode, encode_msgpack
from cliffracer.wire.subjects import is_inbox

_DIGITS = 12


class Chunks:
    """The sending end of one stream.

    Each chunk is a message on the reply subject, its own reply subject an inbox of ours: a number sent there re-opens the
    window by so many chunks, ``=`` and a number up to that chunk, whatever was lost with a connection. Without a window (a caller
    that asked for one reply) the items come as one array at the end.
    """

    __slots__ = (
        "_bus",
        "_collected",
        "_credit",
        "_encode",
        "_fresh",
        "_gone",
        "_inboxes",
        "_opened",
        "_sent",
        "_size",
        "msgpack",
        "reply",
    )

    def __init__(self, bus: Bus, reply: bytes, window: int, *, msgpack: bool) -> None:
        self._bus = bus
        self.reply = reply
        """The inbox of the reader, who may name a new one each time it re-opens the window."""
        self.msgpack = msgpack
        self._encode = encode_msgpack if msgpack else encode
        self._credit = window
        self._gone = False
        self._sent = 0
        self._size = 0
        self._collected: list[Any] | None = None if window and reply else []
        self._opened: asyncio.Event = asyncio.Event()
        self._inboxes: list[Inbox] = [bus.inbox(self._reopen)] if window and reply else []
        self._fresh = monotonic()

    async def deliver(self, item: Any) -> None:
        """Send one item, once the caller has room for it."""
        if not self._inboxes:
            self._collect(item)
            return
        while self._credit <= 0 and not self._gone:
            await self._room()
        if not self._bus.open:  # its buffer is bounded, and shared by all that we send
            await self._bus.ready(inf)
        if self._gone:
            raise Cancelled("the reader of this stream went away")
        self._credit -= 1
        self._sent += 1
        self._bus.publish(self.reply, self._encode(item), chunk_block(self._sent, msgpack=self.msgpack), self._window())

    def _window(self) -> bytes:
        """Return the inbox on which the reader re-opens the window; like the reader's, it is replaced now and then."""
        if monotonic() - self._fresh > chunked.RENEWED:
            self._inboxes.append(self._bus.inbox(self._reopen))
            self._fresh = monotonic()
        return self._inboxes[-1].subject

    async def _room(self) -> None:
        """Wait until the reader re-opens the window. Meanwhile probe it with the number sent: it may have missed some, or be gone."""
        self._opened.clear()
        try:
            async with asyncio.timeout(chunked.PROBE):
                await self._opened.wait()
        except TimeoutError:
            self._bus.publish(self.reply, b"%d" % self._sent, PROBE_BLOCK, self._window())

    def finish(self) -> None:
        """Send the end: the last chunk's number, or all that was collected."""
        if self._inboxes:
            self._bus.publish(self.reply, b"", end_block(self._sent))
        elif self.reply:
            self._bus.publish(self.reply, self._encode(self._collected), MSGPACK_REPLY if self.msgpack else None)

    def close(self) -> None:
        """Forget the stream."""
        for inbox in self._inboxes:
            inbox.close()

    def _collect(self, item: Any) -> None:
        assert self._collected is not None  # there is no window
        self._size += len(self._encode(item))
        if self._size > self._bus.max_payload:
            raise TooLarge("the stream does not fit into one reply: ask for it in chunks, with the header Cliffracer-Stream: 32")
        if self.reply:
            self._collected.append(item)

    def _reopen(self, subject: bytes, reply: bytes, block: bytes | None, payload: bytes) -> None:  # noqa: ARG002 - the bus's shape
        if is_gone(block):
            self._gone = True
            self._opened.set()
            return
        room = payload.removeprefix(b"=")
        if room.isdigit() and len(room) <= _DIGITS:
            again = payload.startswith(b"=")
            self._credit = max(self._credit, int(room) - self._sent) if again else self._credit + int(room)
            if is_inbox(reply):  # as with requests
                self.reply = reply
            self._opened.set()
