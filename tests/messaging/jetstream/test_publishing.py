"""Publishing with acks: duplicates, full streams, outages, delayed events."""

import asyncio
import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from cliffracer.errors import Conflict, DeadlineExceeded, Internal, SetupError, TooLarge, Unavailable
from cliffracer.messaging.backend import JetStreamBackend
from cliffracer.messaging.bus import Reply, connect
from cliffracer.messaging.emitter import Emitter
from cliffracer.messaging.ensuring import ensure_stream
from cliffracer.messaging.jetstream import JetStream, StreamInfo
from cliffracer.messaging.publishing import Publisher
from cliffracer.messaging.schedules import scheduled
from cliffracer.messaging.singleflight import SingleFlight
from cliffracer.messaging.streams import due_subject, events_stream
from cliffracer.settings import Settings
from cliffracer.wire.headers import MESSAGE_ID, encode_headers
from cliffracer.wire.subjects import Subjects
from tests.messaging.jetstream.conftest import Join
from tests.messaging.jetstream.support import consuming, publisher
from tests.messaging.notes import Notes
from tests.support.events import event_headers
from tests.support.nats import NatsServer
from tests.support.waiting import eventually


async def test_one_message_id_is_stored_once(jetstream: JetStream, subjects: Subjects):
    """The second publish is acknowledged as a duplicate of the first."""
    publish = publisher(jetstream, subjects).publish
    first = await publish("events.a", b"1", message_id="same")
    second = await publish("events.a", b"2", message_id="same")
    assert (second.seq, second.duplicate) == (first.seq, True)


async def test_what_no_stream_takes_says_where_there_is_no_jetstream(jetstream: JetStream):
    """A tick, or whatever else is stored, is no call that a service would answer."""
    with pytest.raises(Unavailable, match=r"^no stream stores tick\.one$"):
        await jetstream.store("tick.one", b"")
    with NatsServer() as server:
        bus = await connect(Settings(nats_url=server.url, wait=5.0), name="test")
        with pytest.raises(Unavailable, match=rf"^no stream stores tick\.one: JetStream is not enabled on .+:{server.port}$") as caught:
            await JetStream(bus).store("tick.one", b"")
        assert caught.value.details["reason"] == "nobody"
        await bus.close()


async def test_a_full_stream_refuses_at_once(jetstream: JetStream, subjects: Subjects):
    """What was acknowledged is kept; the emitter is told, without waiting for its deadline."""
    await ensure_stream(jetstream, events_stream(subjects))
    config = (await jetstream.stream("EVENTS")).config
    await jetstream.ask("STREAM.UPDATE.EVENTS", {**config, "max_msgs": 2}, StreamInfo)
    publish = publisher(jetstream, subjects).publish
    await publish("events.a", b"1")
    await publish("events.a", b"2")
    with pytest.raises(Unavailable, match="the stream is full"):
        await publish("events.a", b"3", timeout=60)
    assert (await jetstream.stream("EVENTS")).state.first_seq == 1


async def test_a_server_without_room_refuses_at_once(subjects: Subjects):
    """Its store is limited by configuration, not the stream's."""
    server = NatsServer()
    (server.folder / "nats.conf").write_text(
        f'listen: 127.0.0.1:{server.port}\njetstream {{ store_dir: "{server.folder}/jetstream", max_file_store: 1MB }}'
    )
    with server:
        bus = await connect(Settings(nats_url=server.url, wait=5.0), name="test")
        publish = publisher(JetStream(bus), subjects).publish
        with pytest.raises(Unavailable, match=r"JetStream is full: insufficient resources; give it room \(max_file_store, "):
            await asyncio.gather(*(publish("events.a", bytes(100_000), timeout=60) for _ in range(20)))
        await bus.close()


async def test_while_nats_is_away_a_publish_waits_and_then_is_unavailable(jetstream: JetStream, subjects: Subjects, server: NatsServer):
    """Nothing is dropped in silence, and nothing of it is stored later."""
    publish = publisher(jetstream, subjects).publish
    await publish("events.a", b"1")
    await asyncio.to_thread(server.kill)
    await eventually(lambda: not jetstream.bus.connected)
    results = await asyncio.gather(*(publish("events.a", b"2", timeout=0.3) for _ in range(100)), return_exceptions=True)
    assert {type(result) for result in results} == {Unavailable}
    await asyncio.to_thread(server.start)
    await publish("events.a", b"3", timeout=20)
    assert (await jetstream.stream("EVENTS")).state.messages == 2


