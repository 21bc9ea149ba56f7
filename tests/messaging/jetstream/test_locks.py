"""Locks with fencing tokens, and leaders: one holder, taken over when it dies, told when it has lost."""

import asyncio
import contextlib
import time
from typing import Any

import pytest

from cliffracer.errors import DeadlineExceeded, Internal, NotFound, SetupError, Unavailable
from cliffracer.messaging import locks
from cliffracer.messaging.backend import JetStreamBackend
from cliffracer.messaging.bus import connect
from cliffracer.messaging.jetstream import JetStream, PubAck, Stored
from cliffracer.messaging.locks import Leader, Lock
from cliffracer.settings import Settings
from cliffracer.wire.subjects import Subjects
from tests.messaging.jetstream.conftest import Join
from tests.support.nats import NatsServer
from tests.support.waiting import eventually


async def test_one_holds_a_lock_at_a_time_and_tokens_rise(join: Join, subjects: Subjects):
    """Many contenders on several connections, each in turn."""
    held, most, tokens = 0, 0, []

    async def work(jetstream: JetStream) -> None:
        nonlocal held, most
        for _ in range(5):
            async with Lock(jetstream, subjects, "job", ttl=5) as lock:
                held += 1
                most = max(most, held)
                tokens.append(lock.token)
                await asyncio.sleep(0.005)
                held -= 1

    await asyncio.gather(*[work(JetStream(await join())) for _ in range(4)])
    assert (most, len(tokens)) == (1, 20)
    assert tokens == sorted(set(tokens))


async def test_a_lock_of_a_dead_holder_is_taken_over(join: Join, subjects: Subjects):
    """After its ttl, and not before."""
    dead = Lock(JetStream(await join()), subjects, "job", ttl=0.6)
    await dead.acquire()  # and never renewed
    began = time.monotonic()
    async with Lock(JetStream(await join()), subjects, "job", ttl=0.6) as lock:
        assert lock.token > dead.token
    assert time.monotonic() - began >= 0.55


async def test_a_living_holder_keeps_its_lock(join: Join, subjects: Subjects):
    """However long it works."""
    async with Lock(JetStream(await join()), subjects, "job", ttl=1.0):
        with pytest.raises(Unavailable, match="lock job is held by somebody else"):
            await Lock(JetStream(await join()), subjects, "job", ttl=1.0, wait=2.5).acquire()


async def test_a_released_lock_is_had_at_once(join: Join, subjects: Subjects):
    """Whoever waits is told."""
    first, second = Lock(JetStream(await join()), subjects, "job", ttl=60), Lock(JetStream(await join()), subjects, "job", ttl=60)
    async with first:
        waiting = asyncio.create_task(second.acquire())
        await asyncio.sleep(0)
    async with asyncio.timeout(30):
        await waiting


async def test_those_who_wait_in_one_process_ask_one_after_the_other(
    jetstream: JetStream, subjects: Subjects, monkeypatch: pytest.MonkeyPatch
):
    """A hundred calls that want one lock are no hundred contenders in the cluster at each release; they get it in their order."""
    asked = 0
    read = jetstream.last_message

    async def counted(stream: str, subject: str) -> Stored | None:
        nonlocal asked
        asked += 1
        return await read(stream, subject)

    monkeypatch.setattr(jetstream, "last_message", counted)
    backend, order, tokens = JetStreamBackend(jetstream, subjects), [], []

    async def one(number: int) -> None:
        async with backend.lock("job", wait=60) as lock:
            order.append(number)
            tokens.append(lock.token)

    await asyncio.gather(*(one(number) for number in range(100)))
    assert order == list(range(100))
    assert tokens == sorted(set(tokens))
    assert asked == 100


async def test_who_gives_up_waiting_leaves_his_turn_to_others(jetstream: JetStream, subjects: Subjects):
    """Out of time, or cancelled, behind a holder of the same process."""
    backend = JetStreamBackend(jetstream, subjects)
    async with backend.lock("job"):
        with pytest.raises(Unavailable, match="job is held"):
            await backend.lock("job", wait=0.05).acquire()
        cancelled = asyncio.create_task(backend.lock("job").acquire())
        await asyncio.sleep(0.05)
        cancelled.cancel()
        waits = asyncio.create_task(backend.lock("job", wait=30).acquire())
        await asyncio.sleep(0)
    await waits
    assert cancelled.cancelled()


