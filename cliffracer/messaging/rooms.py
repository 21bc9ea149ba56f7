"""What is said in rooms, over core NATS: one subscription for each room that anybody here is in."""

import asyncio
from collections.abc import Awaitable, Callable

from cliffracer.messaging.bus import Bus, Subscription
from cliffracer.wire.subjects import Subjects, as_token, check_literal

Receive = Callable[[bytes], None]


class _Room:
    """Those in one room in this process."""

    __slots__ = ("door", "members", "subscription")

    def __init__(self) -> None:
        self.door = asyncio.Lock()
        self.members: dict[object, Receive] = {}
        self.subscription: Subscription | None = None

    def receive(self, _subject: bytes, _reply: bytes, _block: bytes | None, payload: bytes) -> None:
        """Hand a message to everybody here."""
        for receive in list(self.members.values()):
            receive(payload)


class Rooms:
    """The rooms of one connection."""

    def __init__(self, bus: Bus, subjects: Subjects) -> None:
        self._bus = bus
        self._prefix = f"{subjects.prefix}cliffracer.rooms."
        self._rooms: dict[str, _Room] = {}

    def say(self, room: str, payload: bytes) -> None:
        """Send something to everybody in a room, wherever they are connected."""
        self._bus.publish(self._subject(room).encode(), payload)

    async def enter(self, room: str, receive: Receive) -> Callable[[], Awaitable[None]]:
        """Have ``receive`` called with everything said in a room from now on; return what ends that."""
        here = self._rooms.setdefault(room, _Room())
        key = object()
        here.members[key] = receive
        async with here.door:
            if here.subscription is None:
                here.subscription = await self._bus.subscribe(self._subject(room), here.receive)
                await self._bus.flush()

        async def leave() -> None:
            del here.members[key]
            async with here.door:
                if not here.members and here.subscription is not None:
                    subscription, here.subscription = here.subscription, None
                    await subscription.close()
            if not here.members:
                self._rooms.pop(room, None)

        return leave

    def _subject(self, room: str) -> str:
        return check_literal(f"{self._prefix}{as_token(room)}")
