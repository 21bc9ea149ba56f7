"""Clients of scripts and notebooks: what they return, and the options that they take."""

from collections.abc import AsyncIterator, Iterator
from typing import Any, assert_type
from uuid import UUID

import httpx

from cliffracer import App, Client, Context, Event, Identity, KeyValue, Retry, connect, connect_async, provided
from cliffracer.testing import running


class Deleted(Event, subject="user.deleted", frozen=True):
    """A user who is gone; `Event` has properties of these names, too."""

    id: UUID
    time: float
    data: str = ""


class Created(Event, subject="user.created"):
    """A user."""

    name: str


app = App("shop")


@app.rpc
async def price(sku: str, amount: int = 1, *, context: Context = provided) -> float:
    """Answer."""
    assert_type(context.identity, Identity | None)
    return len(sku) * amount


@app.rpc
async def count(upto: int) -> AsyncIterator[int]:
    """Stream."""
    for number in range(upto):
        yield number


@app.rpc
def letters(word: str) -> Iterator[str]:
    """Stream from a thread."""
    yield from word


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


async def functions() -> None:
    """A declared function says what comes back, whoever calls it; one that streams, called, gives a list."""
    assert_type(await app.call(count, upto=3), list[int])
    assert_type(await app.call(letters, "abc"), list[str])
    async for letter in app.stream(letters, word="abc"):
        assert_type(letter, str)
    async with connect_async() as client:
        assert_type(await client.call(price, "tea", amount=2), float)
        assert_type(await client.call(count, 3), list[int])
        async for number in client.stream(count, upto=3):
            assert_type(number, int)
    with connect() as blocking:
        assert_type(blocking.call(price, "tea", amount=2), float)
        for number in blocking.stream(count, upto=3):
            assert_type(number, int)
    async with running(app) as t:
        assert_type(await t.call(price, sku="tea"), float)
        assert_type(t.http, httpx.AsyncClient)
        async for number in t.stream(count, upto=3):
            assert_type(number, int)


async def held(numbers: KeyValue[int]) -> None:
    """A lock has its token, a store its values, and what stands for one that is not there."""
    async with app.lock("job", ttl="10s") as lock:
        assert_type(lock.token, int)
    assert_type(await numbers.get("a"), int)
    assert_type(await numbers.get("a", None), int | None)
