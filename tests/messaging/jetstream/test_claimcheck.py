"""Events over the server's limit: through the object store, and nobody notices."""

import asyncio
import os
from typing import Any

import pytest

from cliffracer.errors import DeadlineExceeded, NotFound, TooLarge
from cliffracer.messaging.bus import Reply
from cliffracer.messaging.claimcheck import ClaimCheck
from cliffracer.messaging.deadletters import DeadLetters
from cliffracer.messaging.delivery import Delivery
from cliffracer.messaging.emitter import Emitter
from cliffracer.messaging.jetstream import JetStream, PubAck, StreamInfo
from cliffracer.wire.subjects import Subjects
from tests.messaging.jetstream.support import consuming
from tests.messaging.notes import Notes
from tests.support.events import event_headers
from tests.support.waiting import eventually

pytestmark = pytest.mark.both_transports


async def emit(jetstream: JetStream, subjects: Subjects, payload: bytes, event_id: str = "e1") -> bool:
    ack = await Emitter(jetstream, subjects).store("events.user.created", payload, event_headers(event_id, "user.created", "test"))
    return ack.duplicate


@pytest.mark.parametrize("size", [1_020_000, 1_048_576, 5_000_001])
async def test_a_large_event_arrives_whole(jetstream: JetStream, subjects: Subjects, size: int):
    """Around and over the limit of one message."""
    payload, handler = os.urandom(size), Notes()
    async with consuming(jetstream, subjects, handler):
        await emit(jetstream, subjects, payload)
        await eventually(lambda: handler.seen)
    assert handler.payloads == [payload]


@pytest.mark.parametrize("slower", [0, 5])
async def test_who_is_cancelled_while_a_payload_is_kept_leaves_none(jetstream: JetStream, monkeypatch: pytest.MonkeyPatch, slower: int):
    """Nothing would ever claim it, whether that is noticed before or after it is there."""
    claims = ClaimCheck(jetstream, "")
    await claims.forget(await claims.stash(b"x"))  # the bucket is there
    publish = claims._store._publisher.publish

    async def cancelling(subject: str, *given: Any, **options: Any) -> PubAck:
        if ".M." in subject:
            stashing.cancel()
            for _ in range(slower):  # who cleans up overtakes it, if it may
                await jetstream.stream_names()
        return await publish(subject, *given, **options)

    monkeypatch.setattr(claims._store._publisher, "publish", cancelling)
    stashing = asyncio.create_task(claims.stash(os.urandom(300_000)))
    await asyncio.wait([stashing])
    assert stashing.cancelled()
    async with asyncio.timeout(30):
        while (await jetstream.stream("OBJ_claims_events", subjects="$O.*.C.>")).state.subjects or await claims._store.list():  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.01)


async def test_large_events_come_in_batches_too(jetstream: JetStream, subjects: Subjects):
    """Beside small ones."""
    payloads, got = [b"small", os.urandom(2_000_000), b"also small"], []

    async def handle(deliveries: list[Delivery]) -> None:
        got.extend(delivery.payload for delivery in deliveries)

    async with consuming(jetstream, subjects, handle, batch=10):
        for number, payload in enumerate(payloads):
            await emit(jetstream, subjects, payload, f"e{number}")
        await eventually(lambda: len(got) == 3)
    assert got == payloads


async def test_an_event_whose_payload_is_gone_fails_alone(jetstream: JetStream, subjects: Subjects):
    """Those of its batch are handled, once; it is tried again and parked."""
    got: list[bytes] = []

    async def handle(deliveries: list[Delivery]) -> None:
        got.extend(delivery.payload for delivery in deliveries)

    for number, payload in enumerate([b"one", bytes(2_000_000), b"two"]):
        await emit(jetstream, subjects, payload, f"e{number}")
    await jetstream.delete_stream("OBJ_claims_events")
    async with consuming(jetstream, subjects, handle, start="all", batch=3, within=1.0, retry=(0.05,)) as consumption:
        await eventually(lambda: consumption.counts.parked == 1)
    assert (got, consumption.counts.handled, consumption.counts.failed) == ([b"one", b"two"], 2, 2)
    [letter] = [letter async for letter in DeadLetters(jetstream, subjects).ls()]
    assert (letter.attempts, letter.error.partition(" ")[0]) == (2, "NotFound:")


async def test_the_rest_of_a_batch_waits_for_one_fetch_that_nobody_answers(
    jetstream: JetStream, subjects: Subjects, monkeypatch: pytest.MonkeyPatch
):
    """Not for one after another: with the store of payloads away each takes as long as a request may."""
    got: list[bytes] = []
    asked: list[bytes | None] = []

    async def handle(deliveries: list[Delivery]) -> None:
        got.extend(delivery.payload for delivery in deliveries)

    async def redeem(self: ClaimCheck, block: bytes | None) -> bytes:  # a store that is away while the events are not takes a cluster
        asked.append(block)
        raise DeadlineExceeded("JetStream did not answer in time")

    for number, payload in enumerate([bytes(2_000_000), b"small", bytes(2_000_000)]):
        await emit(jetstream, subjects, payload, f"e{number}")
    monkeypatch.setattr(ClaimCheck, "redeem", redeem)
    async with consuming(jetstream, subjects, handle, start="all", batch=3, within=1.0, retry=()) as consumption:
        await eventually(lambda: consumption.counts.parked == 2)
    assert (got, consumption.counts.handled, len(asked)) == ([b"small"], 1, 1)


