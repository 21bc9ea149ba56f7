"""Events leave exactly with their transaction."""

# ruff: noqa: PT012 - what raises is the end of a transaction block

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from cliffracer.database import Database, create_missing
from cliffracer.database import relay as module
from cliffracer.database.outbox import CHANNEL, chosen, discard, forget, lag, parked, release
from cliffracer.database.relay import TURN, Relay, relaying
from cliffracer.errors import DeadlineExceeded, InvalidInput, SetupError, Unavailable
from tests.support.waiting import eventually


class Stream:
    """Keeps what is published, each message id once, as the stream does."""

    def __init__(self) -> None:
        self.events: dict[str, tuple[str, bytes, dict[str, str]]] = {}
        self.failing: Exception | None = None
        self.calls = 0

    async def publish(self, subject: str, payload: bytes, headers: dict[str, str], message_id: str) -> None:
        self.calls += 1
        await asyncio.sleep(0)
        if self.failing is not None:
            raise self.failing
        self.events.setdefault(message_id, (subject, payload, headers))


@pytest.fixture
async def outbox(db: Database) -> Database:
    await create_missing(db, [])
    return db


async def emit(db: Database, message_id: str, key: str | None = None) -> None:
    async with db.transaction() as transaction:
        await transaction.emit("user.created", message_id.encode(), {"ce-id": message_id}, message_id, key)


async def test_committed_event_is_published_with_everything(outbox):
    """Subject, payload, headers and id arrive as they were given, and the outbox is empty afterwards."""
    stream = Stream()
    async with relaying(outbox, stream.publish):
        await emit(outbox, "1")
        await eventually(lambda: stream.events)
        assert stream.events == {"1": ("user.created", b"1", {"ce-id": "1"})}
        await eventually(lambda: _nothing_pending(outbox))


async def _nothing_pending(db: Database) -> bool:
    return (await lag(db)).pending == 0


async def test_rolled_back_event_is_never_published(outbox):
    """Neither a failed transaction nor a failed savepoint emits; what is around the savepoint does."""
    stream = Stream()
    async with relaying(outbox, stream.publish):
        with pytest.raises(ZeroDivisionError):
            async with outbox.transaction() as transaction:
                await transaction.emit("a", b"", {}, "undone")
                raise ZeroDivisionError
        async with outbox.transaction() as transaction:
            with contextlib.suppress(ZeroDivisionError):
                async with outbox.transaction() as inner:
                    await inner.emit("a", b"", {}, "inner")
                    raise ZeroDivisionError
            await transaction.emit("a", b"", {}, "outer")
        await eventually(lambda: "outer" in stream.events)
    assert set(stream.events) == {"outer"}


async def test_the_end_waits_for_what_is_being_published_and_not_for_a_look(outbox, url, monkeypatch):
    """A database that hangs holds up no stop, unless events are on their way."""
    monkeypatch.setattr(module, "_LOOK", 0.01)
    monkeypatch.setattr(module, "_BATCH", 3600.0)
    stream, began, let = Stream(), asyncio.Event(), asyncio.Event()

    async def slow(*event) -> None:
        began.set()
        await let.wait()
        await stream.publish(*event)

    async with asyncio.timeout(60), Database.open(url) as elsewhere:
        async with relaying(outbox, slow, every=60):
            await emit(outbox, "1")
            await began.wait()
            asyncio.get_running_loop().call_later(0.1, let.set)
        assert "1" in stream.events
        async with elsewhere.transaction() as holding:
            await holding.execute("lock table cliffracer_outbox in access exclusive mode")
            async with relaying(outbox, slow, every=60):
                await eventually(lambda: _waits_for_a_lock(elsewhere))


async def _waits_for_a_lock(db: Database) -> bool:
    return bool(await db.fetch_value(int, "select count(*) from pg_locks where relation = 'cliffracer_outbox'::regclass and not granted"))


async def test_event_of_another_process_is_noticed(outbox, url):
    """A commit elsewhere wakes the relay by a notification, long before it would look by itself."""
    stream = Stream()
    async with relaying(outbox, stream.publish, every=60), Database.open(url) as elsewhere:
        await emit(outbox, "first")
        await eventually(lambda: "first" in stream.events)
        await eventually(lambda: _listening(outbox))
        await emit(elsewhere, "second")
        await eventually(lambda: "second" in stream.events)


