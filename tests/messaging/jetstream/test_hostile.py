"""Stored messages that somebody wrote to do harm."""

import pytest

from benchmarks.load.nats import Connection, connect
from cliffracer.errors import InvalidInput, NotFound
from cliffracer.messaging.deadletters import DeadLetters
from cliffracer.messaging.ensuring import agreements, ensure_stream
from cliffracer.messaging.jetstream import JetStream
from cliffracer.messaging.locks import Lock
from cliffracer.messaging.objects import ObjectStore
from cliffracer.messaging.plans import Every
from cliffracer.messaging.stores import Bucket
from cliffracer.messaging.streams import events_stream, timer_subject, timers_stream
from cliffracer.messaging.timers import Timer
from cliffracer.messaging.transport.stock import StockBus
from cliffracer.wire.subjects import Subjects
from tests.messaging.jetstream.support import consuming
from tests.messaging.notes import Notes
from tests.support.nats import NatsServer
from tests.support.waiting import eventually


async def test_hostile_stored_messages_are_parked(jetstream: JetStream, subjects: Subjects, server: NatsServer):
    """Messages that end the reader of a stock client are delivered, judged and parked like any other poison.

    On the stock transport those that nats-py cannot read are dropped and told of; the others are parked all the same.
    """
    hostile = [
        b"PUB events.user.\xff\xfe 0\r\n\r\n",
        *(
            b"HPUB events.user.created %d %d\r\n%b\r\n" % (len(block), len(block), block)
            for block in (
                b"NATS/1.0",
                b"NATS/1.0 503\r\n\r\n",
                b"NATS/1.0\r\nStatus: 503\r\n: x\r\n\xff: \xff\r\nNats-Own: all\r\n\r\n",
            )
        ),
    ]
    peer = Connection()
    await connect(server.url, peer)
    readable = 2 if isinstance(jetstream.bus, StockBus) else len(hostile)
    handler = Notes(lambda _: InvalidInput("poison"))
    async with consuming(jetstream, subjects, handler, "user.*") as consumption:
        peer.transport.write(b"".join(hostile))
        await eventually(lambda: consumption.counts.parked == readable)
    assert len([letter async for letter in DeadLetters(jetstream, subjects).ls()]) == readable
    peer.transport.close()


JUNK = [b"junk", b"5", b'{"owner": "\xff"}', b'{"x": ' + b"[" * 100_000]


@pytest.mark.parametrize("junk", JUNK, ids=["no JSON", "a number", "no text", "deep"])
async def test_a_record_that_nobody_can_read_is_none(jetstream: JetStream, subjects: Subjects, junk: bytes):
    """A lock is free, an object is not there, a timer starts, and a stream is widened: each goes on as if nothing had been written."""

    async def run() -> None:
        return

    files = ObjectStore(jetstream, Bucket("files"))
    await files.put("a", b"a")
    await files.put("b", b"b")
    await jetstream.store(files._meta("a"), junk)
    assert [info.name for info in await files.list()] == ["b"]
    with pytest.raises(NotFound, match="files has no a"):
        await files.read("a")
    async with Lock(jetstream, subjects, "job"):
        pass
    await jetstream.store(agreements("", "locks.job")[1], junk)
    async with Lock(jetstream, subjects, "job", wait=5):
        pass
    await ensure_stream(jetstream, timers_stream(subjects))
    await jetstream.store(timer_subject(subjects, "reports-purge-timer"), junk)
    timer = Timer(jetstream, subjects, "reports", "purge", Every(3600.0), run)
    await timer.start()
    await timer.drain(2)
    await ensure_stream(jetstream, events_stream(subjects))
    await jetstream.store(agreements("", "streams.EVENTS")[1], junk)
    widened = await ensure_stream(jetstream, events_stream(subjects, later=True))
    assert widened.config["sources"]