async def test_who_gives_up_a_lock_that_another_process_has_leaves_his_turn_to_others(join: Join, subjects: Subjects):
    """Of his own process, who would wait for him for ever."""
    backend = JetStreamBackend(JetStream(await join()), subjects)
    early, late = backend.lock("job", wait=0.1), backend.lock("job", wait=30)
    async with Lock(JetStream(await join()), subjects, "job"):
        with pytest.raises(Unavailable, match="job is held"):
            await early.acquire()
    async with late:
        pass


async def test_a_lock_is_held_from_when_it_was_asked_for(jetstream: JetStream, subjects: Subjects, monkeypatch: pytest.MonkeyPatch):
    """Others count from when the server wrote it, which is earlier than when its holder hears of that."""
    store, asked = jetstream.store, []

    async def noted(*given: Any, **options: Any) -> PubAck:
        ack = await store(*given, **options)
        asked.append(time.monotonic())
        return ack

    monkeypatch.setattr(jetstream, "store", noted)
    async with Lock(jetstream, subjects, "job") as lock:
        assert lock._renewed < asked[0]


async def test_who_waits_for_a_lock_goes_on_waiting_while_nobody_can_have_it(
    jetstream: JetStream, subjects: Subjects, monkeypatch: pytest.MonkeyPatch
):
    """NATS away, and a record that nobody of ours has written, are no reason to give up."""
    read, troubles = jetstream.last_message, [Unavailable("away"), DeadlineExceeded("late"), NotFound("no stream")]
    monkeypatch.setattr(locks, "_POLL", 0.05)

    async def troubled(stream: str, subject: str) -> Stored | None:
        if troubles:
            raise troubles.pop()
        return await read(stream, subject)

    monkeypatch.setattr(jetstream, "last_message", troubled)
    async with Lock(jetstream, subjects, "job", wait=30) as lock:
        subject = lock._subject
    await jetstream.store(subject, b"\xff no record")
    async with Lock(jetstream, subjects, "job", ttl=600, wait=30) as lock:
        assert lock.sure
        lock._renewed -= 0.9 * 600
        assert not lock.sure  # others may have it soon: nothing is begun any more
    assert troubles == []


async def test_who_does_not_wait_for_nats_either_is_told_what_is_the_matter(jetstream: JetStream, subjects: Subjects, server: NatsServer):
    """Nobody has the lock: it cannot be asked for."""
    await asyncio.to_thread(server.kill)
    await eventually(lambda: not jetstream.bus.connected)
    with pytest.raises(Unavailable, match="could not be asked for: NATS is away") as caught:
        await Lock(jetstream, subjects, "job", wait=0).acquire()
    assert caught.value.details["reason"] == "away"
    await asyncio.to_thread(server.start)


async def test_a_holder_that_is_cut_off_is_told(jetstream: JetStream, subjects: Subjects, server: NatsServer):
    """Its block is cancelled before another may have the lock, and ends with `Unavailable`."""

    async def work() -> None:
        async with Lock(jetstream, subjects, "job", ttl=1.0):
            await asyncio.to_thread(server.kill)
            await asyncio.sleep(30)

    with pytest.raises(Unavailable, match="lock job was lost"):
        await work()
    await asyncio.to_thread(server.start)


async def test_a_holder_that_cannot_write_for_any_other_reason_is_told_as_well(
    jetstream: JetStream, subjects: Subjects, monkeypatch: pytest.MonkeyPatch
):
    """Nobody believes to hold what he can no longer renew."""

    async def refused(*_: object, **__: object) -> None:
        raise Internal("no such account")

    async def work() -> None:
        async with Lock(jetstream, subjects, "job", ttl=0.6):
            monkeypatch.setattr(jetstream, "store", refused)
            await asyncio.sleep(30)

    with pytest.raises(Unavailable, match="lock job was lost"):
        await work()


async def test_a_holder_whose_lock_another_has_by_now_is_told_and_leaves_it_to_him(jetstream: JetStream, subjects: Subjects):
    """As one that stood still for longer than its ttl, when it wakes up."""

    async def work() -> None:
        async with Lock(jetstream, subjects, "job", ttl=0.6) as lock:
            nonlocal token
            token = (await jetstream.store(lock._subject, b'{"owner":"another","ttl":600}')).seq
            await asyncio.sleep(30)

    token = 0
    with pytest.raises(Unavailable, match="lock job was lost"):
        await work()
    held = Lock(jetstream, subjects, "job", ttl=0.6, wait=0.3)
    with pytest.raises(Unavailable, match="held by somebody else"):
        await held.acquire()
    assert (await held._read())[0] == token


