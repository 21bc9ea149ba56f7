"""WebSocket clients by room, across all replicas: a handler joins its client to rooms, anybody sends to a room.

    @app.websocket("/rooms/{room}")
    async def chat(room: str, incoming: AsyncIterator[str]) -> None:
        async with app.sockets.join(f"room:{room}"):
            async for text in incoming:
                await app.sockets.to(f"room:{room}").send({"text": text})

A room is any name; ``user:ada`` is one for all sockets of a user. What is sent goes over core NATS, at most once. Each client has
a bounded queue: one that reads too slowly is closed (1013), the others are not delayed, and a burst closes nobody who keeps reading.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Protocol

import msgspec

from cliffracer.backlog import Backlog
from cliffracer.calling import Link
from cliffracer.context import current
from cliffracer.errors import SetupError

QUEUE = 256
"""Messages that may wait for a client that does not get on; see `Backlog`."""
SOCKET = object()
"""Under which the context of a WebSocket call keeps its client."""


class Client(Protocol):
    """A WebSocket client as rooms need it."""

    def put(self, payload: bytes) -> bool:
        """Send it JSON at once; False if that is to be awaited (`deliver`), since it reads more slowly than it is sent to."""

    async def deliver(self, item: Any) -> None:
        """Send it something."""

    def too_slow(self) -> None:
        """Close it: it reads more slowly than it is sent to."""


class Room:
    """One room: ``await app.sockets.to("room:7").send(message)``."""

    __slots__ = ("_link", "name")

    def __init__(self, link: Callable[[], Link], name: str) -> None:
        self._link = link
        self.name = name

    async def send(self, data: Any) -> None:
        """Send a value, as JSON, to every socket in the room, in all replicas."""
        self._link().say(self.name, data)


class Sockets:
    """The WebSocket clients of an app and of its replicas, by room."""

    __slots__ = ("_link",)

    def __init__(self, link: Callable[[], Link]) -> None:
        self._link = link

    def to(self, room: str) -> Room:
        """Return a room to send to; it need not have anybody in it."""
        return Room(self._link, room)

    @asynccontextmanager
    async def join(self, *rooms: str) -> AsyncIterator[None]:
        """Send what is said in some rooms to the client of the WebSocket handler that runs now, while the block runs."""
        context = current.get()
        client: Client | None = None if context is None or context.state is None else context.state.get(SOCKET)
        if client is None:
            raise SetupError("app.sockets.join is for WebSocket handlers: there is no client here that could join a room.")
        member = Member(client)
        async with AsyncExitStack() as stack:
            sending = asyncio.create_task(member.send(), name="room")
            stack.push_async_callback(_ended, sending)
            for room in rooms:
                stack.push_async_callback(await self._link().enter(room, member.take))
            stack.callback(member.close)
            yield


class Member:
    """A client in rooms, with what waits for it: nothing, as long as it keeps up."""

    __slots__ = ("_client", "_closed", "_news", "_sending", "_waiting")

    def __init__(self, client: Client, now: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._waiting: Backlog[bytes] = Backlog(QUEUE, now)
        self._sending = False
        self._closed = False
        self._news = asyncio.Event()

    def take(self, payload: bytes) -> None:
        """Send a message, or queue it behind those that wait; a client that is too far behind is closed."""
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


async def _ended(task: "asyncio.Task[Any]") -> None:
    task.cancel()
    await asyncio.wait([task])
