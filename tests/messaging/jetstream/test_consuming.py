"""Durable events from publish to ack, retry and parking, on a real server."""

import asyncio
import threading
from contextlib import AsyncExitStack
from typing import Any

import pytest

from cliffracer.errors import Internal, InvalidInput
from cliffracer.messaging import pull
from cliffracer.messaging.broker import Parked
from cliffracer.messaging.bus import connect
from cliffracer.messaging.deadletters import DeadLetters, cause
from cliffracer.messaging.jetstream import JetStream
from cliffracer.messaging.pull import BYTES, TOTAL, Pull
from cliffracer.settings import Settings
from cliffracer.wire.subjects import Subjects
from tests.messaging.jetstream.conftest import Join
from tests.messaging.jetstream.support import asked_of, consuming, publisher
from tests.messaging.notes import Notes
from tests.support.nats import NatsServer
from tests.support.waiting import eventually

pytestmark = pytest.mark.both_transports


async def parked(jetstream: JetStream, subjects: Subjects) -> list[Parked]:
    return [letter async for letter in DeadLetters(jetstream, subjects).ls()]


async def test_an_event_is_handled_and_acknowledged(jetstream: JetStream, subjects: Subjects):
    """What is published reaches the function once, and its consumer has nothing left."""
    handler = Notes()
    async with consuming(jetstream, subjects, handler) as consumption:
        await publisher(jetstream, subjects).publish("events.user.created", b"1")
        await eventually(lambda: handler.seen)

    async def nothing_left() -> bool:  # the server takes an ack and a question in no certain order
        info = await jetstream.consumer("EVENTS", "users-welcome")
        return (info.num_ack_pending, info.num_pending) == (0, 0)

    await eventually(nothing_left)
    assert handler.seen == [("events.user.created", b"1", 1)]
    assert consumption.counts.handled == 1


async def test_a_failure_is_delivered_again_after_the_time_declared(jetstream: JetStream, subjects: Subjects):
    """An exception makes the event come back, with a higher attempt, until the function succeeds."""
    handler = Notes(lambda delivery: ValueError("not yet") if delivery.attempt < 3 else None)
    async with consuming(jetstream, subjects, handler, retry=(0.05, 0.05)):
        await publisher(jetstream, subjects).publish("events.user.created", b"1")
        await eventually(lambda: len(handler.seen) == 3)
    assert [attempt for _, _, attempt in handler.seen] == [1, 2, 3]
    assert await parked(jetstream, subjects) == []


async def test_a_failure_of_the_last_attempt_is_parked_with_what_went_wrong(jetstream: JetStream, subjects: Subjects):
    """The dead letter has subject, headers, payload, attempts, error, traceback, service and function."""
    handler = Notes(lambda _: ValueError("no such user"))
    async with consuming(jetstream, subjects, handler, retry=(0.05,)) as consumption:
        await publisher(jetstream, subjects).publish("events.user.created", b"payload", {"X-Correlation-ID": "c1"}, message_id="m1")
        await eventually(lambda: consumption.counts.parked == 1)
    [letter] = await parked(jetstream, subjects)
    assert (letter.subject, letter.service, letter.function, letter.attempts) == ("user.created", "users", "welcome", 2)
    assert (letter.payload, letter.headers, letter.error) == (b"payload", {"X-Correlation-ID": "c1"}, "ValueError: no such user")
    assert letter.traceback.startswith("Traceback")
    assert "\n" in letter.traceback
    assert (await jetstream.consumer("EVENTS", "users-welcome")).num_ack_pending == 0


