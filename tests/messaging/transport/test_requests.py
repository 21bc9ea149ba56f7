"""Requests and their replies."""

import asyncio
import socket
from typing import Any

import pytest

from cliffracer.errors import DeadlineExceeded, Forbidden, TooLarge, Unavailable, Unsendable
from cliffracer.messaging.bus import Bus, Reply
from cliffracer.messaging.transport import mux
from cliffracer.wire.subjects import is_inbox
from tests.support.nats import NatsServer
from tests.support.waiting import eventually

BLOCK = b"NATS/1.0\r\nX-Correlation-ID: abc\r\n\r\n"


async def echo(bus: Bus, subject: str = "echo") -> None:
    await bus.subscribe(subject, lambda _, reply, block, payload: bus.publish(reply, payload, block))
    await bus.flush()


async def ignore(bus: Bus, subject: str = "ignored") -> list[bytes]:
    seen: list[bytes] = []
    await bus.subscribe(subject, lambda _, reply, block, payload: seen.append(payload))
    await bus.flush()
    return seen


async def test_a_reply_brings_payload_and_headers(bus: Bus) -> None:
    """The reply is exactly what the other side published, header block included."""
    await echo(bus)
    assert await bus.request(b"echo", b"\x00\r\nMSG", BLOCK, timeout=20) == Reply(BLOCK, b"\x00\r\nMSG")
    assert await bus.request(b"echo", b"", timeout=20) == Reply(None, b"")


async def test_whatever_is_asked_for_arrives_whole(bus: Bus) -> None:
    """Of any size, and at a subject that was asked before, that was not, or that was asked a thousand others ago."""
    await echo(bus, "echo.>")
    for number in range(1100):
        assert await bus.request(b"echo.%d" % (number % 1050), b"%d" % number, BLOCK, timeout=20) == Reply(BLOCK, b"%d" % number)
    for size in (0, 1, 2047 - len(BLOCK), 2048 - len(BLOCK), 2048, 70_000):
        for block in (BLOCK, None):
            assert await bus.request(b"echo.0", b"x" * size, block, timeout=20) == Reply(block, b"x" * size)


@pytest.mark.parametrize("subject", [b"", b"a b", b"a\r\nPUB b 0", b"a\tb", b"a" * 5000])
async def test_a_subject_that_cannot_be_asked(bus: Bus, subject: bytes) -> None:
    """Neither the first time nor another; the connection is there for the next request."""
    await echo(bus)
    for _ in range(2):
        with pytest.raises((Unsendable, TooLarge)):
            await bus.request(subject, b"", BLOCK, timeout=20)
    assert waiting(bus) == 0
    assert await bus.request(b"echo", b"", BLOCK, timeout=20) == Reply(BLOCK, b"")


async def test_each_of_many_gets_its_own_reply(bus: Bus) -> None:
    """2,000 requests in flight on one connection are not mixed up."""
    await echo(bus)
    replies = await asyncio.gather(*(bus.request(b"echo", b"%d" % number, timeout=10) for number in range(2000)))
    assert [reply.payload for reply in replies] == [b"%d" % number for number in range(2000)]


async def test_a_subject_that_nobody_serves_is_unavailable_at_once(bus: Bus) -> None:
    """The server's answer counts, not the time-out."""
    with pytest.raises(Unavailable) as caught:
        await bus.request(b"nobody.there", b"", timeout=60)
    assert caught.value.message == "No service answers nobody.there."
    assert caught.value.details["reason"] == "nobody"


async def test_no_reply_in_time(bus: Bus) -> None:
    """The caller gets its answer at the deadline, and what it held is free."""
    await ignore(bus)
    with pytest.raises(DeadlineExceeded):
        await bus.request(b"ignored", b"", timeout=0.05)
    assert waiting(bus) == 0


async def test_a_short_deadline_behind_a_long_one(bus: Bus) -> None:
    """Deadlines are kept in any order of asking."""
    await ignore(bus)
    long = asyncio.create_task(bus.request(b"ignored", b"", timeout=60))
    await asyncio.sleep(0)
    with pytest.raises(DeadlineExceeded):
        await bus.request(b"ignored", b"", timeout=0.05)
    assert not long.done()
    long.cancel()


async def test_deadlines_one_after_the_other(bus: Bus) -> None:
    """Each is kept, also of those that were not over when the first was."""
    await ignore(bus)
    async with asyncio.timeout(30):
        requests = (bus.request(b"ignored", b"", timeout=timeout) for timeout in (0.05, 0.2, 0.4))
        ends = await asyncio.gather(*requests, return_exceptions=True)
    assert {type(end) for end in ends} == {DeadlineExceeded}