async def test_a_publish_waits_for_nats_to_come_back(jetstream: JetStream, subjects: Subjects, server: NatsServer):
    """An outage that is shorter than the deadline is only a delay."""
    publish = publisher(jetstream, subjects).publish
    await publish("events.a", b"1")
    await asyncio.to_thread(server.kill)
    waiting = asyncio.create_task(publish("events.a", b"2", timeout=20))
    await asyncio.to_thread(server.start)
    assert (await waiting).seq == 2


async def test_what_a_lost_connection_took_along_is_repeated_in_time(
    jetstream: JetStream, subjects: Subjects, monkeypatch: pytest.MonkeyPatch
):
    """However short the time: the first attempt, whose ack never comes, leaves enough of it for another."""
    publish, request, lost = publisher(jetstream, subjects).publish, jetstream.bus.request, []
    await publish("events.a", b"1")

    async def losing(subject: bytes, *given: Any, timeout: float, **options: Any) -> Any:
        if not lost:
            lost.append(subject)
            await asyncio.sleep(timeout)
            raise DeadlineExceeded("events.a did not answer in time")
        return await request(subject, *given, timeout=timeout, **options)

    monkeypatch.setattr(jetstream.bus, "request", losing)
    assert (await publish("events.a", b"2", timeout=1.8)).seq == 2
    assert lost == [b"events.a"]


async def test_who_waited_for_his_turn_has_the_time_that_is_left(jetstream: JetStream, monkeypatch: pytest.MonkeyPatch):
    """Not all of it again: his deadline is that of the call that emits."""
    publisher_, given = Publisher(jetstream, limit=0, attempt=60), []

    async def asked(*_: Any, timeout: float, **__: Any) -> Reply:
        given.append(timeout)
        return Reply(None, b'{"stream": "EVENTS", "seq": 1}')

    monkeypatch.setattr(jetstream.bus, "request", asked)
    waiting = asyncio.create_task(publisher_.publish("events.a", b"", timeout=60))
    await asyncio.sleep(0.1)
    publisher_._pass_on()
    await waiting
    assert given[0] <= (60 - 0.1) / 2


async def test_a_hung_server_does_not_outlive_the_deadline(jetstream: JetStream, subjects: Subjects, server: NatsServer):
    """The outcome is unknown, and the error says so."""
    publish = publisher(jetstream, subjects).publish
    await publish("events.a", b"1")
    server.pause()
    assert server.process is not None
    stat = Path(f"/proc/{server.process.pid}/stat")
    await eventually(lambda: stat.read_text().split()[2] == "T")
    try:
        async with asyncio.timeout(30):
            with pytest.raises(DeadlineExceeded, match="no stream confirmed it"):
                await publish("events.a", b"2", timeout=0.5)
    finally:
        server.resume()


async def test_a_message_over_the_limit_is_too_large(jetstream: JetStream, subjects: Subjects):
    """It is refused before it is sent, and the connection lives."""
    publish = publisher(jetstream, subjects).publish
    with pytest.raises(TooLarge):
        await publish("events.a", bytes(jetstream.bus.max_payload))
    assert (await publish("events.a", b"1")).seq == 1


async def test_without_a_stream_a_publish_says_so(jetstream: JetStream):
    """A subject that nothing stores is not accepted."""
    with pytest.raises(Unavailable, match=r"no stream stores events\.a"):
        await Publisher(jetstream).publish("events.a", b"", timeout=0.3)


async def test_an_answer_that_is_not_jetstreams_is_named(jetstream: JetStream, join: Join):
    """Somebody who subscribes to an event and replies is no stream."""
    stranger = await join()
    await stranger.subscribe("events.a", lambda _subject, reply, _block, _payload: stranger.publish(reply, b"pong"))
    await stranger.flush()
    with pytest.raises(Internal, match=r"publish to events\.a: it was not JetStream that answered b'pong'"):
        await Publisher(jetstream).publish("events.a", b"")


async def test_a_condition_that_fails_is_a_conflict(jetstream: JetStream, subjects: Subjects):
    """Compare-and-set is not retried."""
    publish = publisher(jetstream, subjects).publish
    await publish("events.a", b"1")
    with pytest.raises(Conflict):
        await publish("events.a", b"2", {"Nats-Expected-Last-Subject-Sequence": "0"})


