"""Two versions of a service, one after the other or side by side: other subscriptions of a function, another declaration of a bucket."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Annotated, Any

import msgspec
import pytest
from loguru import logger

from cliffracer import App, Bucket, KeyValue, NotFound
from cliffracer.cli import drift
from cliffracer.messaging import consumption, ordered, siblings
from cliffracer.messaging.jetstream import JetStream
from cliffracer.permissions.needs import Needs
from cliffracer.testing import Running, running
from cliffracer.wire.subjects import Subjects
from tests.support.waiting import eventually


class Created(msgspec.Struct):
    number: int


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have replicas look after each other now and then within a test."""
    monkeypatch.setattr(consumption, "POLL", 0.1)
    for name, seconds in (("PATIENCE", 0.2), ("KEPT", 0.1), ("AGAIN", 0.1)):
        monkeypatch.setattr(siblings, name, seconds)


def keeping(**options: Any) -> App:
    """Return a version of a service that keeps sessions in a bucket which it declares like this."""
    app = App("shop")

    @app.rpc
    async def keep(*, sessions: Annotated[KeyValue[int], Bucket("sessions", **options)]) -> None:
        await sessions.put("ada", 1)

    return app


async def kept(t: Running, app: App) -> tuple[int, int]:
    """Return for how many seconds, and how many values of each key, the bucket keeps once a version has started."""
    async with running(app, settings=t.settings) as later:
        await later.call("keep")
        config = (await JetStream(t.up.bus).stream(f"KV_{t.settings.namespace}_sessions")).config
    return config["max_age"] // 1_000_000_000, config["max_msgs_per_subject"]


@pytest.fixture
def logged() -> Iterator[list[str]]:
    lines: list[str] = []
    sink = logger.add(lines.append, level="WARNING", format="{message}")
    yield lines
    logger.remove(sink)


async def test_a_bucket_is_as_its_declaration_says_now(logged: list[str]) -> None:
    """A start gives one that is there what it lacks, and narrows none, since another version may need it: that it says."""
    async with running(App("other")) as t:
        assert await kept(t, keeping(ttl="30s")) == (30, 1)
        assert await kept(t, keeping(ttl="10m", history=3)) == (600, 3)
        assert "sessions" not in "".join(logged)
        assert await kept(t, keeping(ttl="1m")) == (600, 3)
        assert "_sessions: ttl is 10m, declared 1m; history is 3, declared 1" in "".join(logged)
        assert await kept(t, keeping(history=3)) == (600, 3)
        assert "_sessions: ttl is 10m, declared without limit. A start only adds" in "".join(logged)
        told = [text async for text in drift.buckets(JetStream(t.up.bus), [Needs(keeping(ttl="1m", history=3).freeze(), t.settings)])]
        name = f"KV_{t.settings.namespace}_sessions"
        assert told == [f"{name}: ttl is 10m, declared 1m; `nats stream edit {name}` changes it"]


async def test_what_another_version_has_stored_is_no_bad_input_of_a_caller(logged: list[str]) -> None:
    """Whose call was right: it is a defect here, and said in the log, with bucket and key."""
    app = App("shop")

    @app.get("/sessions/{name}")
    async def session(name: str, *, sessions: Annotated[KeyValue[Created], Bucket("sessions")]) -> Created:
        return await sessions.get(name)

    async with running(keeping()) as t, running(app, settings=t.settings.changed(http_port=0)) as later:
        await t.call("keep")
        reply = await later.http.get("/sessions/ada")
        assert (reply.status_code, reply.json().get("errors")) == (500, None)
        assert "sessions has under ada does not fit" in "".join(logged)


def version(patterns: list[str], seen: list[Any], **options: Any) -> App:
    """Return a version of the service ``shop``, whose function ``note`` subscribes to some patterns."""
    app = App("shop")

    async def note(event: Any) -> None:
        seen.extend(event if isinstance(event, list) else [event])

    note.__annotations__["event"] = list[Created] if options.get("batch") else Created
    for pattern in patterns:
        app.on(pattern, **options)(note)
    return app


async def delivered(t: Running, stream: str, consumer: str) -> int:
    """Return how many deliveries there were to a consumer; none before it was made."""
    space = t.settings.namespace
    try:
        return (await JetStream(t.up.bus).consumer(f"{space}_{stream}", f"{space}_{consumer}")).delivered.consumer_seq
    except NotFound:
        return 0


