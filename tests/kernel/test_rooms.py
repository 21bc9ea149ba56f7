"""WebSocket clients by room: whoever they are connected to, what is sent to a room reaches those in it, and no slow one delays them."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect

from cliffracer import App, SetupError
from cliffracer.rooms import QUEUE, Member
from cliffracer.testing import running
from tests.support.waiting import eventually


def make() -> App:
    app = App("chat")

    @app.websocket("/rooms/{room}")
    async def chat(room: str, incoming: AsyncIterator[str], user: str = "") -> None:
        async with app.sockets.join(f"room:{room}", *([f"user:{user}"] if user else [])):
            await app.sockets.to(f"room:{room}").send({"joined": user})
            async for text in incoming:
                await app.sockets.to(f"room:{room}").send({"text": text})

    @app.rpc
    async def tell(user: str, text: str) -> None:
        await app.sockets.to(f"user:{user}").send(text)

    return app


@asynccontextmanager
async def replicas() -> AsyncIterator[tuple[Any, list[str]]]:
    """Two replicas of the app on one NATS, and where their sockets are."""
    async with running(make()) as t, running(make(), settings=t.settings.changed(http_port=0)) as other:
        yield t, [address.replace("http", "ws") for up in (t, other) for address in up.up.addresses]


async def until(client: ClientConnection, wanted: Any) -> None:
    """Read frames until one is what was wanted."""
    async with asyncio.timeout(10):
        while json.loads(await client.recv()) != wanted:
            pass


async def test_a_room_spans_replicas():
    """What one says reaches everybody in the room, the sender included, and nobody else."""
    async with (
        replicas() as (_, (one, other)),
        connect(f"{one}/rooms/7?user=ada") as ada,
        connect(f"{other}/rooms/7?user=eve") as eve,
        connect(f"{other}/rooms/8") as zoe,
    ):
        await until(ada, {"joined": "eve"})
        await zoe.recv()
        await ada.send("hello")
        await until(ada, {"text": "hello"})
        await until(eve, {"text": "hello"})
        await zoe.send("quiet")
        assert json.loads(await zoe.recv()) == {"text": "quiet"}


async def test_a_user_is_reached_on_every_socket():
    """From any handler of any replica."""
    async with (
        replicas() as (t, (one, other)),
        connect(f"{one}/rooms/1?user=ada") as desk,
        connect(f"{other}/rooms/2?user=ada") as phone,
    ):
        await until(desk, {"joined": "ada"})
        await until(phone, {"joined": "ada"})
        await t.call("tell", user="ada", text="you have mail")
        await until(desk, "you have mail")
        await until(phone, "you have mail")


async def test_who_left_gets_nothing_and_leaves_nothing():
    """The subscription of a room goes with its last member."""
    async with replicas() as (t, (one, _)):
        rooms = t.up.services[0].link.rooms
        async with connect(f"{one}/rooms/7") as client:
            await client.recv()
            assert list(rooms._rooms) == ["room:7"]
        await eventually(lambda: not rooms._rooms)


async def test_a_client_that_is_too_far_behind_is_closed():
    """Its queue is bounded; taking a message never waits."""

    class Stuck:
        closed = 0

        async def deliver(self, item: Any) -> None:
            await asyncio.Event().wait()

        def too_slow(self) -> None:
            self.closed += 1

    client = Stuck()
    member = Member(client)
    sending = asyncio.create_task(member.send())
    for _ in range(QUEUE):
        member.take(b"1")
    assert client.closed == 0
    member.take(b"1")
    member.take(b"1")
    sending.cancel()
    assert client.closed >= 1


async def test_joining_outside_a_socket_is_a_set_up_error():
    """There is no client that could join."""
    app = make()
    async with running(app):
        with pytest.raises(SetupError, match="for WebSocket handlers"):
            async with app.sockets.join("room:7"):
                pass
