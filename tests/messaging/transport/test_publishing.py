"""Publishing: what is refused, what is held while NATS is away, what is written when."""

import asyncio
import time
from math import inf
from typing import Any
from unittest.mock import Mock

import pytest

from cliffracer.errors import TooLarge, Unavailable
from cliffracer.messaging.bus import Bus
from cliffracer.messaging.transport import parser, reader
from cliffracer.messaging.transport.held import Held
from cliffracer.messaging.transport.interface import Receive
from cliffracer.messaging.transport.reconnecting import MAX_CONTROL
from cliffracer.messaging.transport.writer import MANY, Writer
from tests.support.fake_nats import FakeNats
from tests.support.nats import NatsServer
from tests.support.waiting import eventually

BLOCK = b"NATS/1.0\r\nA: b\r\n\r\n"


async def collect(bus: Bus, subject: str) -> list[bytes]:
    got: list[bytes] = []
    await bus.subscribe(subject, lambda _, __, ___, payload: got.append(payload))
    await bus.flush()
    return got


async def test_an_oversize_message_is_the_callers_error(bus: Bus) -> None:
    """Payload, payload with headers, and a subject over the server's line limit: `TooLarge`, and the connection stays."""
    got = await collect(bus, "a")
    for subject, size, block in (
        (b"a", bus.max_payload + 1, None),
        (b"a", bus.max_payload - 5, BLOCK),
        (b"x" * (MAX_CONTROL + 1), 0, None),
    ):
        with pytest.raises(TooLarge):
            bus.publish(subject, b"x" * size, block)
    bus.publish(b"a", b"x" * bus.max_payload)
    await eventually(lambda: got)
    bus.publish(b"x" * (MAX_CONTROL - 60), b"")
    await bus.flush()
    assert bus.connected


async def test_what_is_published_together_arrives_whole_whatever_its_size(bus: Bus) -> None:
    """With headers or without, published or as an answer: around the sizes from which on it is written in another way."""
    got: list[tuple[bytes | None, bytes]] = []
    await bus.subscribe("a", lambda _, __, block, payload: got.append((block, payload)))
    await bus.flush()
    sent = [(block, bytes([65 + size % 26]) * size) for size in (0, 1, 2029, 2030, 2047, 2048, 2049, 20_000) for block in (None, BLOCK)]
    for block, payload in sent:
        bus.publish(b"a", payload, block)
        bus.answer(b"a", payload, block)
    await eventually(lambda: len(got) == 2 * len(sent))
    assert got == [message for message in sent for _ in range(2)]


@pytest.mark.parametrize("subject", [b"", b"a b", b"a\r\nPUB b 0\r\n", b"a\nb", b"a\tb", b" a"])
async def test_a_subject_that_would_become_protocol(bus: Bus, subject: bytes) -> None:
    """It never reaches the socket, as subject or as reply."""
    with pytest.raises(ValueError, match="subject"):
        bus.publish(subject, b"x")
    if subject:
        with pytest.raises(ValueError, match="subject"):
            bus.publish(b"a", b"x", None, subject)


async def test_the_limit_is_the_servers(connected: Any) -> None:
    """A server with a smaller limit is respected."""
    with NatsServer("max_payload: 1000") as server:
        bus = await connected(server.url)
        with pytest.raises(TooLarge) as caught:
            bus.publish(b"a", b"x" * 1001)
    assert caught.value.details == {"size": 1001, "limit": 1000}


async def test_flush_means_that_the_server_has_it(connected: Any, server: NatsServer) -> None:
    """After `flush`, another connection's subscriber has been sent everything."""
    sender, receiver = await connected(server.url), await connected(server.url)
    got = await collect(receiver, "a")
    for number in range(1000):
        sender.publish(b"a", b"%d" % number)
    await sender.flush()
    await receiver.flush()
    await eventually(lambda: len(got) == 1000)


async def test_messages_wait_for_the_server(bus: Bus, server: NatsServer) -> None:
    """What is published while NATS is away is sent in order when it is back, unless its deadline has passed."""
    got = await collect(bus, "a")
    server.kill()
    await eventually(lambda: not bus.connected)
    bus.publish(b"a", b"1")
    bus.publish(b"a", b"expired", deadline=time.monotonic() + 0.01)
    bus.publish(b"a", b"2", deadline=time.monotonic() + 60)
    await asyncio.sleep(0.02)
    server.start()
    await eventually(lambda: len(got) >= 2)
    await bus.flush()
    assert got == [b"1", b"2"]