async def test_no_time_left(bus: Bus) -> None:
    """A request whose budget is spent is not sent."""
    seen = await ignore(bus)
    for timeout in (0, -1):
        with pytest.raises(DeadlineExceeded):
            await bus.request(b"ignored", b"x", timeout=timeout)
    await bus.flush()
    assert seen == []


async def test_cancelling_frees_what_a_request_held(bus: Bus) -> None:
    """A thousand abandoned requests leave nothing behind, and whoever works on them can be told."""
    seen = await ignore(bus)
    abandoned: list[bytes] = []
    tasks = [asyncio.create_task(bus.request(b"ignored", b"", timeout=60, abandoned=abandoned.append)) for _ in range(1000)]
    await eventually(lambda: len(seen) == 1000)
    assert waiting(bus) == 1000
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert waiting(bus) == 0
    assert len(set(abandoned)) == 1000


async def test_a_request_that_is_out_of_time_can_be_told_as_well(bus: Bus) -> None:
    """Its caller has given up, too."""
    await ignore(bus)
    abandoned: list[bytes] = []
    with pytest.raises(DeadlineExceeded):
        await bus.request(b"ignored", b"", timeout=0.05, abandoned=abandoned.append)
    assert len(abandoned) == 1
    assert waiting(bus) == 0


