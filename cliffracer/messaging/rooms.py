"""Messages of rooms over core NATS: one subscription for each room that has a member in this process."""

import asyncio
from collections.abc import Awaitable, Callable

from loguru import logger

from cliffracer.messaging.bus import Bus, Subscription
from cliffracer.messaging.bus import Receive as Arriving
from cliffracer.messaging.fanout import Fanout
from cliffracer.wire.codecs import is_json
from cliffracer.wire.subjects import Subjects, as_token, check_literal

Receive = Callable[[bytes], None]


class _Room:
    """The members of one room in this process."""

    __slots__ = ("door", "fanout", "subscription")

    def __init__(self) -> None:
        self.door = asyncio.Lock()
        self.fanout: Fanout[bytes] = Fanout()
        self.subscription: Subscription | None = None

    @property
    def members(self) -> dict[object, Receive]:
        """Return the members of the room."""
        return self.fanout.receivers

    def receive(self, subject: bytes, _reply: bytes, _block: bytes | None, payload: bytes) -> None:
        """Hand a message to all members here as it came, since its sender has encoded it. Invalid JSON is dropped, and ends no socket."""
        if is_json(payload):
            self.fanout.put(payload)
        else:
            logger.bind(subject=subject.decode("utf-8", "replace")).warning("message to a room dropped: it is no JSON")


class Rooms:
    """The rooms of one connection."""

    def __init__(self, bus: Bus, subjects: Subjects) -> None:
        self._bus = bus
        self._prefix = f"{subjects.prefix}cliffracer.rooms."
        self._rooms: dict[str, _Room] = {}

    def say(self, room: str, payload: bytes) -> None:
        """Send a message to all members of a room, wherever they are connected."""
        self._bus.publish(self._subject(room).encode(), payload)

    async def enter(self, room: str, receive: Receive) -> Callable[[], Awaitable[None]]:
        """Have ``receive`` called with all messages of a room from now on; return a function that ends that."""
        here = self._rooms.setdefault(room, _Room())
        key = object()
        here.members[key] = receive

        async def leave() -> None:
            del here.members[key]
            if here.members:  # who enters is one of them
                return
            if self._rooms.get(room) is here:
                del self._rooms[room]
            subscription, here.subscription = here.subscription, None
            if subscription is not None:
                await subscription.close()

        try:
            async with here.door:
                if here.subscription is None:
                    here.subscription = await self._begin(room, here.receive)
        except BaseException:  # away, or cancelled: the caller gets no function to leave with
            await leave()
            raise
        return leave

    async def _begin(self, room: str, receive: Arriving) -> Subscription:
        subscription = await self._bus.subscribe(self._subject(room), receive)
        try:
            await self._bus.flush()
        except BaseException:  # the next one to enter begins again, and waits for the server as well
            await subscription.close()
            raise
        return subscription

    def _subject(self, room: str) -> str:
        return check_literal(f"{self._prefix}{as_token(room)}")