@pytest.mark.parametrize("flags", ["feature_flags { js_ack_fc_v2: true }", "feature_flags { js_ack_fc_v2: false }"], ids=["long", "short"])
async def test_acks_go_wherever_the_server_wants_them(subjects: Subjects, flags: str):
    """Whether its ack subjects name domain and account, as those of later servers do, or not (ADR-15): also of what comes again."""
    handler = Notes(lambda delivery: Internal() if delivery.payload == b"7" and delivery.attempt == 1 else None)
    with NatsServer(flags, jetstream=True) as server:
        bus = await connect(Settings(nats_url=server.url, wait=5.0), name="test")
        async with consuming(JetStream(bus), subjects, handler, retry=(0.01,)) as consumption:
            for number in range(20):
                await publisher(JetStream(bus), subjects).publish("events.user.created", b"%d" % number)
            await eventually(lambda: len(handler.seen) >= 21 and not consumption.in_hand)
            await bus.flush()
            info = await JetStream(bus).consumer("EVENTS", "users-welcome")
        await bus.close()
    assert [(payload, attempt) for _, payload, attempt in handler.seen if payload == b"7"] == [(b"7", 1), (b"7", 2)]
    assert (info.num_ack_pending, info.num_pending, info.ack_floor.stream_seq) == (0, 0, 20)


async def test_poison_is_parked_at_once(jetstream: JetStream, subjects: Subjects):
    """Input that cannot be decoded is tried once only, and the events around it are handled."""
    handler = Notes(lambda delivery: InvalidInput("no") if delivery.payload == b"500" else None)
    publish = publisher(jetstream, subjects).publish
    async with consuming(jetstream, subjects, handler, retry=(60,)):
        for number in range(1000):
            await publish("events.user.created", b"%d" % number)
        await eventually(lambda: len(handler.seen) >= 1000)
    assert sorted(handler.payloads) == sorted(b"%d" % number for number in range(1000))
    assert [letter.payload for letter in await parked(jetstream, subjects)] == [b"500"]


async def test_two_replicas_share_the_events(join: Join, subjects: Subjects):
    """Each event goes to one of the replicas."""
    handlers = [Notes(), Notes()]
    first, second = [JetStream(await join()) for _ in handlers]
    async with consuming(first, subjects, handlers[0], limit=2), consuming(second, subjects, handlers[1], limit=2):
        for number in range(200):
            await publisher(first, subjects).publish("events.user.created", b"%d" % number)
        await eventually(lambda: sum(len(handler.seen) for handler in handlers) >= 200)
    assert sorted(handlers[0].payloads + handlers[1].payloads) == sorted(b"%d" % number for number in range(200))
    assert all(handler.seen for handler in handlers)


async def test_a_dead_letter_is_replayed_to_the_function_that_failed_only(jetstream: JetStream, subjects: Subjects):
    """Others that subscribe to the event do not see it again, and the letter is gone."""
    broken = True
    failing = Notes(lambda _: ValueError("broken") if broken else None)
    other = Notes()
    dead = DeadLetters(jetstream, subjects)
    async with consuming(jetstream, subjects, failing, retry=()), consuming(jetstream, subjects, other, "user.>", "audit"):
        await publisher(jetstream, subjects).publish("events.user.created", b"old", {"X-Correlation-ID": "c1"})
        await eventually(lambda: failing.seen and other.seen)
        letters: list[Parked] = []
        while not letters:
            letters = await parked(jetstream, subjects)
        broken = False
        await dead.replay(letters[0].id, payload=b"new")
        await eventually(lambda: len(failing.seen) == 2)
    assert failing.seen[1] == ("events.user.created", b"new", 1)
    assert other.payloads == [b"old"]
    assert await parked(jetstream, subjects) == []


def test_an_error_that_is_its_own_cause_has_an_end():
    """Python lets it be, alone or with others: what is looked for behind it is found all the same, and the loop goes on."""
    alone, one, other = Internal("alone"), Internal("one"), Internal("other")
    alone.__cause__ = alone
    one.__cause__, other.__cause__ = other, one
    plain = Internal("plain")
    plain.__cause__ = ValueError("really")
    assert [str(cause(error)) for error in (alone, one, plain)] == [str(alone), str(one), "really"]