async def test_a_one_way_call_of_a_method_that_only_the_newer_one_has_is_left_to_it() -> None:
    """The older one, which shares the calls of the service, passes it on at once, and however often it did, nothing is parked for that."""
    done: list[int] = []

    async def ping() -> None: ...

    async def charge(amount: int) -> None:
        done.append(amount)

    old, new = App("shop"), App("shop")
    for app, functions in ((old, [ping]), (new, [ping, charge])):
        for function in functions:
            app.rpc(function)
    async with running(App("other")) as t:
        async with running(old, settings=t.settings), asyncio.timeout(60):
            await t.app.service("shop").send.charge(amount=5)
            while await delivered(t, "SENDS", "shop-send") < siblings.AT_ONCE:  # noqa: ASYNC110 - it is the server that knows
                await asyncio.sleep(0.02)
            later = await stack_of(new, t)
        await eventually(lambda: done == [5])
        await later.aclose()
        assert await t.parked() == []


async def test_what_was_passed_on_for_long_is_handled_all_the_same() -> None:
    """The newer one comes again, and the older one goes: how often that gave it back is no reason to park it."""
    old, new = list[Created](), list[Created]()
    async with running(App("other")) as t:
        async with running(version(["order.created"], old), settings=t.settings):
            async with running(version(["order.*"], new), settings=t.settings):
                pass
            await emitted(t, "order.cancelled", 1)
            async with asyncio.timeout(60):
                while await delivered(t, "EVENTS", "shop-note") < 12:  # noqa: ASYNC110 - as above; more than it has attempts
                    await asyncio.sleep(0.02)
            later = await stack_of(version(["order.*"], new), t)
        await eventually(lambda: new == [Created(1)])
        await later.aclose()
        assert (old, await t.parked()) == ([], [])


async def stack_of(app: App, t: Running) -> AsyncExitStack:
    """Run an app beside others, until the stack is closed."""
    stack = AsyncExitStack()
    await stack.enter_async_context(running(app, settings=t.settings))
    return stack


async def emitted(t: Running, subject: str, *numbers: int) -> None:
    """Emit an event with each number, each of another key."""
    for number in numbers:
        await t.emit(subject, Created(number), key=str(number))


async def filters(t: Running) -> set[str]:
    """Return what the consumer lets through, as the app named it."""
    name = f"{t.settings.namespace}_shop-note"
    info = await JetStream(t.up.bus).consumer(f"{t.settings.namespace}_EVENTS", name)
    return {one.rpartition("events.")[2] for one in info.config["filter_subjects"] if "replay" not in one}


@pytest.mark.parametrize("options", [{}, {"ordered": True}, {"batch": 3}], ids=str)
async def test_what_only_the_newer_one_subscribes_to_is_left_to_it(options: dict[str, Any]) -> None:
    """The older replicas share its consumer and are handed its events: none of these is handled by them, parked, lost or handled twice."""
    old, new = list[Created](), list[Created]()
    before, after = version(["order.created"], old, **options), version(["order.*"], new, **options)
    async with running(before) as t, running(version(["order.created"], old, **options), settings=t.settings):
        async with running(after, settings=t.settings):
            await emitted(t, "order.cancelled", *range(10))
            await emitted(t, "order.created", *range(10, 20))
            await eventually(lambda: len(old) + len(new) == 20)
        assert {event.number for event in new} >= set(range(10))
        assert {event.number for event in [*old, *new]} == set(range(20))
        assert len(old) + len(new) == 20
        assert await t.parked() == []


async def test_an_older_replica_that_starts_takes_nothing_away() -> None:
    """It adds to the filter of the consumer what is not there; what the newer ones want stays in it."""
    old, new = list[Created](), list[Created]()
    async with running(version(["order.*"], new)) as t:
        async with running(version(["order.created"], old), settings=t.settings):
            assert await filters(t) == {"order.*"}
        await emitted(t, "order.cancelled", 1)
        await eventually(lambda: len(new) == 1)
    assert old == []