async def test_a_repetition_keeps_the_payload_of_what_it_repeats(jetstream: JetStream, subjects: Subjects, monkeypatch: pytest.MonkeyPatch):
    """Where the first answer was lost with the connection, the server tells of a duplicate: it is the one that was just stored."""
    ask, lost, handler = jetstream.bus.request, [], Notes()

    async def losing(subject: bytes, *given: Any, **options: Any) -> Reply:
        reply = await ask(subject, *given, **options)
        if subject.startswith(b"events.") and not lost:
            lost.append(subject)
            raise DeadlineExceeded("no answer in time")
        return reply

    monkeypatch.setattr(jetstream.bus, "request", losing)
    payload = os.urandom(2_000_000)
    assert await emit(jetstream, subjects, payload) is True
    async with consuming(jetstream, subjects, handler, start="all"):
        await eventually(lambda: handler.seen)
    assert handler.payloads == [payload]


async def test_a_duplicate_leaves_no_payload_behind(jetstream: JetStream, subjects: Subjects):
    """The object of an event that is stored already is removed."""
    assert await emit(jetstream, subjects, bytes(2_000_000)) is False
    before = (await jetstream.stream("OBJ_claims_events")).state.messages
    assert await emit(jetstream, subjects, bytes(2_000_000)) is True
    assert (await jetstream.stream("OBJ_claims_events")).state.messages == before + 1  # the note of its deletion


async def test_a_large_event_is_parked_and_replayed(jetstream: JetStream, subjects: Subjects):
    """Its payload stays where it is, and is claimed again."""
    payload, broken = os.urandom(2_000_000), True
    handler = Notes(lambda _: ValueError("no") if broken else None)
    dead = DeadLetters(jetstream, subjects)
    async with consuming(jetstream, subjects, handler, retry=()) as consumption:
        await emit(jetstream, subjects, payload)
        await eventually(lambda: consumption.counts.parked == 1)
        broken = False
        [letter] = [letter async for letter in dead.ls()]
        await dead.replay(letter.id)
        await eventually(lambda: len(handler.seen) == 2)
    assert handler.payloads == [payload, payload]


async def test_an_event_nearly_over_the_limit_is_parked_by_reference(jetstream: JetStream, subjects: Subjects):
    """There is no room for what went wrong beside it, so its payload goes to the object store, and away with the letter."""
    payload, broken = os.urandom(jetstream.bus.max_payload - 300), True
    dead, handler = DeadLetters(jetstream, subjects), Notes(lambda _: ValueError("no") if broken else None)
    async with consuming(jetstream, subjects, handler, retry=()) as consumption:
        await jetstream.store("events.user.created", payload)
        await eventually(lambda: consumption.counts.parked == 1)
        [letter] = [letter async for letter in dead.ls()]
        assert (letter.ours, letter.payload) == (True, b"")
        assert (await dead.show(letter.id)).payload == payload
        broken = False
        await dead.replay(letter.id)
        await eventually(lambda: len(handler.seen) == 2)
    assert handler.payloads == [payload, payload]
    with pytest.raises(NotFound):
        await ClaimCheck(jetstream, subjects.namespace).redeem_name(letter.claim)


async def test_a_parked_large_event_can_be_shown_and_edited(jetstream: JetStream, subjects: Subjects):
    """What is shown is the payload, not the reference; what is put in its place may be small, or large again."""
    payloads, broken = [os.urandom(2_000_000), b"small", os.urandom(3_000_000)], True
    dead, handler = DeadLetters(jetstream, subjects), Notes(lambda _: ValueError("no") if broken else None)
    async with consuming(jetstream, subjects, handler, retry=()) as consumption:
        await emit(jetstream, subjects, payloads[0])
        for number, payload in enumerate(payloads[1:], 2):
            await eventually(lambda number=number: consumption.counts.parked == number - 1)
            [letter] = [letter async for letter in dead.ls()]
            assert (await dead.show(letter.id)).payload == payloads[number - 2]
            broken = number < 3
            await dead.replay(letter.id, payload=payload)
        await eventually(lambda: len(handler.seen) == 3)
    assert handler.payloads == payloads


async def test_there_is_a_limit_of_ours(jetstream: JetStream, subjects: Subjects):
    """A setting; the emitter is told before anything is stored."""
    jetstream.bus.largest = 2_000_000
    with pytest.raises(TooLarge, match="2000001 bytes; NATS_MAX_MESSAGE is 2000000"):
        await emit(jetstream, subjects, bytes(2_000_001))
    assert await emit(jetstream, subjects, bytes(2_000_000)) is False


async def test_payloads_stay_as_long_as_what_they_belong_to(jetstream: JetStream, subjects: Subjects):
    """Those of events without limit, until an operator sets one, which stays; those of calls for an hour."""
    await emit(jetstream, subjects, bytes(2_000_000))
    await ClaimCheck(jetstream, subjects.namespace, "calls").stash(bytes(2_000_000))
    config = (await jetstream.stream("OBJ_claims_events")).config
    assert (config["max_age"], (await jetstream.stream("OBJ_claims_calls")).config["max_age"]) == (0, 3600 * 10**9)
    await jetstream.ask("STREAM.UPDATE.OBJ_claims_events", {**config, "max_age": 86_400 * 10**9}, StreamInfo)
    await emit(jetstream, subjects, bytes(2_000_000), "e2")
    assert (await jetstream.stream("OBJ_claims_events")).config["max_age"] == 86_400 * 10**9
