"""The messages of a stream without a consumer: in batches where the server has them, and one by one where not."""

from collections.abc import Callable
from typing import Any

import pytest

from cliffracer.messaging import batches
from cliffracer.messaging.batches import messages
from cliffracer.messaging.bus import connect
from cliffracer.messaging.jetstream import Done, JetStream, Stored
from cliffracer.settings import Settings
from tests.support.nats import NatsServer

ODD = [
    None,
    b"NATS/1.0\r\nA: 1\r\nA: 2\r\n\r\n",
    b"NATS/1.0\r\nNats-Stream: OTHER\r\nNats-Subject: other\r\nNats-Sequence: 7\r\nNats-Time-Stamp: never\r\n\r\n",
    b"NATS/1.0 204 EOB\r\nNats-Num-Pending: 0\r\n\r\n",
    b"NATS/1.0 404 Message Not Found\r\n\r\n",
]
"""Headers that a message may have been stored with, although they look like the server's."""


class Older(JetStream):
    """A server that knows no batches."""

    version = (2, 10, 29)


async def made(jetstream: JetStream, **more: Any) -> None:
    """Make the stream."""
    config = {"name": "LETTERS", "subjects": ["letters.>", "others"], "allow_direct": True, **more}
    await jetstream.ask("STREAM.CREATE.LETTERS", config, dict)


async def listed(jetstream: JetStream, after: int = 0) -> list[Stored]:
    """Return all messages from a number on."""
    return [one async for one in messages(jetstream, "LETTERS", "letters.>", after=after)]


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many messages each batch had."""
    sizes: list[int] = []
    batch = batches._batch

    async def count(*arguments: Any) -> list[Stored]:
        found = await batch(*arguments)
        sizes.append(len(found))
        return found

    monkeypatch.setattr(batches, "_batch", count)
    return sizes


@pytest.mark.both_transports
async def test_batches_have_what_messages_that_are_asked_for_singly_have(jetstream: JetStream, counted: list[int]):
    """Each once and in order, whatever its headers pretend, between others and across what is gone; in as many batches as it takes.

    Where headers do not arrive as they were sent, there are none: nobody could tell the server's from those of a message.
    """
    await made(jetstream)
    for number in range(700):
        await jetstream.store("others" if number % 7 == 5 else f"letters.{number}", b"%d" % number, ODD[number % len(ODD)])
    for number in (1, 30, *range(100, 160), 700):
        await jetstream.ask("STREAM.MSG.DELETE.LETTERS", {"seq": number}, Done)
    singly = await listed(Older(jetstream.bus))
    assert len(singly) > 500
    assert await listed(jetstream) == singly
    if jetstream.bus.exact:
        assert (len(counted), counted[:9], counted[-1]) == (11, [1, 2, 4, 8, 16, 32, 64, 128, 256], 0)
    else:
        assert not counted
    assert await listed(jetstream, after=159) == [one for one in singly if one.seq > 159]
    assert await listed(jetstream, after=700) == []


@pytest.mark.parametrize("_transport", ["fast"], indirect=True)
async def test_what_is_held_at_once_is_bounded(jetstream: JetStream, counted: list[int], monkeypatch: pytest.MonkeyPatch):
    """A batch ends at its size in bytes; who stops early has asked for few."""
    monkeypatch.setattr(batches, "BYTES", 100_000)
    await made(jetstream)
    for number in range(20):
        await jetstream.store(f"letters.{number}", bytes(40_000))
    assert len(await listed(jetstream)) == 20
    assert max(counted) <= 3
    counted.clear()
    async for one in messages(jetstream, "LETTERS", "letters.>"):
        if one.seq == 3:
            break
    assert counted == [1, 2]


async def test_older_servers_are_asked_for_some_at_once(jetstream: JetStream, monkeypatch: pytest.MonkeyPatch):
    """One round trip after the other would take long for thousands; where many are gone, few are asked for in vain."""
    older = Older(jetstream.bus)
    await made(older)
    for number in range(300):
        await jetstream.store(f"letters.{number}", b"1")
    asked, running, most = 0, 0, 0
    ask = older.next_message

    async def count(*arguments: Any) -> Stored | None:
        nonlocal asked, running, most
        asked, running = asked + 1, running + 1
        most = max(most, running)
        try:
            return await ask(*arguments)
        finally:
            running -= 1

    monkeypatch.setattr(older, "next_message", count)
    assert len(await listed(older)) == 300
    assert (most, asked < 400) == (32, True)


async def test_without_direct_gets_messages_are_asked_for_singly(jetstream: JetStream):
    """A stream that others made may not allow them."""
    await made(jetstream, allow_direct=False)
    for number in range(50):
        await jetstream.store(f"letters.{number}", b"1")
    assert [one.seq for one in await listed(jetstream)] == [*range(1, 51)]


async def test_who_may_not_ask_for_batches_asks_for_each_message():
    """As a user whose permissions are of an older version."""
    with NatsServer(jetstream=True) as server:
        denied = '{publish: {deny: ["$JS.API.DIRECT.>"]}}'
        server.configure(f"authorization {{ users: [{{user: a, password: a}}, {{user: b, password: b, permissions: {denied}}}] }}")
        server.stop()
        server.start()
        one, other = [await connect(Settings(nats_url=server.url, nats_user=user, nats_password=user), name=user) for user in ("a", "b")]
        try:
            await made(JetStream(one))
            for number in range(5):
                await JetStream(one).store(f"letters.{number}", b"1")
            assert [found.seq for found in await listed(JetStream(other))] == [1, 2, 3, 4, 5]
        finally:
            await one.close()
            await other.close()


async def test_a_batch_that_is_lost_is_no_end(jetstream: JetStream, monkeypatch: pytest.MonkeyPatch):
    """The connection may break while it comes: the rest is asked for in another way."""
    await made(jetstream)
    for number in range(40):
        await jetstream.store(f"letters.{number}", b"1")
    publish: Callable[..., None] = jetstream.bus.publish

    def lossy(subject: bytes, payload: bytes, *more: Any, **others: Any) -> None:
        if b'"batch":8' not in payload:
            publish(subject, payload, *more, **others)

    monkeypatch.setattr(jetstream.bus, "publish", lossy)
    monkeypatch.setattr(batches, "AGAIN", 0.2)
    assert [one.seq for one in await listed(jetstream)] == [*range(1, 41)]