async def test_commits_wait_for_no_other_to_notify(outbox, url):
    """A process that has a relay notifies nobody of what it commits, which would put all commits of the server in a row."""
    stream = Stream()
    async with relaying(outbox, stream.publish, every=60), Database.open(url) as elsewhere, hearing(elsewhere) as heard:
        await eventually(lambda: _listening(outbox, 2))
        await asyncio.gather(*(emit(outbox, str(number), key) for number, key in enumerate([None, "a", "b"] * 5)))
        await eventually(lambda: len(stream.events) == 15)
        await emit(elsewhere, "by one that has none")
        await eventually(lambda: "by one that has none" in stream.events)
        await eventually(lambda: heard)
        assert len(heard) == 1


async def test_relay_whose_turn_it_is_not_tells_the_one_that_has_it(outbox, url):
    """That one may have looked just before the commit: it is told, once for all that was committed meanwhile."""
    stream = Stream()
    async with relaying(outbox, stream.publish, every=60), Database.open(url) as elsewhere, hearing(elsewhere) as heard:
        await eventually(lambda: _listening(outbox, 2))
        async with elsewhere.transaction() as at_work:
            await at_work.fetch("select pg_advisory_xact_lock(%s)", TURN)
            await emit(outbox, "1")
            await eventually(lambda: heard)
            assert not stream.events
        assert len(heard) == 1


async def test_replica_without_nats_leaves_the_outbox_to_others(outbox, url):
    """It keeps nobody waiting while it would try in vain: what it commits is published by one that can."""
    stream, vain = Stream(), Stream()
    vain.failing = Unavailable("NATS is away")
    async with (
        relaying(outbox, vain.publish, every=60, able=lambda: vain.failing is None),
        Database.open(url) as elsewhere,
        relaying(elsewhere, stream.publish, every=60),
    ):
        await eventually(lambda: _listening(outbox, 2))
        await emit(outbox, "1")
        await emit(elsewhere, "2")
        await eventually(lambda: len(stream.events) == 2)
        await eventually(lambda: _nothing_pending(outbox))
        assert vain.calls == 0


@contextlib.asynccontextmanager
async def hearing(db: Database) -> AsyncIterator[list[str]]:
    """Give what relays are notified of while the block runs."""
    heard: list[str] = []

    async def listen() -> None:
        async for note in db.listen(CHANNEL):
            heard.append(note)  # noqa: PERF401 - it is looked at meanwhile

    task = asyncio.create_task(listen())
    yield heard
    task.cancel()
    await asyncio.wait([task])


async def _listening(db: Database, least: int = 1) -> bool:
    listeners = "select count(*) from pg_stat_activity where query like 'LISTEN%' and datname = current_database()"
    return await db.fetch_value(int, listeners) >= least


async def test_events_wait_while_the_stream_is_away(outbox):
    """What cannot be published now stays, and goes out later, once."""
    stream = Stream()
    stream.failing = Unavailable("NATS is away")
    async with relaying(outbox, stream.publish, every=0.01):
        for number in range(5):
            await emit(outbox, str(number))
        await eventually(lambda: stream.calls > 10)
        assert (await lag(outbox)).pending == 5
        stream.failing = None
        await eventually(lambda: len(stream.events) == 5)
    assert (await lag(outbox)).parked == 0


async def test_event_that_can_never_be_published_is_parked(outbox):
    """One that is refused for what it is holds nobody up, and is tried again when a person says so."""
    stream = Stream()
    stream.failing = InvalidInput("bad subject")
    relay = Relay(outbox, stream.publish)
    await emit(outbox, "bad", key="k")
    assert await relay.pass_once() == 1
    stream.failing = None
    await emit(outbox, "good", key="k")
    await relay.pass_once()
    assert set(stream.events) == {"good"}
    assert (await lag(outbox)).parked == 1
    assert len(await release(outbox)) == 1
    await relay.pass_once()
    assert set(stream.events) == {"good", "bad"}


