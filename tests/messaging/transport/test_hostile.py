"""Messages that a peer makes up: whatever they are, they end neither the connection nor a subscription."""

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from cliffracer.messaging.bus import Bus
from cliffracer.wire.subjects import is_inbox
from tests.support.nats import NatsServer
from tests.support.waiting import eventually


def with_headers(block: bytes, payload: bytes = b"") -> bytes:
    return b"HPUB u.a %d %d\r\n%b%b\r\n" % (len(block), len(block) + len(payload), block, payload)


POISON = {
    "subject that is no UTF-8": b"PUB u.\xff 1\r\nA\r\n",
    "reply that is no UTF-8": b"PUB u.a r\xff 1\r\nA\r\n",
    "header block without a line": with_headers(b"NATS/1.0"),
    "header block of one byte": with_headers(b"x", b"A"),
    "headers that are no headers": with_headers(b"\xff\xfe: \r\n:::\r\n\r\n", b"A"),
    "status that is no number": with_headers(b"NATS/1.0 503 \xff\xfe\xff\r\n\r\n"),
    "status of letters": with_headers(b"NATS/1.0 \xff\xfe\xff\r\n\r\n"),
    "status of a server": with_headers(b"NATS/1.0 503\r\n\r\n"),
    "heartbeat of a server": with_headers(b"NATS/1.0 100 Idle Heartbeat\r\nNats-Consumer-Stalled: $JS.API\r\n\r\n"),
    "control characters": b"PUB u.\x01\x7f\x00\x1b[31m 1\r\nA\r\n",
    "payload that looks like protocol": b"PUB u.a 42\r\n\r\nMSG u.a 1 5\r\nhello\r\n-ERR 'Stale'\r\nPING\r\n\r\n",
    "vertical tab for a blank": b"PUB u.a\x0b1 1\r\nA\r\n",
    "carriage returns in subject and reply": b"PUB u.a\rb 1\r\nA\r\nPUB u.\r\r r\r 1\r\nA\r\n",
    "form feed for a blank": b"PUB u.a\x0cx r\x0c1 1\r\nA\r\n",
}


@pytest.fixture
def peer(server: NatsServer) -> Iterator[socket.socket]:
    """A client that writes what it likes to the server."""
    with socket.create_connection(("127.0.0.1", server.port)) as raw:
        raw.recv(65_536)
        raw.sendall(b'CONNECT {"verbose":false,"headers":true,"protocol":1}\r\n')
        yield raw


@pytest.mark.parametrize("poison", POISON.values(), ids=POISON.keys())
async def test_a_hostile_message_changes_nothing(bus: Bus, peer: socket.socket, poison: bytes, log: list[str]) -> None:
    """Subscriptions, requests and the connection go on as if it had not come."""
    got: list[bytes] = []
    await bus.subscribe("u.>", lambda _, __, ___, payload: got.append(payload))
    await bus.subscribe("echo", lambda _, reply, __, payload: bus.publish(reply, payload))
    await bus.flush()
    peer.sendall(poison * 3 + b"PUB u.z 4\r\nlast\r\n")
    await eventually(lambda: b"last" in got)
    assert (await bus.request(b"echo", b"x", timeout=20)).payload == b"x"
    assert not any("lost" in line for line in log)


async def test_a_peer_does_not_choose_the_subscription(bus: Bus, peer: socket.socket) -> None:
    """VT and FF in a subject are not blanks: the number after them is not taken for a subscription's id."""
    inner: list[bytes] = []
    outer: list[bytes] = []
    await bus.subscribe("guarded", lambda subject, _, __, ___: inner.append(subject))
    await bus.subscribe("public.>", lambda subject, _, __, ___: outer.append(subject))
    await bus.flush()
    for blank in (b"\x0b", b"\x0c"):
        for number in range(6):
            peer.sendall(b"PUB public.a%b%d x 1\r\nA\r\n" % (blank, number))
    await eventually(lambda: len(outer) == 12)
    assert inner == []


async def test_a_stored_hostile_message_does_not_return_as_an_outage(connected: Any, log: list[str]) -> None:
    """JetStream delivers it again and again, and the connection stays."""
    with NatsServer(jetstream=True) as server:
        bus = await connected(server.url)
        await bus.request(b"$JS.API.STREAM.CREATE.S", b'{"name":"S","subjects":["u.>"]}', timeout=5)
        with socket.create_connection(("127.0.0.1", server.port)) as raw:
            raw.recv(65_536)
            raw.sendall(b'CONNECT {"verbose":false,"headers":true}\r\nPUB u.\xff 1\r\nA\r\n')
            raw.sendall(with_headers(b"NATS/1.0") + b"PUB u.ok 1\r\nB\r\nPING\r\n")
            while b"PONG" not in raw.recv(65_536):
                pass
        got: list[bytes] = []
        inbox = bus.private_subject()
        await bus.subscribe(inbox, lambda _, __, ___, payload: got.append(payload))
        push = b'{"stream_name":"S","config":{"deliver_subject":"%b","ack_policy":"none","deliver_policy":"all"}}' % inbox.encode()
        for _ in range(3):
            await bus.request(b"$JS.API.CONSUMER.CREATE.S", push, timeout=5)
        await eventually(lambda: got.count(b"B") == 3)
        assert bus.connected
        assert not any("lost" in line for line in log)


@pytest.mark.parametrize(
    ("reply", "answered"),
    [
        (b"_INBOX.abc.1", True),
        (b"_INBOX_payments.abc.1", True),
        (b"_R_.abcdef.ghijkl", True),
        (b"_GR_.c1.s1._INBOX.abc.1", True),
        (b"_GR_.c1.s1.events.user.created", False),
        (b"_GR_.events", False),
        (b"_INBOXES.of.mine", False),
        (b"events.user.created", False),
        (b"$JS.API.STREAM.DELETE.S", False),
        (b"cliffracer.cancel.users", False),
        (b"_INBOX.a\rb", False),
        (b"", False),
    ],
)
def test_replies_go_to_inboxes_only(reply: bytes, *, answered: bool) -> None:
    """A reply subject that a caller could aim at is not answered."""
    assert is_inbox(reply) is answered