async def test_a_request_that_is_given_up_while_its_reply_is_taken(bus: Bus, log: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """As Ctrl-C does, which comes between any two instructions: it is cancelled, and nothing is said of the reply."""

    def given_up(block: bytes | None, payload: bytes) -> Reply:
        request.cancel()
        return Reply(block, payload)

    await echo(bus)
    monkeypatch.setattr(mux, "Reply", given_up)
    request = asyncio.create_task(bus.request(b"echo", b"", timeout=20))
    with pytest.raises(asyncio.CancelledError):
        await request
    assert log == []


async def test_a_timeout_of_the_callers_own_works(bus: Bus) -> None:
    """`asyncio.timeout` around a request ends it as it ends anything else."""
    await ignore(bus)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await bus.request(b"ignored", b"", timeout=60)
    assert waiting(bus) == 0


async def test_the_first_of_several_replies_counts(bus: Bus, log: list[str]) -> None:
    """Replies after the first one, and after the end, are dropped."""

    def answer(_subject: bytes, reply: bytes, _block: bytes | None, _payload: bytes) -> None:
        for number in range(3):
            bus.publish(reply, b"%d" % number)

    await bus.subscribe("thrice", answer)
    await bus.flush()
    assert (await bus.request(b"thrice", b"", timeout=20)).payload == b"0"
    assert (await bus.request(b"thrice", b"", timeout=20)).payload == b"0"
    await bus.flush()
    assert log == []


async def test_a_status_header_of_a_peer_is_only_a_header(bus: Bus) -> None:
    """A reply with a header ``Status: 503`` is a reply, and so is one with a payload and a status of its own."""
    block = b"NATS/1.0\r\nStatus: 503\r\n\r\n"
    await bus.subscribe("status", lambda _, reply, __, ___: bus.publish(reply, b"fine", block))
    await bus.flush()
    assert await bus.request(b"status", b"", timeout=20) == Reply(block, b"fine")
    with socket.create_connection(("127.0.0.1", bus.info["port"])) as peer:
        peer.recv(65_536)
        peer.sendall(b'CONNECT {"verbose":false,"headers":true}\r\nSUB own 1\r\nPING\r\n')
        while b"PONG" not in peer.recv(65_536):
            pass
        task = asyncio.create_task(bus.request(b"own", b"", timeout=20))
        await asyncio.sleep(0.05)
        inbox = peer.recv(65_536).split()[3]
        peer.sendall(b"HPUB %b 16 20\r\nNATS/1.0 503\r\n\r\nfine\r\n" % inbox)
        assert (await task).payload == b"fine"


async def test_an_oversize_request_fails_at_the_caller(bus: Bus) -> None:
    """Headers count too; the connection does not notice."""
    await echo(bus)
    room = bus.max_payload
    with pytest.raises(TooLarge):
        await bus.request(b"echo", b"x" * (room + 1), timeout=20)
    with pytest.raises(TooLarge):
        await bus.request(b"echo", b"x" * (room - 10), BLOCK, timeout=20)
    assert len((await bus.request(b"echo", b"x" * (room - len(BLOCK)), BLOCK, timeout=5)).payload) == room - len(BLOCK)
    assert waiting(bus) == 0


async def test_a_subject_that_we_may_not_publish_to_is_forbidden_at_once(connected: Any) -> None:
    """The server's refusal reaches the request that it is about, and only that."""
    rules = "users = [{ user: a, password: a, permissions: { publish: [allowed, '_INBOX.>'], subscribe: ['>'] } }]"
    with NatsServer(f"authorization {{ {rules} }}") as server:
        bus = await connected(server.url, nats_user="a", nats_password="a")
        await ignore(bus, "allowed")
        other = asyncio.create_task(bus.request(b"allowed", b"", timeout=60))
        with pytest.raises(Forbidden) as caught:
            await bus.request(b"Secret.Subject", b"", timeout=60)
        assert "Secret.Subject" in caught.value.message
        await bus.flush()  # it has had its turn, had it been told
        assert not other.done()
        other.cancel()


async def test_closing_ends_requests(bus: Bus) -> None:
    """Nobody waits for a connection that is closed."""
    await ignore(bus)
    task = asyncio.create_task(bus.request(b"ignored", b"", timeout=60))
    await asyncio.sleep(0)
    await bus.close()
    with pytest.raises(Unavailable):
        await task
    with pytest.raises(Unavailable):
        await bus.request(b"ignored", b"", timeout=60)


async def test_an_inbox_takes_any_number_of_messages(bus: Bus) -> None:
    """Inboxes share one subscription, do not mix, and are silent once closed."""
    got: dict[str, list[bytes]] = {"a": [], "b": []}
    first = bus.inbox(lambda _, __, ___, payload: got["a"].append(payload))
    second = bus.inbox(lambda _, __, ___, payload: got["b"].append(payload))
    assert is_inbox(first.subject)
    for number in range(3):
        bus.publish(first.subject, b"a%d" % number)
        bus.publish(second.subject, b"b%d" % number)
    await bus.flush()
    first.close()
    first.close()
    bus.publish(first.subject, b"late")
    await bus.flush()
    assert got == {"a": [b"a0", b"a1", b"a2"], "b": [b"b0", b"b1", b"b2"]}


async def test_who_writes_to_an_inbox_that_is_gone_is_told_at_an_inbox_only(bus: Bus) -> None:
    """Or whoever knows an old one could have us publish where he may not."""
    inbox = bus.inbox(lambda *_: None)
    inbox.close()
    heard: list[bytes] = []
    own = bus.inbox(lambda subject, *_: heard.append(subject))
    await bus.subscribe("elsewhere", lambda subject, *_: heard.append(subject))
    for place in (b"elsewhere", own.subject):
        bus.publish(inbox.subject, b"", None, place)
    await eventually(lambda: heard)
    await bus.flush()
    assert heard == [own.subject]


async def test_an_inbox_is_told_that_nobody_is_there(bus: Bus) -> None:
    """The server's status comes as a header block without payload."""
    got: list[tuple[bytes | None, bytes]] = []
    inbox = bus.inbox(lambda _, __, block, payload: got.append((block, payload)))
    bus.publish(b"nobody.there", b"", reply=inbox.subject)
    await eventually(lambda: got)
    assert got[0][0] is not None
    assert got[0][0].startswith(b"NATS/1.0 503")


async def test_a_private_inbox_prefix(connected: Any, server: NatsServer) -> None:
    """Replies go where the permissions of a deployment want them; others still take them for inboxes."""
    bus = await connected(server.url, inbox_prefix="_INBOX.payments")
    replies: list[bytes] = []

    def answer(_subject: bytes, reply: bytes, _block: bytes | None, payload: bytes) -> None:
        replies.append(reply)
        bus.publish(reply, payload)

    await bus.subscribe("ask", answer)
    await bus.flush()
    assert (await bus.request(b"ask", b"x", timeout=20)).payload == b"x"
    assert replies[0].startswith(b"_INBOX.payments.")
    assert is_inbox(replies[0])
    assert bus.private_subject().startswith("_INBOX.payments.")


async def test_a_reply_subject_says_nothing_of_the_next(bus: Bus) -> None:
    """Who was asked one thing cannot answer what others are asked: tokens are random, and no two are the same."""
    asked: list[bytes] = []
    answers = await bus.subscribe("ask", lambda _, reply, __, payload: (asked.append(reply), bus.publish(reply, payload))[1])
    await bus.flush()
    for _ in range(600):
        await bus.request(b"ask", b"", timeout=20)
    await answers.close()
    tokens = {reply.rpartition(b".")[2] for reply in asked}
    assert len(tokens) == 600
    assert {len(token) for token in tokens} == {16}
    assert len({token[:4] for token in tokens}) > 500


@pytest.mark.parametrize("prefix", ["events", "_INBOX.a b", "_INBOX.a.b", "_INBOX.", "_INBOX>", "_INBOX_payments", "", "$JS"])
async def test_an_inbox_prefix_that_others_would_not_answer(connected: Any, prefix: str) -> None:
    """It is refused before anything connects."""
    with pytest.raises(ValueError, match=r"inbox prefix|is no name"):
        await connected("nats://127.0.0.1:1", inbox_prefix=prefix)


def waiting(bus: Any) -> int:
    """How many requests and inboxes the bus holds."""
    return len(bus._mux)