async def test_event_of_which_nobody_knows_whether_it_was_published_is_published(outbox):
    """A time-out says nothing against it: it stays, however often, under the same id, and is not parked."""
    stream = Stream()
    stream.failing = DeadlineExceeded("no stream confirmed it in time")
    async with relaying(outbox, stream.publish, every=0.01):
        await emit(outbox, "1")
        await eventually(lambda: stream.calls > 2)
        assert await parked(outbox) == []
        stream.failing = None
        await eventually(lambda: set(stream.events) == {"1"})


async def test_event_that_fails_for_no_known_reason_is_parked_in_the_end(outbox, monkeypatch):
    """Whatever is wrong with it, or here, the events behind it of its key are not held up for ever."""
    monkeypatch.setattr(module, "TRIES", 3)
    stream, failed = Stream(), []

    async def publish(subject: str, payload: bytes, headers: dict[str, str], message_id: str) -> None:
        if message_id == "odd":
            failed.append(message_id)
            raise KeyError("nobody thought of that")
        await stream.publish(subject, payload, headers, message_id)

    await emit(outbox, "odd", "k")
    await emit(outbox, "next", "k")
    async with relaying(outbox, publish, every=0.01):
        await eventually(lambda: stream.events)
    assert (failed, set(stream.events)) == (["odd"] * 3, {"next"})
    assert [event.id for event in await parked(outbox)] == ["odd"]


async def test_parked_event_is_discarded_and_no_other(outbox):
    """A person may give up what cannot be published, by its number or all of it; what only waits is never removed."""
    stream = Stream()
    stream.failing = InvalidInput("bad subject")
    for name in ("a", "b", "c"):
        await emit(outbox, name)
    await Relay(outbox, stream.publish).pass_once()
    await emit(outbox, "waits")
    first, second, third = [event.number for event in await parked(outbox)]
    (waiting,) = await outbox.fetch(int, "select id from cliffracer_outbox where parked_at is null")
    assert await chosen(outbox) == [first, second, third]
    assert await discard(outbox, [second, waiting, 9**9]) == [second]
    assert await release(outbox, [third, waiting]) == [third]
    assert await discard(outbox) == [first]
    assert (await lag(outbox)).pending == 2


async def test_order_per_key_is_the_order_of_commits(outbox):
    """Events of a key are published as their transactions committed, whatever is going on at once and fails in between."""
    stream = Stream()
    order: list[bytes] = []
    flaky = iter(range(10_000))

    async def publish(subject: str, payload: bytes, headers: dict[str, str], message_id: str) -> None:
        await asyncio.sleep(0.001 * (len(order) % 3))
        if next(flaky) % 7 == 0:
            raise Unavailable("for a moment")
        if message_id not in stream.events:
            stream.events[message_id] = (subject, payload, headers)
            order.append(payload)

    await outbox.execute("create table counters (key text primary key, n int not null default 0)")
    await outbox.execute("insert into counters select 'k' || g from generate_series(0, 3) g")

    async def bump(key: str) -> None:
        async with outbox.transaction() as transaction:
            number = await transaction.fetch_value(int, "update counters set n = n + 1 where key = %s returning n", key)
            await transaction.emit("bumped", f"{key}:{number}".encode(), {}, f"{key}:{number}", key)

    async with relaying(outbox, publish, batch=7, every=0.01), relaying(outbox, publish, batch=5, every=0.01):
        await asyncio.gather(*(bump(f"k{number % 4}") for number in range(120)))
        await eventually(lambda: len(order) == 120, within=30)
    for key in range(4):
        numbers = [int(payload.split(b":")[1]) for payload in order if payload.startswith(b"k%d:" % key)]
        assert numbers == list(range(1, 31))


async def test_relay_takes_so_many_bytes_at_a_time(outbox, monkeypatch):
    """Large events leave in smaller batches, in order, one at least: what waited while NATS was away has to fit into memory."""
    monkeypatch.setattr(module, "BYTES", 1000)
    for number, size in enumerate([400, 600, 1, 5000, 1, 1]):
        async with outbox.transaction() as transaction:
            await transaction.emit("a", b"x" * size, {}, str(number), "all")
    stream = Stream()
    relay = Relay(outbox, stream.publish)
    assert [await relay.pass_once() for _ in range(5)] == [2, 2, 2, 0, 0]
    assert list(stream.events) == list("012345")


