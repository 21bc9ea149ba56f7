"""A cluster of three servers: leaders killed under load, clients moved to another node."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator

import pytest

from cliffracer import App, Secret, WebSocket, requires, runtime
from cliffracer.errors import ServiceError
from cliffracer.messaging import rates, revocations, tickets
from cliffracer.messaging.backend import JetStreamBackend
from cliffracer.messaging.bus import connect
from cliffracer.messaging.claimcheck import ClaimCheck
from cliffracer.messaging.consumption import Consumption
from cliffracer.messaging.deadletters import DeadLetters
from cliffracer.messaging.ensuring import ensure_agreements, ensure_stream
from cliffracer.messaging.jetstream import JetStream
from cliffracer.messaging.keyvalue import KeyValue
from cliffracer.messaging.locks import Lock
from cliffracer.messaging.objects import ObjectStore
from cliffracer.messaging.publishing import Publisher
from cliffracer.messaging.stores import Bucket
from cliffracer.messaging.streams import events_stream
from cliffracer.settings import Settings
from cliffracer.wire.subjects import Subjects
from tests.messaging.notes import Notes
from tests.support.nats import NatsServer, free_port
from tests.support.waiting import eventually


@pytest.fixture(scope="module")
def cluster() -> Iterator[list[NatsServer]]:
    """Three servers with JetStream that know each other."""
    ports = [free_port() for _ in range(3)]
    routes = ", ".join(f'"nats://127.0.0.1:{port}"' for port in ports)
    servers = []
    for number, port in enumerate(ports):
        config = f'server_name: n{number}\ncluster {{ name: test, listen: "127.0.0.1:{port}", routes: [{routes}] }}'
        servers.append(NatsServer(config, jetstream=True))
    for server in servers:
        server.start()
    yield servers
    for server in servers:
        server.close()


@pytest.fixture
async def jetstream(cluster: list[NatsServer]) -> AsyncIterator[JetStream]:
    """A bus that knows all three, once the cluster has agreed on a leader."""
    bus = await connect(Settings(nats_url=",".join(server.url for server in cluster), wait=10.0, nats_replicas=3), name="test")
    try:
        found = JetStream(bus)
        await ensure_stream(found, events_stream(Subjects()), timeout=60)
        yield found
        found.timeout = 60  # the servers may be electing still, and the machine be busy
        for name in await found.stream_names():
            await found.delete_stream(name)
    finally:
        await bus.close()


async def whole(jetstream: JetStream) -> None:
    """Return once every server has all of the stream and its consumers again: one may be lost then, but not two of three."""
    until = time.monotonic() + 120
    while True:
        with contextlib.suppress(ServiceError):
            named = (await jetstream.ask("CONSUMER.NAMES.EVENTS", {"offset": 0}, dict))["consumers"] or []
            asked = ["STREAM.INFO.EVENTS", *(f"CONSUMER.INFO.EVENTS.{name}" for name in named)]
            groups = [(await jetstream.ask(verb, None, dict)).get("cluster", {}) for verb in asked]
            if all(group.get("leader") and all(one["current"] for one in group["replicas"]) for group in groups):
                return
        assert time.monotonic() < until, "a server that was started again does not catch up"
        await asyncio.sleep(0.1)


async def leader_of(jetstream: JetStream) -> int:
    info = await jetstream.ask("STREAM.INFO.EVENTS", None, dict)
    return int(info["cluster"]["leader"].removeprefix("n"))


async def test_leaders_killed_under_load_lose_nothing_acknowledged(cluster: list[NatsServer], jetstream: JetStream):
    """Publishing resumes within seconds, every acknowledged event is stored once, and every one of them is handled."""
    subjects, handler = Subjects(), Notes()
    publisher = Publisher(jetstream)
    total, sent, longest = 4000, 0, 0.0

    async def emit(lane: int) -> None:
        nonlocal sent, longest
        for number in range(lane, total, 32):
            began = time.monotonic()
            await publisher.publish("events.user.created", b"%d" % number, message_id=f"id-{number}", timeout=60)
            longest = max(longest, time.monotonic() - began)
            sent += 1

    consumption = Consumption(jetstream, subjects, "users", "welcome", "user.created", handler, ack_wait=5.0)
    await consumption.start()
    lanes = [asyncio.create_task(emit(lane)) for lane in range(32)]
    for share in (0.3, 0.6):
        await eventually(lambda share=share: sent > share * total, within=60)
        await whole(jetstream)
        number = await leader_of(jetstream)
        await asyncio.to_thread(cluster[number].kill)
        await eventually(lambda share=share: sent > (share + 0.15) * total, within=60)
        await asyncio.to_thread(cluster[number].start)
    await asyncio.gather(*lanes)
    await eventually(lambda: len(set(handler.payloads)) == total, within=60)
    await consumption.drain(5)
    assert (await jetstream.stream("EVENTS")).state.messages == total
    assert longest < 30


async def test_all_that_is_stored_is_kept_by_as_many_servers_as_the_setting_says(jetstream: JetStream):
    """Events, buckets, locks, dead letters; what was made before the setting is moved to more servers."""
    subjects = Subjects()
    jetstream.bus.replicas = 1
    await ensure_agreements(jetstream, "")
    jetstream.bus.replicas = 3
    values: KeyValue[int] = KeyValue(jetstream, Bucket("values"), int)
    assert await values.put("a", 1) > 0
    await DeadLetters(jetstream, subjects).ensure()
    await ObjectStore(jetstream, Bucket("objects")).put("a", b"1")
    async with Lock(jetstream, subjects, "job", ttl=20):
        pass
    kept = {name: (await jetstream.stream(name)).config["num_replicas"] for name in await jetstream.stream_names()}
    assert kept == dict.fromkeys(("CLIFFRACER", "DEAD", "EVENTS", "KV_values", "OBJ_objects"), 3)


async def test_what_was_made_before_is_moved_to_more_servers(jetstream: JetStream):
    """By a start: dead letters, and buckets of ours that are there; payloads with the next one that is stored."""
    subjects = Subjects("grown")
    jetstream.bus.replicas = 1
    await DeadLetters(jetstream, subjects).ensure()
    await ClaimCheck(jetstream, "grown").stash(b"x")
    await KeyValue[int](jetstream, Bucket("values"), int, namespace="grown").put("a", 1)
    jetstream.bus.replicas = 3
    backend = JetStreamBackend(jetstream, subjects)
    backend.values(Bucket("values"), int)
    backend.objects(Bucket("objects"))
    await backend.reconcile()
    await backend.consume("users", "welcome", "user.created", Notes()).ensure()
    await ClaimCheck(jetstream, "grown").stash(b"y")
    names = ("grown_DEAD", "OBJ_grown_claims_events", "KV_grown_values")
    assert {name: (await jetstream.stream(name)).config["num_replicas"] for name in names} == dict.fromkeys(names, 3)
    assert "OBJ_grown_objects" not in await jetstream.stream_names()


async def test_buckets_of_ours_are_moved_to_more_servers_too(cluster: list[NatsServer], jetstream: JetStream):
    """Those that an app needs; of what it needs not, it does not ask, since it may not be allowed to."""
    app, plain = App("ruled"), App("plain")

    @app.rpc(rate="5/s")
    @requires
    async def mine() -> None: ...

    @app.websocket("/feed")
    @requires
    async def feed(*, socket: WebSocket) -> None: ...

    @plain.rpc
    async def anybody() -> None: ...

    jetstream.bus.replicas = 1
    for bucket in (rates.BUCKET, revocations.BUCKET, tickets.BUCKET):
        await KeyValue[int](jetstream, bucket, int, namespace="ours").ensure()
    given = {"nats_url": ",".join(server.url for server in cluster), "nats_replicas": 3, "namespace": "ours", "wait": 10.0}
    names = ("KV_ours_rates", "KV_ours_revocations", "KV_ours_tickets")
    for one, replicas, more in ((plain, 1, {}), (app, 3, {"http_port": free_port(), "auth_secret_key": Secret("k" * 40)})):
        async with runtime.running(one, Settings(**given, **more)):
            kept = {name: (await jetstream.stream(name)).config["num_replicas"] for name in names}
        assert kept == dict.fromkeys(names, replicas)


async def test_a_consumer_moves_to_another_node(cluster: list[NatsServer], jetstream: JetStream):
    """The server that the client is connected to dies; its consumer goes on at another, without help."""
    handler = Notes()
    consumption = Consumption(jetstream, Subjects(), "users", "welcome", "user.created", handler)
    await consumption.start()
    for number in range(2):
        await whole(jetstream)
        mine = next(server for server in cluster if server.port == jetstream.bus.info["port"])
        await asyncio.to_thread(mine.kill)
        await Publisher(jetstream).publish("events.user.created", b"%d" % number, timeout=60)
        await eventually(lambda number=number: len(set(handler.payloads)) == number + 1, within=40)
        await asyncio.to_thread(mine.start)
    await consumption.drain(5)
