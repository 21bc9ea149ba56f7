"""Clients of scripts and notebooks: what they return, and the options that they take."""

from typing import Any, assert_type
from uuid import UUID

from cliffracer import App, Client, Event, Retry, connect, connect_async


class Deleted(Event, subject="user.deleted", frozen=True):
    """A user who is gone; `Event` has properties of these names, too."""

    id: UUID
    time: float
    data: str = ""


class Created(Event, subject="user.created"):
    """A user."""

    name: str


app = App("shop")


def script() -> None:
    """Without an event loop."""
    with connect("nats://127.0.0.1:4222", timeout="2s") as client:
        assert_type(client, Client)
        assert_type(client.emit(Created(name="Ada"), key="ada", delay="10m"), str)
        client.emit("user.created", {"name": "Ada"}, id="1", durable=True)
        client.service("users", timeout=1.0, retry=Retry()).get_user(user_id=7)
        client.users.get_user(user_id=7)
        assert_type(client.cancel("1"), bool)
        for deleted in client.events(Deleted):
            assert_type(deleted.data, Deleted)


async def notebook() -> None:
    """With one."""
    async with connect_async() as client:
        reply: Any = await client.users.get_user(user_id=7)
        print(reply)
        async for event in client.events("user.*", Created):
            assert_type(event.data, Created)
        async for anything in client.events("user.*"):
            assert_type(anything.data, Any)
        async for deleted in client.events(Deleted):
            assert_type(deleted.data, Deleted)
    async with app.connected() as connected:
        assert_type(connected, App)
        assert_type(await connected.emit("user.created", 1, delay=2.0), str)


async def feed() -> None:
    """In a handler."""
    async for event in app.events("user.*", Created):
        assert_type(event.data, Created)
    async for anything in app.events("user.*"):
        assert_type(anything.data, Any)
    async for deleted in app.events(Deleted):
        assert_type(deleted.data, Deleted)
