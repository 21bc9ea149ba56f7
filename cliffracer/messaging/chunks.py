"""What a streaming handler yields, sent in numbered chunks while the caller has room for them."""

import asyncio
from typing import Any

from cliffracer.errors import Cancelled, TooLarge
from cliffracer.messaging.bus import Bus, Inbox
from cliffracer.wire.calls import MSGPACK_REPLY, PROBE_BLOCK, chunk_block, end_block
from cliffracer.wire.codecs import encode, encode_msgpack

PROBE = 5.0  # seconds of waiting for the reader, between two looks at whether it is there


class Chunks:
    """The sending end of one stream.

    Each chunk is a message on the reply subject, its own reply subject an inbox of ours: a number sent there re-opens the
    window by so many chunks. Without a window (a caller that asked for one reply) the items come as one array at the end.
    """

    __slots__ = ("_bus", "_collected", "_credit", "_encode", "_gone", "_inbox", "_msgpack", "_opened", "_reply", "_sent", "_size")

    def __init__(self, bus: Bus, reply: bytes, window: int, *, msgpack: bool) -> None:
        self._bus = bus
        self._reply = reply
        self._msgpack = msgpack
        self._encode = encode_msgpack if msgpack else encode
        self._credit = window
        self._gone = False
        self._sent = 0
        self._size = 0
        self._collected: list[Any] | None = None if window and reply else []
        self._opened: asyncio.Event = asyncio.Event()
        self._inbox: Inbox | None = bus.inbox(self._reopen) if window and reply else None

    async def deliver(self, item: Any) -> None:
        """Send one item, once the caller has room for it."""
        if self._inbox is None:
            self._collect(item)
            return
        while self._credit <= 0 and not self._gone:
            await self._room(self._inbox)
        if self._gone:
            raise Cancelled("the reader of this stream went away")
        self._credit -= 1
        self._sent += 1
        self._bus.publish(self._reply, self._encode(item), chunk_block(self._sent, msgpack=self._msgpack), self._inbox.subject)

    async def _room(self, inbox: Inbox) -> None:
        """Wait until the reader opens the window; ask now and then whether there still is one: NATS tells when nobody listens."""
        self._opened.clear()
        try:
            async with asyncio.timeout(PROBE):
                await self._opened.wait()
        except TimeoutError:
            self._bus.publish(self._reply, b"", PROBE_BLOCK, inbox.subject)

    def finish(self) -> None:
        """Send the end: the last chunk's number, or all that was collected."""
        if self._inbox is not None:
            self._bus.publish(self._reply, b"", end_block(self._sent))
        elif self._reply:
            self._bus.publish(self._reply, self._encode(self._collected), MSGPACK_REPLY if self._msgpack else None)

    def close(self) -> None:
        """Forget the stream."""
        if self._inbox is not None:
            self._inbox.close()

    def _collect(self, item: Any) -> None:
        assert self._collected is not None  # there is no window
        self._size += len(self._encode(item))
        if self._size > self._bus.max_payload:
            raise TooLarge("the stream does not fit into one reply: ask for it in chunks, with the header Cliffracer-Stream: 32")
        if self._reply:
            self._collected.append(item)

    def _reopen(self, subject: bytes, reply: bytes, block: bytes | None, payload: bytes) -> None:  # noqa: ARG002 - the bus's shape
        if block is not None and block.startswith(b"NATS/1.0 503"):
            self._gone = True
            self._opened.set()
        elif payload.isdigit() and len(payload) <= 6:
            self._credit += int(payload)
            self._opened.set()