async def test_relay_outlives_what_nobody_thought_of(outbox, monkeypatch):
    """An error that has no name does not end it: events go out when it has passed."""
    stream = Stream()
    relay = Relay(outbox, stream.publish, every=0.01)
    passing, trouble = relay.pass_once, [ZeroDivisionError("odd"), SetupError("odder")]

    async def pass_once() -> int:
        if trouble:
            raise trouble.pop()
        return await passing()

    monkeypatch.setattr(relay, "pass_once", pass_once)
    task = asyncio.create_task(relay.run())
    await emit(outbox, "1")
    await eventually(lambda: stream.events)
    relay.stop()
    await task


async def test_only_one_relay_works_at_a_time(outbox):
    """While a relay is publishing, another one finds nothing to do."""
    begun, gate = asyncio.Event(), asyncio.Event()

    async def slow(*_: object) -> None:
        begun.set()
        await gate.wait()

    await emit(outbox, "1")
    first = asyncio.create_task(Relay(outbox, slow).pass_once())
    await eventually(begun.is_set)
    other = Stream()
    assert await Relay(outbox, other.publish).pass_once() == 0
    gate.set()
    assert await first == 1
    assert other.calls == 0


async def test_inbox_knows_an_event_again(outbox):
    """The first transaction handles it, a later one does not; a rolled back one did not handle it, and one that is over marks nothing."""
    with pytest.raises(ZeroDivisionError):
        async with outbox.transaction() as transaction:
            assert await transaction.first_time("mailer", "e1")
            raise ZeroDivisionError
    async with outbox.transaction() as transaction:
        assert await transaction.first_time("mailer", "e1")
    async with outbox.transaction() as transaction:
        assert not await transaction.first_time("mailer", "e1")
        assert await transaction.first_time("other", "e1")
    with pytest.raises(SetupError):
        await transaction.first_time("mailer", "e2")


async def test_second_delivery_waits_for_the_first(outbox):
    """Of two deliveries at once, one handles the event, and the other learns it only after the first has ended."""
    inside, go = asyncio.Event(), asyncio.Event()

    async def first() -> bool:
        async with outbox.transaction() as transaction:
            mine = await transaction.first_time("c", "e")
            inside.set()
            await go.wait()
            return mine

    async def second() -> bool:
        await inside.wait()
        async with outbox.transaction() as transaction:
            return await transaction.first_time("c", "e")

    tasks = asyncio.create_task(first()), asyncio.create_task(second())
    await inside.wait()
    await eventually(lambda: outbox.fetch_value(int, "select count(*) from pg_locks where not granted"))
    assert not tasks[1].done()
    go.set()
    assert await asyncio.gather(*tasks) == [True, False]


async def test_old_marks_are_forgotten(outbox):
    """The inbox does not grow for ever."""
    async with outbox.transaction() as transaction:
        await transaction.first_time("c", "e")
    assert await forget(outbox, older_than=3600) == 0
    assert await forget(outbox, older_than=-1) == 1


async def test_old_marks_are_forgotten_by_one_at_a_time(outbox, url):
    """Of replicas that forget at once one does it: two that delete the same rows would end in a deadlock."""
    async with outbox.transaction() as transaction:
        for number in range(3):
            await transaction.first_time("c", str(number))
    async with Database.open(url) as elsewhere:
        async with elsewhere.transaction():
            assert await forget(elsewhere, older_than=-1) == 3
            async with asyncio.timeout(20):  # it waits for nobody
                assert await forget(outbox, older_than=-1) == 0
        async with elsewhere.transaction():
            assert await forget(outbox, older_than=-1) == 0


async def test_tables_are_made_once_by_many(outbox, url):
    """Replicas that start at once make each table once."""
    await outbox.execute("drop table cliffracer_outbox, cliffracer_inbox")
    async with Database.open(url) as other:
        made = await asyncio.gather(*(create_missing(each, []) for each in (outbox, other) * 3))
    assert sorted(name for names in made for name in names) == ["cliffracer_inbox", "cliffracer_outbox"]
