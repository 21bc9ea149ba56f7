"""Stored messages that somebody wrote to do harm."""

from benchmarks.load.nats import Connection, connect
from cliffracer.errors import InvalidInput
from cliffracer.messaging.deadletters import DeadLetters
from cliffracer.messaging.jetstream import JetStream
from cliffracer.messaging.transport.stock import StockBus
from cliffracer.wire.subjects import Subjects
from tests.messaging.jetstream.support import consuming, until
from tests.messaging.notes import Notes
from tests.support.nats import NatsServer


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
        await until(lambda: consumption.counts.parked == readable)
    assert len([letter async for letter in DeadLetters(jetstream, subjects).ls()]) == readable
    peer.transport.close()
