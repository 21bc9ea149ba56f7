"""WebSocket clients by room, across all replicas: a handler joins its client to rooms, anybody sends to a room.

    @app.websocket("/rooms/{room}")
    async def chat(room: str, incoming: AsyncIterator[str]) -> None:
        async with app.sockets.join(f"room:{room}"):
            async for text in incoming:
                await app.sockets.to(f"room:{room}").send({"text": text})

A room is any name; ``user:ada`` is one for all sockets of a user. What is sent goes over core NATS, at most once. Each client has
a bounded queue: one that reads too slowly is closed (1013), the others are not delayed, and a burst closes nobody who keeps reading.
"""

import importlib
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from cliffracer.calling import Link
from cliffracer.context import current
from cliffracer.errors import SetupError

SOCKET = object()
"""The key under which the context of a WebSocket call stores its client."""


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
        """Return a room to send to; it may be empty."""
        return Room(self._link, room)

    @asynccontextmanager
    async def join(self, *rooms: str) -> AsyncIterator[None]:
        """Send the messages of these rooms to the client of the current WebSocket handler, while the block runs."""
        context = current.get()
        client = None if context is None or context.state is None else context.state.get(SOCKET)
        if client is None:
            raise SetupError("app.sockets.join is for WebSocket handlers: there is no client here that could join a room.")
        members = importlib.import_module("cliffracer.members")  # by name: it needs asyncio, which declaring does not
        async with AsyncExitStack() as stack:
            member = await stack.enter_async_context(members.member(client))
            for room in rooms:
                stack.push_async_callback(await self._link().enter(room, member.take))
            stack.callback(member.close)
            yield
