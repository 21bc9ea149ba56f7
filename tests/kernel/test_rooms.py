"""WebSocket clients by room: whoever they are connected to, what is sent to a room reaches those in it, and no slow one delays them."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect

from cliffracer import App, SetupError, Unavailable
from cliffracer.backlog import MOST, MOST_BYTES, PATIENCE, Backlog
from cliffracer.members import QUEUE, Member
from cliffracer.messaging.fanout import BEHIND, SLICE, Fanout
from cliffracer.testing import running
from tests.support.waiting import eventually

pytestmark = pytest.mark.both_transports


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


async def test_who_could_not_enter_is_not_in_the_room(monkeypatch: pytest.MonkeyPatch):
    """NATS was away at that moment: what is said later is not sent to a socket that is gone, and nothing of it is kept."""
    gone: list[bytes] = []
    there: list[bytes] = []

    async def away(*_: Any, **__: Any) -> None:
        raise Unavailable("NATS is away", reason="away")

    async with running(make()) as t:
        rooms = t.up.services[0].link.rooms
        with monkeypatch.context() as patched:
            patched.setattr(type(t.up.bus), "flush", away)
            with pytest.raises(Unavailable):
                await rooms.enter("7", gone.append)
        assert rooms._rooms == {}
        leave = await rooms.enter("7", there.append)
        rooms.say("7", b"1")
        await eventually(lambda: there)
        await leave()
    assert (gone, there) == ([], [b"1"])


class Client:
    """A client that takes messages at once only while it is ``quick``, and late ones when it is let."""

    def __init__(self, *, quick: bool) -> None:
        self.quick = quick
        self.got: list[bytes] = []
        self.let = asyncio.Event()
        self.closed = 0

    def put(self, payload: bytes) -> bool:
        if self.quick:
            self.got.append(payload)
        return self.quick

    async def deliver(self, item: Any) -> None:
        await self.let.wait()
        self.got.append(bytes(item))

    def too_slow(self) -> None:
        self.closed += 1


async def test_a_client_that_is_too_far_behind_is_closed():
    """With more waiting than a few, it has to take one within a second; taking a message never waits."""
    client, time = Client(quick=False), [0.0]
    member = Member(client, lambda: time[0])
    for _ in range(QUEUE + 1):
        member.take(b"1")
    sending = asyncio.create_task(member.send())
    await asyncio.sleep(0)
    assert client.closed == 0
    time[0] += PATIENCE + 0.1
    member.take(b"1")
    member.take(b"1")
    sending.cancel()
    assert client.closed == 1


@pytest.mark.parametrize(("item", "most"), [(b"1", MOST), (bytes(MOST_BYTES // 300), 301)])
def test_what_waits_for_a_client_is_bounded(item: bytes, most: int):
    """By number and by bytes, however fast it all came."""
    backlog: Backlog[bytes] = Backlog(QUEUE, lambda: 0.0)
    taken = 0
    while backlog.add(item, len(item)):
        taken += 1
    assert taken == most


async def test_a_burst_reaches_everybody_who_keeps_reading():
    """However many are said at once: nobody is closed for not having had a turn yet."""
    app = make()

    @app.rpc
    async def count(upto: int) -> None:
        for number in range(upto):
            await app.sockets.to("room:7").send(number)

    async with running(app) as t, connect(f"{t.url.replace('http', 'ws')}/rooms/7") as client:
        await client.recv()
        await t.call("count", upto=3000)
        async with asyncio.timeout(20):
            assert [json.loads(await client.recv()) for _ in range(3000)] == list(range(3000))


async def test_a_client_that_does_not_read_is_closed_and_the_others_are_not_delayed():
    """Its socket is full, what waits for it is bounded, and then it goes; the other one has every message in order meanwhile."""
    app = make()

    @app.rpc
    async def say(number: int) -> None:
        await app.sockets.to("room:7").send([number, "x" * 200_000])

    async with running(app) as t:
        address = f"{t.url.replace('http', 'ws')}/rooms/7"
        slow = await connect(address, max_queue=1)
        await until(slow, {"joined": ""})
        async with connect(address) as client:
            rooms, heard = t.up.services[0].link.rooms._rooms, 0
            await eventually(lambda: "room:7" in rooms and len(rooms["room:7"].members) == 2)
            members = rooms["room:7"].members
            slow.transport.pause_reading()
            async with asyncio.timeout(30):
                while len(members) == 2:
                    await t.call("say", number=heard)
                    await until(client, [heard, "x" * 200_000])
                    heard += 1
        slow.transport.abort()
        await slow.wait_closed()


async def test_no_message_overtakes_those_that_wait():
    """Also when the client is quick again while the first of them is being sent."""
    client = Client(quick=False)
    member = Member(client)
    sending = asyncio.create_task(member.send())
    member.take(b"1")
    await asyncio.sleep(0)
    member.take(b"2")
    client.quick = True
    member.take(b"3")
    client.let.set()
    await eventually(lambda: len(client.got) == 3)
    member.take(b"4")
    sending.cancel()
    assert client.got == [b"1", b"2", b"3", b"4"]
    member.close()
    member.take(b"5")
    assert len(client.got) == 4


@pytest.mark.parametrize("payload", [b"", b"{", b'"\xff"', b"[" * 100_000], ids=["nothing", "half", "no text", "deep"])
async def test_what_is_no_json_reaches_nobody(payload: bytes):
    """A peer may publish anything to a room's subject; browsers would close the socket over it."""
    async with replicas() as (t, (one, _)), connect(f"{one}/rooms/7") as client:
        await until(client, {"joined": ""})
        t.up.bus.publish(f"{t.settings.namespace}.cliffracer.rooms.room:7".encode(), payload)
        await t.app.sockets.to("room:7").send("fine \N{SNOWMAN}")
        assert json.loads(await client.recv()) == "fine \N{SNOWMAN}"


async def test_a_crowd_is_served_in_turns_of_the_loop():
    """Nobody waits for the last of a large room, and messages keep their order."""
    got: dict[int, list[int]] = {n: [] for n in range(2 * SLICE + 10)}
    fanout: Fanout[int] = Fanout()
    for n, into in got.items():
        fanout.receivers[n] = into.append
    fanout.put(1)
    assert sum(map(len, got.values())) == SLICE
    for message in range(2, 5):
        fanout.put(message)
    assert sum(map(len, got.values())) == SLICE
    await eventually(lambda: all(into == [1, 2, 3, 4] for into in got.values()))
    for message in range(BEHIND + 10):
        fanout.put(message)
    assert len(fanout._behind) <= BEHIND  # the sender was held instead
    await eventually(lambda: all(len(into) == 4 + BEHIND + 10 for into in got.values()))
    assert got[0] == got[2 * SLICE]


async def test_joining_outside_a_socket_is_a_set_up_error():
    """There is no client that could join."""
    app = make()
    async with running(app):
        with pytest.raises(SetupError, match="for WebSocket handlers"):
            async with app.sockets.join("room:7"):
                pass