async def test_what_a_holder_wrote_without_being_told_costs_no_lock(
    jetstream: JetStream, subjects: Subjects, monkeypatch: pytest.MonkeyPatch
):
    """The server took it while it hung, or the connection was cut with the answer on its way: nobody else has written anything."""
    store, told = jetstream.store, asyncio.Event()
    written = 0

    async def unheard(*given: Any, **options: Any) -> PubAck:
        nonlocal written
        ack = await store(*given, **options)
        written += 1
        if written == 5:
            told.set()
        if written in (2, 3, 5):  # two renewals one after the other, and the last one before the release
            raise DeadlineExceeded("no answer in time")
        return ack

    monkeypatch.setattr(jetstream, "store", unheard)
    async with Lock(jetstream, subjects, "job", ttl=1.5):
        await told.wait()
    monkeypatch.undo()
    async with Lock(jetstream, subjects, "job", ttl=60, wait=60):
        pass


async def test_who_is_cancelled_while_he_takes_a_lock_leaves_it_to_others(
    jetstream: JetStream, subjects: Subjects, monkeypatch: pytest.MonkeyPatch
):
    """By himself or by his ``wait``: the server may have given it to him already, and nobody would let go of it before its ttl is over."""
    store = jetstream.store

    async def cancelled(*given: Any, **options: Any) -> PubAck:
        task = asyncio.current_task()
        assert task is not None
        monkeypatch.undo()
        task.cancel()
        return await store(*given, **options)

    monkeypatch.setattr(jetstream, "store", cancelled)
    taking = asyncio.create_task(Lock(jetstream, subjects, "job", ttl=600).acquire())
    await asyncio.wait([taking])
    assert taking.cancelled()
    async with Lock(jetstream, subjects, "job", ttl=600, wait=60):
        pass


async def test_who_is_cancelled_when_he_has_just_got_a_lock_leaves_it_to_others(
    jetstream: JetStream, subjects: Subjects, monkeypatch: pytest.MonkeyPatch
):
    """While he ends listening for its release, which takes the stock transport a moment."""

    async def cancelled(_: object) -> None:
        taking.cancel()
        await asyncio.sleep(0)

    monkeypatch.setattr(locks, "_closed", cancelled)
    taking = asyncio.create_task(Lock(jetstream, subjects, "job", ttl=600).acquire())
    await asyncio.wait([taking])
    monkeypatch.undo()
    assert taking.cancelled()
    async with Lock(jetstream, subjects, "job", ttl=600, wait=60):
        pass


async def test_a_holder_that_is_cancelled_as_it_leaves_lets_go_of_the_lock(jetstream: JetStream, subjects: Subjects):
    """At each place where it waits to leave, and with its own error."""

    async def work() -> None:
        async with Lock(jetstream, subjects, "job", ttl=600, wait=60):
            entered.set()

    for turns in range(6):
        entered = asyncio.Event()
        working = asyncio.create_task(work())
        await entered.wait()
        for _ in range(turns):
            await asyncio.sleep(0)
        working.cancel()
        await asyncio.wait([working])
        assert working.cancelled() or working.exception() is None
    async with Lock(jetstream, subjects, "job", ttl=600, wait=60):
        pass


async def test_a_lock_that_is_left_while_it_is_renewed_is_free(jetstream: JetStream, subjects: Subjects, monkeypatch: pytest.MonkeyPatch):
    """Its holder does not hear any more that he has renewed it."""
    store, renewed = jetstream.store, asyncio.Event()

    async def unheard(*given: Any, **options: Any) -> PubAck:
        await store(*given, **options)
        monkeypatch.undo()
        renewed.set()
        await asyncio.Event().wait()
        raise AssertionError

    async with Lock(jetstream, subjects, "job", ttl=600) as lock:
        lock.ttl = 0.3
        await asyncio.sleep(0)  # it sleeps for a third of that
        lock.ttl = 600
        monkeypatch.setattr(jetstream, "store", unheard)
        await renewed.wait()
    async with Lock(jetstream, subjects, "job", ttl=600, wait=60):
        pass


async def test_a_lost_lock_leaves_no_cancellation_behind(jetstream: JetStream, subjects: Subjects, monkeypatch: pytest.MonkeyPatch):
    """Whatever the block made of it, and although another cancellation was swallowed before: time-outs count them."""

    async def refused(*_: object, **__: object) -> None:
        raise Internal("no such account")

    async def hold(*, own: bool) -> None:
        async with Lock(jetstream, subjects, "job", ttl=0.3):
            monkeypatch.setattr(jetstream, "store", refused)
            try:
                await asyncio.sleep(30)
            finally:
                monkeypatch.undo()
                if own:
                    raise KeyError("of its own")

    async def work(*, own: bool) -> int:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0)
        with pytest.raises(KeyError if own else Unavailable):
            await hold(own=own)
        return task.cancelling()

    assert [await asyncio.create_task(work(own=own)) for own in (True, False)] == [1, 1]


