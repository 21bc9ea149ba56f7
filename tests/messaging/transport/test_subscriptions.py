"""Subscriptions: who gets what, and how they end."""

import asyncio
from typing import Any

import pytest

from cliffracer.errors import Unavailable
from cliffracer.messaging.bus import Bus
from cliffracer.messaging.hearing import hear
from cliffracer.messaging.transport import fast, stock
from cliffracer.wire.subjects import Subjects
from tests.support.nats import NatsServer
from tests.support.waiting import eventually

Message = tuple[bytes, bytes, bytes | None, bytes]


async def collect(bus: Bus, subject: str, queue: str = "") -> list[Message]:
    got: list[Message] = []
    await bus.subscribe(subject, lambda *message: got.append(message), queue=queue)
    await bus.flush()
    return got


async def test_a_message_arrives_as_it_was_published(bus: Bus) -> None:
    """Subject, reply, header block and payload are the publisher's bytes."""
    got = await collect(bus, "a.*")
    block = "NATS/1.0\r\nName: Zoë\r\n\r\n".encode()
    bus.publish(b"a.b", b"\xff\x00", block, b"_INBOX.x")
    bus.publish("a.größe".encode(), b"")
    await eventually(lambda: len(got) == 2)
    assert got == [(b"a.b", b"_INBOX.x", block, b"\xff\x00"), ("a.größe".encode(), b"", None, b"")]


async def test_messages_of_one_publisher_keep_their_order(bus: Bus) -> None:
    """5,000 messages over two patterns come in order on each."""
    wide, narrow = await collect(bus, ">"), await collect(bus, "n.x")
    for number in range(5000):
        bus.publish(b"n.x", b"%d" % number)
    await eventually(lambda: len(wide) == len(narrow) == 5000)
    assert [message[3] for message in narrow] == [b"%d" % number for number in range(5000)]


async def test_a_queue_group_shares(connected: Any, server: NatsServer) -> None:
    """Each message goes to one member of the group."""
    first, second, sender = [await connected(server.url) for _ in range(3)]
    one, two = await collect(first, "work", "group"), await collect(second, "work", "group")
    for number in range(200):
        sender.publish(b"work", b"%d" % number)
    await eventually(lambda: len(one) + len(two) == 200)
    assert one
    assert two


async def test_a_receiver_that_raises(bus: Bus, log: list[str]) -> None:
    """Its failure is logged, and ends neither its subscription nor anything else."""
    got: list[bytes] = []

    def receive(_subject: bytes, _reply: bytes, _block: bytes | None, payload: bytes) -> None:
        got.append(payload)
        raise RuntimeError(f"no {payload.decode()}")

    await bus.subscribe("bad", receive)
    await bus.flush()
    for number in range(3):
        bus.publish(b"bad", b"%d" % number)
    await eventually(lambda: len(got) == 3)
    assert sum("no 1" in line for line in log) == 1


async def test_close_ends_it_at_once(bus: Bus) -> None:
    """Nothing is received after it, and closing twice is no mistake."""
    got: list[Message] = []
    subscription = await bus.subscribe("a", lambda *message: got.append(message))
    bus.publish(b"a", b"1")
    await bus.flush()
    await eventually(lambda: got)
    bus.publish(b"a", b"on its way")
    await subscription.close()
    await subscription.close()
    bus.publish(b"a", b"2")
    await bus.flush()
    await asyncio.sleep(0)
    assert [message[3] for message in got] == [b"1"]


async def test_drain_receives_all_that_the_server_had_sent(connected: Any, server: NatsServer) -> None:
    """What a queue group's member is sent before its UNSUB is received before `drain` returns; another member gets the rest."""
    leaving, staying, sender = [await connected(server.url) for _ in range(3)]
    gone: list[bytes] = []
    subscription = await leaving.subscribe("work", lambda _, __, ___, payload: gone.append(payload), queue="g")
    await leaving.flush()
    kept = await collect(staying, "work", "g")
    for number in range(3000):
        sender.publish(b"work", b"%d" % number)
        if number == 1500:
            await sender.flush()
            draining = asyncio.create_task(subscription.drain())
            await asyncio.sleep(0)
    await draining
    at_drain = len(gone)
    await sender.flush()
    await eventually(lambda: len(gone) + len(kept) == 3000)
    assert len(gone) == at_drain > 0


