"""Stored messages that somebody wrote to do harm."""

from typing import Any

from cliffracer.errors import InvalidInput
from cliffracer.messaging.bus import Bus
from cliffracer.messaging.deadletters import DeadLetters
from cliffracer.messaging.jetstream import JetStream
from cliffracer.wire.subjects import Subjects
from tests.messaging.jetstream.support import Recorder, consuming, until


async def test_hostile_stored_messages_are_parked(jetstream: JetStream, subjects: Subjects, bus: Bus):
    """Messages that end the reader of a stock client are delivered, judged and parked like any other poison."""
    hostile: list[dict[str, Any]] = [
        {"subject": b"events.user.\xff\xfe", "block": None},
        {"subject": b"events.user.created", "block": b"NATS/1.0"},
        {"subject": b"events.user.created", "block": b"NATS/1.0 503\r\n\r\n"},
        {"subject": b"events.user.created", "block": b"NATS/1.0\r\nStatus: 503\r\n: x\r\n\xff: \xff\r\nNats-Own: all\r\n\r\n"},
    ]
    handler = Recorder(lambda _: InvalidInput("poison"))
    async with consuming(jetstream, subjects, handler, "user.*") as consumption:
        for message in hostile:
            bus.publish(message["subject"], b"", message["block"])
        await until(lambda: consumption.counts.parked == len(hostile))
    assert len([letter async for letter in DeadLetters(jetstream, subjects).ls()]) == len(hostile)
