"""Streams and consumers as they were asked for, whoever made them before, however many ask at once."""

import asyncio
from typing import Any

import pytest

from cliffracer.errors import DeadlineExceeded, SetupError, Unavailable
from cliffracer.messaging import jetstream as api
from cliffracer.messaging.bus import connect
from cliffracer.messaging.configurations import ConsumerConfig, StreamConfig, check_echo
from cliffracer.messaging.ensuring import ensure_consumer, ensure_stream
from cliffracer.messaging.jetstream import JetStream, StreamInfo
from cliffracer.messaging.streams import events_stream
from cliffracer.settings import Settings
from cliffracer.wire.subjects import Subjects
from tests.messaging.jetstream.conftest import Join
from tests.support.nats import NatsServer


async def test_a_stream_is_made_as_asked_for(jetstream: JetStream):
    """Events are kept in files, without limits, and a full stream refuses instead of dropping."""
    info = await ensure_stream(jetstream, events_stream(Subjects("staging")))
    config = info.config
    assert (config["name"], config["subjects"]) == ("staging_EVENTS", ["staging.events.>", "staging.cliffracer.replay.>"])
    assert (config["retention"], config["storage"], config["discard"]) == ("limits", "file", "new")
    assert [config[limit] for limit in ("max_msgs", "max_bytes", "max_age", "max_msgs_per_subject")] == [-1, -1, 0, -1]


async def test_a_stream_that_was_there_is_added_to_and_never_narrowed(jetstream: JetStream):
    """What an operator has set stays: subjects, limits, description, a larger window."""
    made = {
        "name": "EVENTS",
        "subjects": ["legacy.>", "events.user.*"],
        "max_bytes": 1 << 20,
        "duplicate_window": 600 * 10**9,
        "description": "ours",
    }
    await jetstream.ask("STREAM.CREATE.EVENTS", made, StreamInfo)
    config = (await ensure_stream(jetstream, events_stream(Subjects()))).config
    assert set(config["subjects"]) == {"legacy.>", "events.>", "cliffracer.replay.>"}
    assert (config["max_bytes"], config["duplicate_window"], config["description"]) == (1 << 20, 600 * 10**9, "ours")


@pytest.mark.parametrize(("field", "value"), [("retention", "workqueue"), ("storage", "memory")])
async def test_a_stream_that_cannot_be_reconciled_is_an_error_that_shows_why(jetstream: JetStream, field: str, value: str):
    """The message names the field, what it is and what was asked for."""
    await jetstream.ask("STREAM.CREATE.EVENTS", {"name": "EVENTS", "subjects": ["events.>"], field: value}, StreamInfo)
    with pytest.raises(SetupError, match=f'{field} is "{value}", asked "(limits|file)"'):
        await ensure_stream(jetstream, events_stream(Subjects()))


async def test_subjects_that_another_stream_takes_are_an_error(jetstream: JetStream):
    """Two streams cannot store one event."""
    await jetstream.ask("STREAM.CREATE.OTHER", {"name": "OTHER", "subjects": ["events.>"]}, StreamInfo)
    with pytest.raises(SetupError, match="overlap"):
        await ensure_stream(jetstream, events_stream(Subjects()))


async def test_services_that_widen_a_stream_at_once_never_undo_each_other(join: Join):
    """After any number of simultaneous starts, everybody's subjects are there."""
    services = [JetStream(await join()) for _ in range(8)]
    for trial in range(5):
        await services[0].ask(f"STREAM.CREATE.S{trial}", {"name": f"S{trial}", "subjects": [f"s{trial}.first"]}, StreamInfo)
        asked = [StreamConfig(name=f"S{trial}", subjects=[f"s{trial}.{number}.>"]) for number in range(len(services))]
        await asyncio.gather(*(ensure_stream(service, config) for service, config in zip(services, asked, strict=True)))
        found = (await services[0].stream(f"S{trial}")).config["subjects"]
        assert set(found) == {f"s{trial}.first", *(f"s{trial}.{number}.>" for number in range(len(services)))}


