"""What consumers and publishers live through: killed servers, lost consumers and streams, dead replicas."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from loguru import logger

from cliffracer.errors import InvalidInput, NotFound, SetupError
from cliffracer.messaging.backend import JetStreamBackend
from cliffracer.messaging.consumption import Consumption
from cliffracer.messaging.deadletters import DeadLetters
from cliffracer.messaging.delivery import Delivery
from cliffracer.messaging.jetstream import JetStream, StreamInfo
from cliffracer.messaging.reading import Reader
from cliffracer.wire.subjects import Subjects
from tests.messaging.jetstream.conftest import Join
from tests.messaging.jetstream.support import consuming, publisher
from tests.messaging.notes import Notes
from tests.support.nats import NatsServer
from tests.support.waiting import eventually


async def test_what_is_removed_while_it_is_looked_at_is_not_waited_for(jetstream: JetStream, subjects: Subjects):
    """Whoever looks at all that is stored comes to an end, however many there were."""
    publish, seen = publisher(jetstream, subjects), 0
    await asyncio.gather(*(publish.publish("events.user.created", b"%d" % number) for number in range(1000)))
    async for _ in JetStreamBackend(jetstream, subjects).stored(["user.*"]):
        seen += 1
        if seen == 1:
            await jetstream.purge("EVENTS")
    assert 0 < seen < 1000


@pytest.mark.parametrize("again", [False, True])
async def test_a_stream_that_is_deleted_while_it_is_looked_at_is_told(jetstream: JetStream, subjects: Subjects, again: bool):
    """Its end is not taken for that of what was stored, and what another of its name holds not for part of it."""
    publish, seen = publisher(jetstream, subjects), []
    await asyncio.gather(*(publish.publish("events.user.created", b"%d" % number) for number in range(1000)))

    async def look() -> None:
        async for delivery in JetStreamBackend(jetstream, subjects).stored(["user.*"]):
            seen.append(delivery.payload)
            if len(seen) == 1:
                await jetstream.delete_stream("EVENTS")
                for _ in range(3 if again else 0):
                    await publish.publish("events.user.created", b"of another")

    with pytest.raises(NotFound, match=r"stream EVENTS was deleted while it was read: \d+ of its 1000 messages were not"):
        await look()
    assert b"of another" not in seen


async def test_a_killed_server_loses_nothing_and_stores_nothing_twice(jetstream: JetStream, subjects: Subjects, server: NatsServer):
    """Through three kills while publishing and consuming, every event is handled; a repeated publish is no second event."""
    handler = Notes()
    publish = publisher(jetstream, subjects)
    total, sent = 3000, 0

    async def emit(lane: int) -> None:
        nonlocal sent
        for number in range(lane, total, 16):
            await publish.publish("events.user.created", b"%d" % number, message_id=f"id-{number}", timeout=30)
            sent += 1

    async with consuming(jetstream, subjects, handler):
        lanes = [asyncio.create_task(emit(lane)) for lane in range(16)]
        for share in (0.2, 0.5, 0.8):
            await eventually(lambda share=share: sent > share * total, within=60)
            await asyncio.to_thread(server.restart)
        await asyncio.gather(*lanes)
        await eventually(lambda: len(set(handler.payloads)) == total, within=60)
    assert (await jetstream.stream("EVENTS")).state.messages == total


async def test_a_consumer_resumes_after_the_server_was_away(jetstream: JetStream, subjects: Subjects, server: NatsServer):
    """An idle consumer that saw the server die and come back gets the next event."""
    handler = Notes()
    async with consuming(jetstream, subjects, handler):
        for number in range(3):
            await asyncio.to_thread(server.restart)
            await publisher(jetstream, subjects).publish("events.user.created", b"%d" % number, timeout=20)
            await eventually(lambda number=number: len(handler.seen) == number + 1)


async def test_a_deleted_consumer_is_made_again_where_it_was(jetstream: JetStream, subjects: Subjects):
    """Events emitted between the deletion and the new consumer are handled too, and nothing that is known to be handled comes again."""
    handler = Notes()
    publish = publisher(jetstream, subjects)
    async with consuming(jetstream, subjects, handler) as consumption:
        await publish.publish("events.user.created", b"1")
        await eventually(lambda: handler.seen)
        while await consumption.waiting():
            pass
        await jetstream.delete_consumer("EVENTS", "users-welcome")
        await publish.publish("events.user.created", b"2")
        await eventually(lambda: b"2" in handler.payloads)
    assert handler.payloads == [b"1", b"2"]


async def test_a_deleted_stream_is_made_again(jetstream: JetStream, subjects: Subjects):
    """Publishers and consumers both find their way back to a stream of the same name."""
    handler = Notes()
    publish = publisher(jetstream, subjects)
    async with consuming(jetstream, subjects, handler):
        await publish.publish("events.user.created", b"1")
        await eventually(lambda: handler.seen)
        await jetstream.delete_stream("EVENTS")
        for number in range(2, 5):
            await publish.publish("events.user.created", b"%d" % number)
        await eventually(lambda: set(handler.payloads) == {b"1", b"2", b"3", b"4"})


async def test_a_long_handler_is_not_run_twice(join: Join, subjects: Subjects):
    """While a handler works, its replica tells the consumer so, and no other replica gets the event."""
    runs = 0

    async def slow(_: Delivery) -> None:
        nonlocal runs
        runs += 1
        await asyncio.sleep(2.5)

    first, second = JetStream(await join()), JetStream(await join())
    async with consuming(first, subjects, slow, ack_wait=0.6) as one, consuming(second, subjects, slow, ack_wait=0.6) as other:
        await publisher(first, subjects).publish("events.user.created", b"1")
        await eventually(lambda: one.counts.handled + other.counts.handled == 1)
    assert runs == 1


async def test_a_drain_gives_back_what_it_could_not_finish(join: Join, subjects: Subjects):
    """What a stopping replica had not finished goes to another at once, not after the ack wait."""
    started = asyncio.Event()

    async def endless(_: Delivery) -> None:
        started.set()
        await asyncio.Event().wait()

    handler = Notes()
    first, second = JetStream(await join()), JetStream(await join())
    stopping = consuming(first, subjects, endless).consumption
    await stopping.start()
    await publisher(first, subjects).publish("events.user.created", b"1")
    await started.wait()
    await stopping.drain(0.1)
    async with consuming(second, subjects, handler):
        await eventually(lambda: handler.seen, within=20)
    assert handler.seen == [("events.user.created", b"1", 2)]


async def test_a_drain_under_load_loses_nothing_and_repeats_nothing(join: Join, subjects: Subjects):
    """Replicas that stop and start while events flow handle each event exactly once."""
    handler = Notes()
    publish = publisher(JetStream(await join()), subjects)
    total, sent = 2000, 0

    async def emit() -> None:
        nonlocal sent
        for number in range(total):
            await publish.publish("events.user.created", b"%d" % number)
            sent += 1

    async def work(delivery: Delivery) -> None:
        await asyncio.sleep(0.002)
        await handler(delivery)

    streams = [JetStream(await join()) for _ in range(2)]
    async with consuming(streams[0], subjects, work) as _:
        emitting = asyncio.create_task(emit())
        for _ in range(5):
            async with consuming(streams[1], subjects, work):
                seen = len(handler.seen)
                await eventually(lambda seen=seen: len(handler.seen) > seen + 100 or len(handler.seen) == total)
        await emitting
        await eventually(lambda: len(set(handler.payloads)) == total)
    assert len(handler.seen) == total


async def test_an_event_that_nobody_finishes_is_parked(join: Join, subjects: Subjects):
    """An event whose replicas die of it is parked after as many deliveries as it has attempts, and two more."""
    stuck = JetStream(await join())

    async def hangs(_: Delivery) -> None:
        await asyncio.Event().wait()

    attempts = []
    for _ in range(3):
        consumption = consuming(stuck, subjects, hangs, retry=(), ack_wait=1.0).consumption
        await consumption.start()
        if not attempts:
            await publisher(stuck, subjects).publish("events.user.created", b"killer")
        await eventually(lambda consumption=consumption: consumption.pull.held)
        attempts.append(next(iter(consumption.pull.held.values())).attempt)
        await consumption.drain(0)
    async with consuming(stuck, subjects, hangs, retry=(), ack_wait=1.0) as consumption:
        await eventually(lambda: consumption.counts.parked == 1)
    assert attempts == [1, 2, 3]


async def test_what_a_replica_remembers_to_have_done_is_acknowledged_again_and_not_done_again(join: Join, subjects: Subjects):
    """As after the ack was lost with a server that was killed."""
    replies: list[bytes] = []

    async def handle(delivery: Delivery) -> None:
        replies.append(delivery.reply)

    jetstream, other = JetStream(await join()), await join()
    acked: list[bytes] = []
    async with consuming(jetstream, subjects, handle) as consumption:
        await publisher(jetstream, subjects).publish("events.user.created", b"1")
        await eventually(lambda: consumption.counts.handled == 1)
        await jetstream.bus.flush()  # its first ack is past the server before somebody listens
        await other.subscribe(replies[0].decode(), lambda _subject, _reply, _block, payload: acked.append(payload))
        await other.flush()
        consumption.pull._receive(b"events.user.created", replies[0], None, b"1")  # no client may send what only the server does
        await eventually(lambda: acked == [b"+ACK"])
    assert len(replies) == 1


def done_with(consumption: Consumption) -> Callable[[], Awaitable[bool]]:
    """What says whether nothing waits for a consumption, or is in hand."""

    async def nothing() -> bool:
        return await consumption.waiting() == 0

    return nothing


async def test_what_comes_again_while_a_replica_stops_is_not_given_away(join: Join, subjects: Subjects):
    """It is in hand, or done and its ack was lost: given back as what is new then, another replica handled it as well."""
    jetstream, holds, other = JetStream(await join()), asyncio.Event(), Notes()

    async def handle(delivery: Delivery) -> None:
        if delivery.payload == b"2":
            await holds.wait()

    async with consuming(jetstream, subjects, handle) as consumption:
        pull = consumption.pull
        for number in (b"1", b"2"):
            await publisher(jetstream, subjects).publish("events.user.created", number)
        await eventually(lambda: pull._finished and pull.held)
        done, held = next(iter(pull._finished.values())), next(iter(pull.held.values()))
        async with consuming(JetStream(await join()), subjects, other):
            stopping = asyncio.create_task(consumption.drain(20))
            await eventually(lambda: pull._draining)
            for reply in (done, held.reply):
                pull._receive(b"events.user.created", reply, None, b"again")
            assert list(pull.held.values()) == [held]
            holds.set()
            await stopping
            await eventually(done_with(consumption))
        assert not other.seen


async def test_a_delivery_that_nobody_finished_is_an_attempt(join: Join, subjects: Subjects):
    """A drain gave it back once, so it is tried once less than its schedule has attempts; never once more."""
    jetstream = JetStream(await join())

    async def hangs(_: Delivery) -> None:
        await asyncio.Event().wait()

    stopping = consuming(jetstream, subjects, hangs).consumption
    await stopping.start()
    await publisher(jetstream, subjects).publish("events.user.created", b"1")
    await eventually(lambda: stopping.pull.held)
    await stopping.drain(0)
    handler = Notes(lambda _: ValueError("no"))
    async with consuming(jetstream, subjects, handler, retry=(0.05, 0.05)) as consumption:
        await eventually(lambda: consumption.counts.parked == 1)
    assert [attempt for _, _, attempt in handler.seen] == [2, 3]


async def test_what_cannot_be_parked_comes_back(jetstream: JetStream, subjects: Subjects, monkeypatch: pytest.MonkeyPatch):
    """The original is only answered for good once its copy is stored."""
    monkeypatch.setattr("cliffracer.messaging.policy.PARK_AGAIN", 0.1)
    answer, answers = jetstream.bus.answer, list[bytes]()
    monkeypatch.setattr(jetstream.bus, "answer", lambda reply, words, *rest: answers.append(words) or answer(reply, words, *rest))
    dead, handler = DeadLetters(jetstream, subjects), Notes(lambda _: InvalidInput("poison"))
    await dead.ensure()
    config = (await jetstream.stream("DEAD")).config
    await jetstream.ask("STREAM.UPDATE.DEAD", {**config, "max_bytes": 1}, StreamInfo)
    async with consuming(jetstream, subjects, handler, retry=(60,)) as consumption:
        await publisher(jetstream, subjects).publish("events.user.created", b"1")
        await eventually(lambda: len(handler.seen) >= 2)
        assert consumption.counts.parked == 0
        await jetstream.ask("STREAM.UPDATE.DEAD", config, StreamInfo)
        await eventually(lambda: consumption.counts.parked == 1)
    assert [letter.payload async for letter in dead.ls()] == [b"1"]
    assert set(answers) == {b'-NAK {"delay": 100000000}', b"+TERM"}  # not at once, for as long as there is no room


async def test_what_cannot_be_resumed_is_one_warning(jetstream: JetStream, subjects: Subjects, monkeypatch: pytest.MonkeyPatch):
    """However often it is tried; when something else goes wrong, that is another."""
    lines: list[str] = []
    number = logger.add(lines.append, format="{message}", filter=lambda record: record["level"].name == "WARNING")
    tries: Counter[str] = Counter()
    texts: list[str] = []

    async def away(verb: str, *_: object) -> None:
        tries[verb] += 1
        raise SetupError(texts[-1])

    monkeypatch.setattr("cliffracer.messaging.pull.TICK", 0.01)
    monkeypatch.setattr("cliffracer.messaging.pull._LONGEST_PAUSE", 0.01)
    async with consuming(jetstream, subjects, Notes()) as consumption:
        monkeypatch.setattr(jetstream, "ask", away)
        for text in ("first", "second"):
            texts.append(text)
            tries.clear()
            consumption.pull.lose()
            await eventually(lambda: tries.total() > 5)
        monkeypatch.undo()
        await eventually(lambda: not consumption.pull._gone)
    logger.remove(number)
    said = [line.strip() for line in lines]
    assert said == [f"consumer users-welcome cannot be resumed: SetupError('{text}')" for text in ("first", "second")]


async def test_what_the_last_consumer_of_a_reader_sent_is_read_once(
    jetstream: JetStream, subjects: Subjects, monkeypatch: pytest.MonkeyPatch
):
    """Also where it arrives when the next one has been asked for, which begins with it."""
    create, late, publish = jetstream.create_consumer, list[Delivery](), publisher(jetstream, subjects).publish
    await publish("events.user.created", b"1")
    async with asyncio.timeout(30), Reader(jetstream, "EVENTS", ["events.>"]) as reader:
        taken = reader._take
        monkeypatch.setattr(reader._pull, "_take", lambda delivery: late.append(delivery) if delivery.payload == b"2" else taken(delivery))
        assert (await reader.next()).payload == b"1"
        await publish("events.user.created", b"2")
        await eventually(lambda: late)

        async def created(*given: Any) -> Any:
            taken(late.pop())
            monkeypatch.setattr(reader._pull, "_take", taken)
            return await create(*given)

        monkeypatch.setattr(jetstream, "create_consumer", created)
        reader._pull.lose()
        await publish("events.user.created", b"3")
        assert [(await reader.next()).payload for _ in range(2)] == [b"2", b"3"]


async def test_who_reads_leaves_a_server_that_hangs(jetstream: JetStream, subjects: Subjects, server: NatsServer):
    """Its consumer is not waited for, however patient requests are: the server removes it itself."""
    await publisher(jetstream, subjects).publish("events.user.created", b"1")
    async with asyncio.timeout(60), Reader(JetStream(jetstream.bus, timeout=600), "EVENTS", ["events.>"]) as reader:
        await reader.next()
        server.pause()
    server.resume()