async def test_many_publishes_are_in_flight_at_once(jetstream: JetStream, subjects: Subjects):
    """All are stored, each once, with more of them than may be in flight."""
    publisher_ = Publisher(jetstream, recover=SingleFlight(lambda: ensure_stream(jetstream, events_stream(subjects))), limit=50)
    acks = await asyncio.gather(*(publisher_.publish("events.a", b"") for _ in range(1000)))
    assert {ack.seq for ack in acks} == set(range(1, 1001))


async def test_no_more_publishes_are_in_flight_than_may(jetstream: JetStream, subjects: Subjects, monkeypatch: pytest.MonkeyPatch):
    """More wait for their turn, at most within their deadline; who leaves, or never had one, takes nobody's place along."""
    await ensure_stream(jetstream, events_stream(subjects))
    request, let = jetstream.bus.request, asyncio.Event()
    under_way = most = 0

    async def held(*given: Any, **options: Any) -> Any:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await let.wait()
        under_way -= 1
        return await request(*given, **options)

    monkeypatch.setattr(jetstream.bus, "request", held)
    publisher_ = Publisher(jetstream, limit=3)
    publishing = [asyncio.create_task(publisher_.publish("events.a", b"%d" % number)) for number in range(10)]
    await eventually(lambda: under_way == 3)
    with pytest.raises(Unavailable, match="too many publishes wait for their acks"):
        await publisher_.publish("events.a", b"late", timeout=0.05)
    publishing[4].cancel()
    let.set()
    await asyncio.wait(publishing)
    assert (most, sorted(task.result().seq for task in publishing if not task.cancelled())) == (3, list(range(1, 10)))
    assert (publisher_._free, len(publisher_._waiting)) == (3, 0)


async def test_who_is_cancelled_in_the_moment_of_his_turn_passes_it_on(jetstream: JetStream):
    """Else each such would cost a place for ever."""
    publisher_ = Publisher(jetstream, limit=0)
    waiting = asyncio.create_task(publisher_.publish("events.a", b""))
    await asyncio.sleep(0)
    publisher_._pass_on()
    waiting.cancel()
    await asyncio.wait([waiting])
    assert (waiting.cancelled(), publisher_._free) == (True, 1)


async def emit_later(emitter: Emitter, event_id: str, seconds: float, payload: bytes = b"") -> None:
    headers = event_headers(event_id, "user.created", "test")
    await emitter.store_later("events.user.created", payload, headers, at=time.time() + seconds, event_id=event_id)


async def test_a_burst_before_there_is_a_stream_makes_it_once(jetstream: JetStream, subjects: Subjects, monkeypatch: pytest.MonkeyPatch):
    """Thousands of events as the first thing that an app does, and again once somebody has deleted the stream."""
    asked: Counter[str] = Counter()
    ask = jetstream.ask

    async def counted(verb: str, *rest: Any) -> Any:
        asked[verb] += 1
        return await ask(verb, *rest)

    emitter = Emitter(jetstream, subjects)

    async def burst(name: str) -> None:
        subject = subjects.event("user.created")
        await asyncio.gather(*(emitter.store(subject, b"{}", {MESSAGE_ID: f"{name}{number}"}) for number in range(10_000)))

    monkeypatch.setattr(jetstream, "ask", counted)
    await burst("a")
    await jetstream.delete_stream(subjects.stream)
    await burst("b")
    assert (await jetstream.stream(subjects.stream)).state.messages == 10_000
    assert asked[f"STREAM.CREATE.{subjects.stream}"] == 2
    assert asked.total() < 30


async def test_a_delayed_event_comes_when_it_is_due(jetstream: JetStream, subjects: Subjects):
    """It is handled like any other, under its own subject, and not before."""
    handler, came = Notes(), []

    async def handle(delivery) -> None:
        came.append(time.time())
        await handler(delivery)

    emitter = Emitter(jetstream, subjects)
    async with consuming(jetstream, subjects, handle):
        due = time.time() + 1.5
        await emitter.store_later("events.user.created", b"later", event_headers("e1", "user.created", "test"), at=due, event_id="e1")
        await emitter.store("events.user.created", b"now", event_headers("e2", "user.created", "test"))
        await eventually(lambda: len(came) == 2)
    assert handler.payloads == [b"now", b"later"]
    assert came[1] >= due - 0.05


async def test_a_large_event_may_be_delayed_and_one_that_is_due_already_comes_now(jetstream: JetStream, subjects: Subjects):
    """Neither is any other event to the function."""
    handler, emitter, large = Notes(), Emitter(jetstream, subjects), os.urandom(jetstream.bus.max_payload + 1)
    async with consuming(jetstream, subjects, handler):
        await emit_later(emitter, "e1", 1.0, large)
        await emit_later(emitter, "e2", -1.0, b"due")
        assert [event.id async for event in emitter.delayed()] == ["e1"]
        await eventually(lambda: len(handler.seen) == 2)
    assert handler.payloads == [b"due", large]