async def test_what_waits_is_bounded(bus: Bus, server: NatsServer) -> None:
    """Beyond some megabytes publishing is `Unavailable`, at once; expired messages make room."""
    server.kill()
    await eventually(lambda: not bus.connected)

    def fill() -> None:
        for _ in range(100):
            bus.publish(b"a", b"x" * 1_000_000, deadline=time.monotonic() + 0.2)

    with pytest.raises(Unavailable) as caught:
        fill()
    assert caught.value.details["reason"] == "full"
    await asyncio.sleep(0.25)
    bus.publish(b"a", b"x" * 1_000_000)


async def test_what_waits_is_not_written_faster_than_the_server_takes_it(connected: Any, transport: str) -> None:
    """Nor over a connection that is only being made: what the socket owes cannot be called back when its time is over."""
    if transport == "stock":
        pytest.skip("nats-py does the writing there")
    owed: list[int] = []
    async with FakeNats() as fake:
        bus = await connected(fake.url)
        confirm = bus.link._confirm

        async def confirmed() -> None:
            owed.append(bus._reader._transport.get_write_buffer_size())
            await confirm()

        bus.link._confirm = confirmed
        fake.hang_up()
        await eventually(lambda: not bus.connected)
        for _ in range(75):
            bus.publish(b"a", b"x" * 100_000)
        await eventually(lambda: bus.connected)
        assert owed[0] < 500_000
        await eventually(lambda: bus.open)
        await bus.flush()
        assert len([line for line in fake.lines if line.startswith(b"PUB")]) == 75


async def test_a_bus_that_is_being_closed_does_not_open_again(connected: Any, server: NatsServer, transport: str) -> None:
    """The server takes the last of what is written meanwhile: who waits for room would publish into a socket that is being closed."""
    if transport == "stock":
        pytest.skip("nats-py does the writing there")
    bus, opened = await connected(server.url), list[bool]()
    hang_up = bus._hang_up

    async def taken() -> None:
        bus._reader.resume_writing()
        opened.append(bus.open)
        await hang_up()

    bus._hang_up = taken
    await bus.close()
    assert opened == [False]


async def test_a_request_waits_for_the_server(bus: Bus, server: NatsServer) -> None:
    """A call during an outage succeeds when NATS is back in time."""
    await bus.subscribe("echo", lambda _, reply, block, payload: bus.publish(reply, payload, block))
    await bus.flush()
    server.kill()
    await eventually(lambda: not bus.connected)
    tasks = [asyncio.create_task(bus.request(b"echo", b"%d" % number, timeout=20)) for number in range(50)]
    await asyncio.sleep(0)
    server.start()
    assert [(await task).payload for task in tasks] == [b"%d" % number for number in range(50)]


async def test_a_request_is_never_run_after_its_caller_gave_up(bus: Bus, server: NatsServer) -> None:
    """`Unavailable` when NATS stays away, and nothing is sent later: neither that nor a cancelled one."""
    got = await collect(bus, "work")
    server.kill()
    await eventually(lambda: not bus.connected)
    cancelled = asyncio.create_task(bus.request(b"work", b"cancelled", timeout=60))
    await asyncio.sleep(0)
    with pytest.raises(Unavailable) as caught:
        await bus.request(b"work", b"late", timeout=0.1)
    assert caught.value.details["reason"] == "away"
    cancelled.cancel()
    await asyncio.sleep(0)
    server.start()
    await eventually(lambda: bus.connected)
    await bus.flush()
    bus.publish(b"work", b"after")
    await eventually(lambda: got)
    assert got == [b"after"]


async def test_closing_writes_what_was_published(connected: Any, server: NatsServer) -> None:
    """A publish just before `close` arrives."""
    sender, receiver = await connected(server.url), await connected(server.url)
    got = await collect(receiver, "a")
    for number in range(2000):
        sender.publish(b"a", b"%d" % number)
    await sender.close()
    await eventually(lambda: len(got) == 2000)
    assert not sender.connected
    with pytest.raises(Unavailable):
        sender.publish(b"a", b"")
    with pytest.raises(Unavailable):
        await sender.subscribe("a", lambda *_: None)
    with pytest.raises(Unavailable):
        await sender.flush()


async def test_a_burst_without_awaiting_is_bounded(connected: Any, server: NatsServer) -> None:
    """A loop that publishes more than the socket and the buffer take is told so, and what was accepted arrives."""
    sender, receiver = await connected(server.url), await connected(server.url)
    got = await collect(receiver, "a")
    accepted = 0

    def burst() -> None:
        nonlocal accepted
        for _ in range(200_000):
            sender.publish(b"a", b"x" * 1000)
            accepted += 1

    with pytest.raises(Unavailable):
        burst()
    await eventually(lambda: len(got) == accepted, within=60)
    assert accepted > 5_000