async def test_a_short_restart_of_the_server_costs_no_lock(jetstream: JetStream, subjects: Subjects, server: NatsServer):
    """The record is on disk."""
    async with Lock(jetstream, subjects, "job", ttl=6) as lock:
        token = lock.token
        await asyncio.to_thread(server.restart)
    async with Lock(jetstream, subjects, "job", ttl=6) as lock:
        assert lock.token > token


async def test_a_leader_runs_in_one_replica_and_moves_when_it_stops(join: Join, subjects: Subjects):
    """The next one begins at once after an orderly stop."""
    running: list[int] = []

    def leader(number: int, jetstream: JetStream) -> Leader:
        async def lead() -> None:
            running.append(number)
            try:
                await asyncio.Event().wait()
            finally:
                running.remove(number)

        return Leader(jetstream, subjects, "feed", lead, ttl=2)

    leaders = [leader(number, JetStream(await join())) for number in range(3)]
    for one in leaders:
        await one.start()
    await eventually(lambda: running)
    first = running[0]
    await leaders[first].drain(1)
    await eventually(lambda: running and running[0] != first)
    assert len(running) == 1
    for one in leaders:
        await one.drain(1)
    assert running == []


async def test_another_leads_when_the_leader_dies(join: Join, subjects: Subjects):
    """Cut off in the middle of it: it is told, and another begins after the ttl, not before the first has ended."""
    running: list[str] = []

    def leader(name: str, jetstream: JetStream) -> Leader:
        async def lead() -> None:
            running.append(f"{name} begins")
            try:
                await asyncio.Event().wait()
            finally:
                running.append(f"{name} ends")

        return Leader(jetstream, subjects, "feed", lead, ttl=1.0)

    dying = await join()
    first, second = leader("first", JetStream(dying)), leader("second", JetStream(await join()))
    await first.start()
    await eventually(lambda: running)
    await second.start()
    await dying.close()
    await eventually(lambda: "second begins" in running)
    await first.drain(1)
    await second.drain(1)
    assert running == ["first begins", "first ends", "second begins", "second ends"]


async def test_a_leader_that_has_done_its_work_does_it_once(join: Join, subjects: Subjects):
    """It keeps the lead, so that no other replica does it again."""
    runs = 0

    async def lead() -> None:
        nonlocal runs
        runs += 1

    leaders = [Leader(JetStream(await join()), subjects, "feed", lead, ttl=0.6) for _ in range(2)]
    for one in leaders:
        await one.start()
    await eventually(lambda: runs)
    with pytest.raises(Unavailable, match="lock feed is held"):
        await Lock(JetStream(await join()), subjects, "feed", wait=1.5).acquire()
    assert (runs, sum(one.leading for one in leaders)) == (1, 1)
    for one in leaders:
        await one.drain(1)


async def test_a_leader_says_at_the_start_that_there_is_no_jetstream(subjects: Subjects):
    """As events and timers do; it would never lead."""

    async def lead() -> None: ...

    with NatsServer() as server:
        bus = await connect(Settings(nats_url=server.url, wait=5.0), name="test")
        with pytest.raises(SetupError, match="JetStream is not enabled"):
            await Leader(JetStream(bus), subjects, "feed", lead).start()
        await bus.close()


@pytest.mark.parametrize(("steady", "pause"), [(-1.0, 2.0), (3600.0, 30.0)])
async def test_a_leader_that_had_led_for_long_is_begun_again_soon(
    jetstream: JetStream, subjects: Subjects, monkeypatch: pytest.MonkeyPatch, steady: float, pause: float
):
    """Only one that fails again and again waits longer each time; else each failure in a year would make the next outage longer."""
    monkeypatch.setattr(locks, "_STEADY", steady)
    monkeypatch.setattr(locks.random, "random", lambda: -0.5)  # no pause at all
    runs = 0

    async def lead() -> None:
        nonlocal runs
        runs += 1
        if runs <= 6:
            raise ValueError("no")

    one = Leader(jetstream, subjects, "feed", lead, ttl=2)
    await one.start()
    await eventually(lambda: runs == 7)
    await one.drain(1)
    assert one._pause == pause


async def test_a_leader_that_fails_is_begun_again(jetstream: JetStream, subjects: Subjects):
    """Here or in another replica."""
    runs = 0

    async def lead() -> None:
        nonlocal runs
        runs += 1
        raise ValueError("no")

    one = Leader(jetstream, subjects, "feed", lead, ttl=2)
    await one.start()
    await eventually(lambda: runs == 2)
    await one.drain(1)