async def test_a_delayed_event_survives_a_killed_server(jetstream: JetStream, subjects: Subjects, server: NatsServer):
    """The schedule is the server's, on disk."""
    handler = Notes()
    async with consuming(jetstream, subjects, handler):
        await emit_later(Emitter(jetstream, subjects), "e1", 1.0, b"later")
        await asyncio.to_thread(server.restart)
        await eventually(lambda: handler.seen, within=30)
    assert handler.payloads == [b"later"]


async def test_a_delayed_event_comes_into_a_stream_that_was_made_again(jetstream: JetStream, join: Join, subjects: Subjects):
    """Whoever makes the stream of events again, also if he delays none himself."""
    handler = Notes()
    consumption = JetStreamBackend(JetStream(await join()), subjects).consume("users", "welcome", "user.created", handler)
    await consumption.start()
    await emit_later(Emitter(jetstream, subjects), "e1", 2, b"later")
    await jetstream.delete_stream(subjects.stream)
    await eventually(lambda: handler.seen)
    await consumption.drain(1)
    assert handler.payloads == [b"later"]


async def test_a_delayed_event_can_be_taken_back(jetstream: JetStream, subjects: Subjects):
    """Cancelled by its id, whatever is in that; a second time there is nothing to cancel."""
    handler, emitter = Notes(), Emitter(jetstream, subjects)
    async with consuming(jetstream, subjects, handler):
        await emit_later(emitter, "order 7.*", 1.5, b"cancelled")
        await jetstream.store("cliffracer.later.stranger", b"", encode_headers({"Nats-Msg-Id": "x"}))  # not by us, and never due
        odd = {"Nats-Msg-Id": "y", "Nats-Msg-Size": "x", **scheduled(time.time() + 60, due_subject(subjects, "a.b"))}
        await jetstream.store("cliffracer.later.odd", b"", encode_headers(odd))  # with a size that the server does not mean
        found = [(event.id, event.subject, event.size) async for event in emitter.delayed()]
        assert found == [("order 7.*", "user.created", 9), ("", "a.b", 0)]
        assert await emitter.cancel("order 7.*") is True
        assert await emitter.cancel("order 7.*") is False
        await emit_later(emitter, "e2", 1.6, b"kept")
        await eventually(lambda: handler.seen)
    assert handler.payloads == [b"kept"]


async def test_one_id_is_delayed_once(jetstream: JetStream, subjects: Subjects):
    """Emitting a pending id again replaces the event."""
    handler, emitter = Notes(), Emitter(jetstream, subjects)
    async with consuming(jetstream, subjects, handler):
        await emit_later(emitter, "e1", 1.2, b"first")
        await emit_later(emitter, "e1", 1.4, b"second")
        await emit_later(emitter, "e2", 1.6, b"third")
        await eventually(lambda: len(handler.seen) == 2)
    assert handler.payloads == [b"second", b"third"]


async def test_a_server_without_schedules_is_named(jetstream: JetStream, subjects: Subjects):
    """The error says which version is needed and which is there."""
    jetstream.bus.info = {**jetstream.bus.info, "version": "2.11.4"}
    with pytest.raises(SetupError, match=r"need nats-server 2\.12.*this one is 2\.11\.4"):
        await emit_later(Emitter(jetstream, subjects), "e1", 10)


async def test_those_who_wait_for_a_place_give_up_in_time(jetstream: JetStream, subjects: Subjects, server: NatsServer):
    """A publish that is not its turn within its time is `Unavailable`; the places are all free afterwards."""
    narrow = Publisher(jetstream, recover=SingleFlight(lambda: ensure_stream(jetstream, events_stream(subjects))), limit=2)
    await narrow.publish("events.a", b"0")
    await asyncio.to_thread(server.kill)
    await eventually(lambda: not jetstream.bus.connected)
    tasks = [asyncio.create_task(narrow.publish("events.a", b"1", timeout=0.3)) for _ in range(6)]
    await asyncio.sleep(0)
    tasks[5].cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [Unavailable] * 5 + [asyncio.CancelledError]
    await asyncio.to_thread(server.start)
    assert len(await asyncio.gather(*(narrow.publish("events.a", b"2", timeout=20) for _ in range(10)))) == 10