async def test_a_publisher_can_wait_for_room(connected: Any, server: NatsServer) -> None:
    """`ready` paces a publisher to what the server takes, without an error and without much memory."""
    sender, receiver = await connected(server.url), await connected(server.url)
    got = await collect(receiver, "a")
    for _ in range(30_000):
        if not sender.open:
            await sender.ready(time.monotonic() + 20)
        sender.publish(b"a", b"x" * 1000)
    await eventually(lambda: len(got) == 30_000, within=60)


class Recorder(asyncio.Transport):
    """A transport that notes its writes."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_protocol(self) -> asyncio.BaseProtocol:
        return asyncio.Protocol()

    def is_closing(self) -> bool:
        return False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.writes.append(bytes(data))


async def test_one_write_per_turn_of_the_loop() -> None:
    """What any number of tasks publish in one turn is one write."""
    recorder = Recorder()
    writer = Writer(recorder)

    async def one(frame: bytes) -> None:
        writer.put(frame)

    await asyncio.gather(*(one(b"%d," % number) for number in range(10)))
    await asyncio.sleep(0)
    assert recorder.writes == [b"0,1,2,3,4,5,6,7,8,9,"]


async def test_a_large_gathering_is_written_in_between() -> None:
    """A burst in one turn does not pile up: it is written every few hundred messages, of five parts each."""
    recorder = Recorder()
    writer = Writer(recorder)
    for _ in range(10_000):
        writer.put(b"x" * 100)
    assert len(writer.parts) <= MANY < 5 * 1000
    writer.write()
    assert sum(len(data) for data in recorder.writes) == 1_000_000


async def test_half_of_what_a_turn_makes_is_written_while_the_rest_is_made() -> None:
    """The server need not wait for the last frame of a turn as large as those before; a small turn is one write."""
    recorder = Recorder()
    writer = Writer(recorder)
    for _ in range(3):
        recorder.writes.clear()
        for _ in range(300):
            writer.put(b"x")
        writer.write()
    assert [len(data) for data in recorder.writes] == [151, 149]
    for _ in range(20):  # turns become small: there is nothing to gain by halving them
        recorder.writes.clear()
        for _ in range(60):
            writer.put(b"x")
        writer.write()
    assert [len(data) for data in recorder.writes] == [60]


async def test_half_a_turn_is_not_halved_again_at_once() -> None:
    """Once halves come back as turns of their own, the two ends work by turns: smaller writes would only cost more."""
    recorder = Recorder()
    writer = Writer(recorder)
    for frames in (400, 200, 200):
        recorder.writes.clear()
        for _ in range(frames):
            writer.put(b"x")
        writer.write()
    assert [len(data) for data in recorder.writes] == [181, 19]  # not [101, 99]: 360 is what is left of 400


async def test_a_server_that_has_enough_to_do_is_written_to_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A chunk that was there already when the last had been handled is answered by one write; one that had to be waited for by two."""
    recorder, now = Recorder(), [0.0]
    monkeypatch.setattr(reader, "monotonic", lambda: now[0])
    monkeypatch.setattr(parser, "_SLICE", inf)  # or on a busy machine a chunk takes several turns
    routes: dict[bytes, Receive] = {}
    reading = reader.Reader(Mock(), recorder, routes, failed=Mock(), flowing=Mock(), informed=Mock(), ping=60)  # none matters here
    routes[b"1"] = lambda _, reply, __, ___: reading.writer.put(b"PUB %b 0\r\n\r\n" % reply)
    chunk = b"".join(b"MSG a 1 r%d 0\r\n\r\n" % number for number in range(200))
    for _ in range(3):
        now[0] += 1
        recorder.writes.clear()
        reading.data_received(chunk)
    assert len(recorder.writes) == 2
    recorder.writes.clear()
    reading.data_received(chunk)
    assert len(recorder.writes) == 1
    reading.connection_lost(None)


def test_held_messages_count_all_their_parts() -> None:
    """The bound includes subjects, headers and what keeping a message costs."""
    held = Held(limit=1000)
    held.add((b"a" * 100, b"b" * 100, b"c" * 100, b"d" * 100), None)
    with pytest.raises(Unavailable):
        held.add((b"a", b"b" * 500, None, b""), None)
    assert len(held.take()) == 1
    assert len(held) == 0
    held.add((b"a", b"b" * 500, None, b""), None)
