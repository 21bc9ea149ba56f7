"""Durable one-way calls at the service that takes them."""

import pytest

from cliffracer.errors import Unavailable
from cliffracer.messaging.broker import Method
from cliffracer.messaging.consumption import Consumption
from cliffracer.messaging.deadletters import DeadLetters
from cliffracer.messaging.emitter import Emitter
from cliffracer.messaging.jetstream import JetStream
from cliffracer.messaging.sends import Sends
from cliffracer.wire.subjects import Subjects
from tests.messaging.notes import Notes
from tests.support.events import event_headers
from tests.support.waiting import eventually


async def send(jetstream: JetStream, subjects: Subjects, payload: bytes) -> None:
    await Emitter(jetstream, subjects).store("send.payments.charge", payload, event_headers(payload.decode(), "payments.charge", "test"))


async def test_a_service_that_could_not_begin_begins_later(jetstream: JetStream, subjects: Subjects, monkeypatch: pytest.MonkeyPatch):
    """By itself: what is stored already is not to wait for the next call that somebody sends."""
    begin, tries, handler = Consumption.start, 0, Notes()

    async def late(consumption: Consumption) -> None:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise Unavailable("an election")
        await begin(consumption)

    monkeypatch.setattr(Consumption, "start", late)
    monkeypatch.setattr("cliffracer.messaging.sends._FIRST_PAUSE", 0.01)
    sends = Sends(jetstream, subjects, "payments", {"charge": Method(handler)})
    await sends.start()
    await send(jetstream, subjects, b"1")
    await eventually(lambda: handler.payloads == [b"1"])
    await sends.drain(1)
    assert tries == 3


async def test_a_service_that_stops_before_it_could_begin_leaves_nothing(
    jetstream: JetStream, subjects: Subjects, monkeypatch: pytest.MonkeyPatch
):
    """Its drain does not wait for what may never come."""

    async def never(_: Consumption) -> None:
        raise Unavailable("an election")

    monkeypatch.setattr(Consumption, "start", never)
    sends = Sends(jetstream, subjects, "payments", {"charge": Method(Notes())})
    await sends.start()
    await send(jetstream, subjects, b"1")
    await eventually(lambda: sends._starting is not None)
    await sends.drain(1)
    assert (sends._starting, sends.consumption, await sends.stored()) == (None, None, 1)


async def test_a_call_that_is_sent_while_a_service_begins_begins_it_once(
    jetstream: JetStream, subjects: Subjects, monkeypatch: pytest.MonkeyPatch
):
    """Its service began twice, if it was started while others sent: both took calls, and only one of them was ever stopped."""
    begin, begun, handler = Consumption.start, list[Consumption](), Notes()

    async def overtaken(consumption: Consumption) -> None:
        begun.append(consumption)
        await send(jetstream, subjects, b"%d" % len(begun))  # which wakes the service
        await jetstream.bus.flush()
        await begin(consumption)

    monkeypatch.setattr(Consumption, "start", overtaken)
    sends = Sends(jetstream, subjects, "payments", {"charge": Method(handler)})
    await send(jetstream, subjects, b"0")
    await sends.start()
    await eventually(lambda: handler.payloads == [b"0", b"1"])
    await sends.drain(1)
    assert begun == [sends.consumption]


async def test_each_method_is_tried_as_often_as_it_says(jetstream: JetStream, subjects: Subjects):
    """Then its call is parked, under its name."""
    charge, refund = Notes(lambda _: ValueError("no")), Notes(lambda _: ValueError("never"))
    sends = Sends(jetstream, subjects, "payments", {"charge": Method(charge, (0.05, 0.05, 0.05, 0.05)), "refund": Method(refund, ())})
    await sends.start()
    for method in ("charge", "refund"):
        await Emitter(jetstream, subjects).store(f"send.payments.{method}", b"1", event_headers(method, f"payments.{method}", "test"))
    await eventually(lambda: sends.consumption is not None and sends.consumption.counts.parked == 2)
    await sends.drain(1)
    assert (len(charge.seen), len(refund.seen)) == (5, 1)
    letters = {letter.function: letter.attempts async for letter in DeadLetters(jetstream, subjects).ls()}
    assert letters == {"charge": 5, "refund": 1}