async def test_subscriptions_survive_a_restart_of_the_server(bus: Bus, server: NatsServer) -> None:
    """All of them, the one for replies included; those that were closed stay closed."""
    got = await collect(bus, "a", "q")
    closed: list[Message] = []
    subscription = await bus.subscribe("a", lambda *message: closed.append(message))
    await subscription.close()
    server.kill()
    await eventually(lambda: not bus.connected)
    during: list[Message] = []
    await bus.subscribe("a", lambda *message: during.append(message))
    server.start()
    await eventually(lambda: bus.connected)
    bus.publish(b"a", b"again")
    await eventually(lambda: got and during)
    assert not closed
    with pytest.raises(Unavailable):
        await bus.request(b"nobody", b"", timeout=10)


async def test_a_subscription_ended_while_away_does_not_come_back(bus: Bus, server: NatsServer) -> None:
    """Drain and close are immediate without a server, because nothing can come any more."""
    got: list[Message] = []
    first = await bus.subscribe("a", lambda *message: got.append(message))
    second = await bus.subscribe("a", lambda *message: got.append(message))
    server.kill()
    await eventually(lambda: not bus.connected)
    await first.drain()
    await second.close()
    server.start()
    await eventually(lambda: bus.connected)
    bus.publish(b"a", b"")
    await bus.flush()
    assert not got


async def test_a_drain_ends_when_the_connection_does(bus: Bus, server: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is killed under a drain does not hold it up."""
    for transport in (fast, stock):
        monkeypatch.setattr(transport, "PATIENCE", 600)
    subscription = await bus.subscribe("a", lambda *_: None)
    await bus.flush()
    server.pause()
    task = asyncio.create_task(subscription.drain())
    await asyncio.sleep(0.01)
    server.kill()
    async with asyncio.timeout(30):
        await task


@pytest.mark.parametrize("subject", ["", "a b", "a\r\nPUB x 0", "a..b", "a.>.b", ".a", "a.", "a\tb", "x" * 2000])
async def test_a_subject_that_cannot_be_subscribed_to(bus: Bus, subject: str) -> None:
    """It is refused here: the server would end the connection, or worse, do as it says."""
    with pytest.raises(ValueError, match="subject"):
        await bus.subscribe(subject, lambda *_: None)


@pytest.mark.parametrize("queue", ["a b", "a\r\nPUB x 0", "a\n", "x" * 300])
async def test_a_queue_group_that_cannot_be(bus: Bus, queue: str) -> None:
    """It is refused here too."""
    with pytest.raises(ValueError, match="queue group"):
        await bus.subscribe("a", lambda *_: None, queue=queue)


async def test_a_subscription_that_the_server_refuses_is_logged(connected: Any, log: list[str]) -> None:
    """Once, with the subject; the connection goes on."""
    rules = "users = [{ user: a, password: a, permissions: { subscribe: ['_INBOX.>', 'ok'] } }]"
    with NatsServer(f"authorization {{ {rules} }}") as server:
        bus = await connected(server.url, nats_user="a", nats_password="a")
        await bus.subscribe("Denied.Subject", lambda *_: None)
        await bus.flush()
        await eventually(lambda: any("denied.subject" in line.lower() for line in log))
        got = await collect(bus, "ok")
        bus.publish(b"ok", b"")
        await eventually(lambda: got)
    assert sum("denied.subject" in line.lower() for line in log) == 1


@pytest.mark.parametrize("transport", ["stock"], indirect=True)  # the fast one waits for nothing as it begins one
@pytest.mark.parametrize("held", [1, 2])
async def test_who_is_cancelled_while_it_begins_to_hear_leaves_no_subscription(
    bus: Any, monkeypatch: pytest.MonkeyPatch, held: int
) -> None:
    """Neither of the two: each stayed with the server until the connection ended."""
    subscribe, before, begun, go_on = bus._client.subscribe, len(bus._client._subs), list[str](), asyncio.Event()

    async def slow(subject: str, *rest: Any, **options: Any) -> Any:
        made = await subscribe(subject, *rest, **options)
        begun.append(subject)
        if len(begun) == held:
            await go_on.wait()
        return made

    monkeypatch.setattr(bus._client, "subscribe", slow)
    hearing = asyncio.create_task(hear(bus, Subjects(""), "order.*", lambda *_: None))
    await eventually(lambda: len(begun) == held)
    hearing.cancel()
    await asyncio.wait([hearing])
    assert hearing.cancelled()
    go_on.set()
    await eventually(lambda: len(bus._client._subs) == before)
    assert [interest.subject for interest in bus._interests.values()] == [bus._mux.subject]
    assert list(bus._subscriptions) == [interest.number for interest in bus._interests.values()]