async def test_a_filter_that_has_lost_what_somebody_subscribes_to_is_given_it_again() -> None:
    """As by whoever narrowed it, and did not know of a replica that runs: it looks now and then, and its events come again."""
    got = list[Created]()
    async with running(version(["order.created", "user.created"], got)) as t:
        stream, name = f"{t.settings.namespace}_EVENTS", f"{t.settings.namespace}_shop-note"
        jetstream = JetStream(t.up.bus)
        config = (await jetstream.consumer(stream, name)).config
        left = [one for one in config["filter_subjects"] if not one.endswith("user.created")]
        await jetstream.update_consumer(stream, name, {**config, "filter_subjects": left})
        assert await filters(t) == {"order.created"}
        async with asyncio.timeout(30):
            while await filters(t) != {"order.created", "user.created"}:  # noqa: ASYNC110 - it is the server that knows
                await asyncio.sleep(0.05)
        await emitted(t, "user.created", 1)
        await eventually(lambda: got == [Created(1)])


async def test_what_no_replica_subscribes_to_any_more_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The newer one was taken back: once it is gone for some time, its pattern is, and what still came by it is left alone."""
    monkeypatch.setattr(siblings, "QUIET", 1.0)
    old, new = list[Created](), list[Created]()
    async with running(version(["order.created"], old)) as t:
        async with running(version(["order.created", "user.created"], new), settings=t.settings):
            assert await filters(t) == {"order.created", "user.created"}
        await emitted(t, "user.created", 1)
        async with asyncio.timeout(30):
            while await filters(t) != {"order.created"} or await t.up.services[0].consumptions[0].waiting():  # noqa: ASYNC110 - it is the server that knows
                await asyncio.sleep(0.05)
        await emitted(t, "order.created", 2)
        await eventually(lambda: old == [Created(2)])
        assert new == []
        assert await t.parked() == []


async def test_nobody_has_a_consumer_widened_by_what_he_says_of_himself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever answers discovery could have a function handed all events, which it then passes on to nobody, for ever."""
    monkeypatch.setattr(siblings, "QUIET", 1.0)
    asked = 0
    async with running(version(["order.created"], [])) as t:
        subjects, name = t.up.services[0].subjects, t.up.services[0].consumptions[0].name

        def claim(_subject: bytes, reply: bytes, _block: bytes | None, _payload: bytes) -> None:
            nonlocal asked
            asked += 1
            t.up.bus.publish(reply, msgspec.json.encode({"metadata": {siblings.TOLD: json.dumps({name: [">"]})}}))

        await t.up.bus.subscribe(subjects.discovery("PING", "shop"), claim)
        async with running(version(["order.created", "user.created"], []), settings=t.settings):
            pass
        asked = 0
        await eventually(lambda: asked > 6)
        assert await filters(t) == {"order.created", "user.created"}


async def test_who_else_runs_is_asked_once_for_all_functions() -> None:
    """Each replica of hundreds tells of all its functions, so one that starts does not ask for each of its own."""
    asked: list[bytes] = []
    app = App("shop")

    @app.on("order.placed")
    async def bill(_: int) -> None: ...

    @app.on("order.placed")
    async def note(_: int) -> None: ...

    @app.on("order.placed", ordered=True)
    async def sum_up(_: int) -> None: ...

    async with running(App("other")) as t:
        subject = Subjects(t.settings.namespace).discovery("PING", "shop")
        await t.up.bus.subscribe(subject, lambda subject, *_: asked.append(subject))
        await t.up.bus.flush()
        async with running(app, settings=t.settings):
            await eventually(lambda: asked)
        await t.up.bus.flush()
    assert len(asked) == 1


async def test_who_takes_events_in_order_says_that_others_have_some(monkeypatch: pytest.MonkeyPatch, logged: list[str]) -> None:
    """A version that asks for no order goes on while it has any, and the new one with order would wait without a word."""
    monkeypatch.setattr(ordered, "PATIENCE", 0.0)
    old, new, go = App("shop"), App("shop"), asyncio.Event()
    done = list[int]()

    @old.on("order.created", group="ship")
    async def slow(number: int) -> None:
        await go.wait()

    @new.on("order.created", group="ship", ordered=True)
    async def ship(number: int) -> None:
        done.append(number)

    async with running(old) as t:
        await t.emit("order.created", 1)
        await eventually(lambda: len(t.up.services[0].consumptions[0].pull.held) == 1)
        async with running(new, settings=t.settings):
            await eventually(lambda: any("shop.ship begins nothing while other replicas have 1 of its events" in line for line in logged))
            go.set()
        await t.settled()
    assert sum("begins nothing" in line for line in logged) == 1