async def test_an_update_that_comes_late_is_mended_by_its_author(join: Join, monkeypatch: pytest.MonkeyPatch):
    """Between its look at the stream and its update another service widens it and is content: that update would take it back for good."""
    late, quick = JetStream(await join()), JetStream(await join())
    await late.ask("STREAM.CREATE.S", {"name": "S", "subjects": ["s.first"]}, StreamInfo)
    ask, between = late.ask, [StreamConfig(name="S", subjects=["s.quick"])]

    async def asking(subject: str, *rest: Any) -> Any:
        if subject == "STREAM.UPDATE.S" and between:
            await ensure_stream(quick, between.pop())
        return await ask(subject, *rest)

    monkeypatch.setattr(late, "ask", asking)
    await ensure_stream(late, StreamConfig(name="S", subjects=["s.late"]))
    assert set((await quick.stream("S")).config["subjects"]) == {"s.first", "s.late", "s.quick"}


async def test_services_that_make_a_stream_at_once_end_up_with_one(join: Join):
    """Creation races are nobody's failure."""
    services = [JetStream(await join()) for _ in range(8)]
    infos = await asyncio.gather(*(ensure_stream(service, events_stream(Subjects())) for service in services))
    assert len({info.created for info in infos}) == 1


async def test_a_consumer_gets_its_new_filter_and_keeps_its_place(jetstream: JetStream):
    """A changed subscription is not silently ignored, as it is by stock clients."""
    await ensure_stream(jetstream, events_stream(Subjects()))
    for number in range(3):
        await jetstream.store("events.a", b"%d" % number)
    made = await ensure_consumer(
        jetstream, "EVENTS", ConsumerConfig(name="c", durable_name="c", filter_subjects=["events.a"], deliver_policy="new")
    )
    asked = ConsumerConfig(name="c", durable_name="c", filter_subjects=["events.a", "events.b"])
    changed = await ensure_consumer(jetstream, "EVENTS", asked)
    assert set(changed.config["filter_subjects"]) == {"events.a", "events.b"}
    assert (changed.created, changed.num_pending) == (made.created, 0)


def test_an_option_that_a_server_dropped_is_an_error_that_shows_it():
    """Old servers answer without a word about what they do not know."""
    with pytest.raises(SetupError, match=r"nats-server 2\.9\.10 .* allow_msg_schedules is not set, asked true"):
        check_echo("stream", {"name": "S"}, {"name": "S", "allow_msg_schedules": True}, (2, 9, 10))


async def test_a_server_without_jetstream_is_a_clear_error():
    """The message says what to start it with."""
    with NatsServer() as server:
        bus = await connect(Settings(nats_url=server.url, wait=5.0), name="test")
        try:
            with pytest.raises(SetupError, match="start nats-server with -js"):
                await ensure_stream(JetStream(bus), events_stream(Subjects()))
        finally:
            await bus.close()


async def test_more_replicas_than_servers_is_a_clear_error(jetstream: JetStream):
    """It names the setting."""
    jetstream.bus.replicas = 3
    with pytest.raises(SetupError, match=r"not supported in non-clustered mode: NATS_REPLICAS"):
        await ensure_stream(jetstream, events_stream(Subjects()))


async def test_what_an_election_drops_is_asked_again(monkeypatch: pytest.MonkeyPatch):
    """A cluster without a leader answers nothing, and says nothing; a removal is asked for once, since the second answer would mislead."""
    monkeypatch.setattr(api, "AGAIN", 0.02)
    with NatsServer() as server:
        bus = await connect(Settings(nats_url=server.url, wait=5.0), name="test")
        dropped: list[bytes] = []

        def answer(subject: bytes, reply: bytes, _block: bytes | None, _payload: bytes) -> None:
            if len(dropped) < 3:
                dropped.append(subject)
            else:
                bus.publish(reply, b'{"total": 1, "streams": ["EVENTS"]}')

        try:
            await bus.subscribe("$JS.API.>", answer)
            assert await JetStream(bus).stream_names() == ["EVENTS"]
            assert dropped == [b"$JS.API.STREAM.NAMES"] * 3
            dropped.clear()
            with pytest.raises(DeadlineExceeded):
                await JetStream(bus, timeout=0.3).delete_stream("EVENTS")
            assert dropped == [b"$JS.API.STREAM.DELETE.EVENTS"]
        finally:
            await bus.close()


async def test_a_server_that_is_away_is_unavailable_after_the_time_given(jetstream: JetStream, server: NatsServer):
    """Setting up waits, but not for ever."""
    await asyncio.to_thread(server.kill)
    jetstream.timeout = 0.2
    with pytest.raises(Unavailable, match=r"EVENTS could not be set up within 0\.5 s"):
        await ensure_stream(jetstream, events_stream(Subjects()), timeout=0.5)