async def test_large_events_come_a_few_at_a_time(jetstream: JetStream, subjects: Subjects, monkeypatch: pytest.MonkeyPatch):
    """A server cuts off whoever asks for a hundred of nearly a megabyte and cannot read them at once; those come again after a while."""
    publish, handler, news = publisher(jetstream, subjects).publish, Notes(), [[0]]
    send, receive = jetstream.bus.publish, Pull._receive

    def asking(subject: bytes, *rest: Any, **options: Any) -> None:
        if b".MSG.NEXT." in subject:
            news.append([])
        send(subject, *rest, **options)

    def receiving(self: Pull, subject: bytes, reply: bytes, block: bytes | None, payload: bytes) -> None:
        news[-1].append(len(payload))
        receive(self, subject, reply, block, payload)

    for number in range(20):
        await publish("events.user.created", b"%d" % (number % 10) * 900_000)
    monkeypatch.setattr(jetstream.bus, "publish", asking)
    monkeypatch.setattr(Pull, "_receive", receiving)
    async with consuming(jetstream, subjects, handler, start="all") as consumption:
        await eventually(lambda: len(handler.seen) == 20)
        assert consumption.pull.resets == 0
    assert max(map(sum, news)) <= BYTES


async def test_the_functions_of_a_service_share_what_is_asked_for_at_once(
    jetstream: JetStream, subjects: Subjects, monkeypatch: pytest.MonkeyPatch
):
    """However many there are, what is on its way to all of them together is less than a server keeps for a client that is slow to read."""
    asked = asked_of(jetstream, monkeypatch)
    functions = [consuming(jetstream, subjects, Notes(), function=f"function{number}") for number in range(20)]
    async with AsyncExitStack() as stack:
        for function in functions:
            await stack.enter_async_context(function)
    assert len(asked) == 20
    assert sum(request["max_bytes"] for request in asked) <= TOTAL


async def test_an_event_larger_than_the_server_takes_by_now_is_handled(
    jetstream: JetStream, subjects: Subjects, monkeypatch: pytest.MonkeyPatch
):
    """The limit was lowered since: a request for less than one message would bring none, for ever."""
    handler = Notes()
    await publisher(jetstream, subjects).publish("events.user.created", b"1" * 900_000)
    monkeypatch.setattr(pull, "BYTES", 1000)
    monkeypatch.setattr(jetstream.bus, "max_payload", 1000)
    async with consuming(jetstream, subjects, handler, start="all") as consumption:
        await eventually(lambda: handler.seen)
        assert consumption.pull.resets == 0


async def test_what_was_sent_before_a_consumer_was_asked_anew_is_handled(
    server: NatsServer, jetstream: JetStream, subjects: Subjects, monkeypatch: pytest.MonkeyPatch
):
    """After a while in which NATS hung, say: it would come again only when nobody had said anything for the whole ack wait."""
    handler = Notes()

    async def publish_ten() -> None:
        bus = await connect(Settings(nats_url=server.url), name="other")
        for number in range(10):
            await publisher(JetStream(bus), subjects).publish("events.user.created", b"%d" % number)
        while (await JetStream(bus).consumer("EVENTS", "users-welcome")).num_ack_pending < 10:
            pass
        await bus.close()

    def meanwhile() -> None:
        other = threading.Thread(target=asyncio.run, args=(publish_ten(),))
        other.start()
        other.join()  # nothing is read here until then

    async with consuming(jetstream, subjects, handler, ack_wait=300.0) as consumption:
        subscription = consumption.pull._subscription
        for way in ("close", "drain"):
            monkeypatch.setattr(subscription, way, lambda end=getattr(subscription, way): meanwhile() or end())
        consumption.pull.lose()
        await eventually(lambda: len(handler.seen) == 10)
    assert {attempt for _, _, attempt in handler.seen} == {1}


async def test_a_request_that_was_lost_is_made_again(jetstream: JetStream, subjects: Subjects, monkeypatch: pytest.MonkeyPatch):
    """Nobody answers it, not even by a sign of life, and the connection is as it was: that is silence, and noticed."""
    send, lost, handler = jetstream.bus.publish, list[bytes](), Notes()

    def losing(subject: bytes, *given: Any, **options: Any) -> None:
        if b".MSG.NEXT." in subject and not lost:
            lost.append(subject)
        else:
            send(subject, *given, **options)

    monkeypatch.setattr(jetstream.bus, "publish", losing)
    running = consuming(jetstream, subjects, handler)
    running.consumption.pull._heartbeat = 0.1
    async with running as consumption:
        await publisher(jetstream, subjects).publish("events.user.created", b"1")
        await eventually(lambda: handler.payloads == [b"1"])
        assert consumption.pull.resets > 0
