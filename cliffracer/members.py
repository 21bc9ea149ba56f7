"""WebSocket clients in rooms: messages are sent to each client at its own pace."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Protocol

import msgspec

from cliffracer.backlog import Backlog

QUEUE = 256
"""Messages that may wait for a client that makes no progress; see `Backlog`."""


class Client(Protocol):
    """A WebSocket client as rooms need it."""

    def put(self, payload: bytes) -> bool:
        """Send it JSON at once; False if it reads too slowly for that, so that `deliver` has to be awaited."""

    async def deliver(self, item: Any) -> None:
        """Send it an item, once it can take one."""

    def too_slow(self) -> None:
        """Close it, since it reads too slowly."""


class Member:
    """A client in rooms, with its queue, which is empty as long as it keeps up."""

    __slots__ = ("_client", "_closed", "_news", "_sending", "_waiting")

    def __init__(self, client: Client, now: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._waiting: Backlog[bytes] = Backlog(QUEUE, now)
        self._sending = False
        self._closed = False
        self._news = asyncio.Event()

    def take(self, payload: bytes) -> None:
        """Send a message, or queue it behind others; a client that is too far behind is closed."""
        if self._closed or (not self._sending and self._client.put(payload)):
            return
        self._sending = True  # from now on, or the next message would overtake this one
        if self._waiting.add(payload, len(payload)):
            self._news.set()
        else:
            self._closed = True
            self._client.too_slow()

    def close(self) -> None:
        """Take nothing more."""
        self._closed = True

    async def send(self) -> None:
        """Send what is queued, for ever."""
        while True:
            while self._waiting:
                await self._client.deliver(msgspec.Raw(self._waiting.take()))
            self._sending = False
            self._news.clear()
            await self._news.wait()


@asynccontextmanager
async def member(client: Client) -> AsyncIterator[Member]:
    """Send a client what it is given, while the block runs."""
    made = Member(client)
    sending = asyncio.create_task(made.send(), name="room")
    try:
        yield made
    finally:
        sending.cancel()
        await asyncio.wait([sending])
