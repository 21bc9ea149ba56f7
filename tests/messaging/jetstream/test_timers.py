"""Timers: once per cluster, without overlap, taken over, caught up."""

import asyncio
import time
from contextlib import suppress
from datetime import datetime

import msgspec
import pytest
from loguru import logger

from cliffracer.clock import Clock
from cliffracer.cron import Cron
from cliffracer.errors import NotFound, SetupError
from cliffracer.messaging.configurations import NANOSECONDS
from cliffracer.messaging.delivery import Delivery
from cliffracer.messaging.ensuring import ensure_stream
from cliffracer.messaging.jetstream import JetStream
from cliffracer.messaging.plans import At, Every, LocalTimer
from cliffracer.messaging.streams import timer_subject, timers_stream
from cliffracer.messaging.timers import LEASE, Timer
from cliffracer.testing.clock import MovableClock
from cliffracer.wire.subjects import Subjects
from tests.messaging.jetstream.conftest import Join
from tests.messaging.jetstream.support import asked_of
from tests.support.nats import NatsServer
from tests.support.waiting import eventually


class Runs:
    """Counts its runs and how many went on at once."""

    def __init__(self, takes: float = 0.0) -> None:
        self.times: list[float] = []
        self.together = 0
        self.most = 0
        self._takes = takes

    async def __call__(self) -> None:
        self.times.append(time.time())
        self.together += 1
        self.most = max(self.most, self.together)
        try:
            await asyncio.sleep(self._takes)
        finally:
            self.together -= 1


async def test_a_timer_runs_once_per_cluster(join: Join, subjects: Subjects):
    """Three replicas, one run for each time that is due."""
    runs, plan = Runs(), Every(3600.0)
    clocks = [MovableClock() for _ in range(3)]
    timers = [Timer(JetStream(await join()), subjects, "reports", "purge", plan, runs, clock=clock) for clock in clocks]
    await asyncio.gather(*(timer.start() for timer in timers))
    for hour in range(5):
        for clock in clocks:
            clock.advance(3600.0)
        await eventually(lambda hour=hour: len(runs.times) > hour)
    await eventually(lambda: not any(timer.publishing for timer in timers))
    await asyncio.gather(*(timer.drain(2) for timer in timers))
    assert len(runs.times) == 5


async def test_a_timer_does_not_overlap_with_itself(join: Join, subjects: Subjects):
    """What is due while it runs is made up for once, after it."""
    runs = Runs(takes=0.5)
    timers = [Timer(JetStream(await join()), subjects, "reports", "purge", Every(0.2), runs) for _ in range(2)]
    await asyncio.gather(*(timer.start() for timer in timers))
    await eventually(lambda: len(runs.times) >= 3)
    await asyncio.gather(*(timer.drain(2) for timer in timers))
    assert runs.most == 1


async def test_another_replica_takes_over_within_the_lease(join: Join, subjects: Subjects):
    """The holder is cut off in the middle of a run; the timer goes on elsewhere."""
    stuck, runs = Runs(takes=60), Runs()
    holder = Timer(JetStream(await join()), subjects, "reports", "purge", Every(0.3), stuck, lease=1.0)
    await holder.start()
    await eventually(lambda: stuck.times)
    await holder.consumption.pull.close()  # it extends its lease no more, as if it were dead
    other = Timer(JetStream(await join()), subjects, "reports", "purge", Every(0.3), runs, lease=1.0)
    await other.start()
    await eventually(lambda: len(runs.times) >= 2)
    await other.drain(1)
    await holder.drain(0)


async def test_a_replica_that_stood_still_begins_nothing_that_is_stale(join: Join, subjects: Subjects, monkeypatch: pytest.MonkeyPatch):
    """What it was sent meanwhile another has, or gets after the lease: it begins no second run beside that one."""
    runs, clock = Runs(), MovableClock()
    timer = Timer(JetStream(await join()), subjects, "reports", "purge", Every(60.0), runs, clock=clock, lease=1.0)
    await timer.start()
    pull, left = timer.consumption.pull, asyncio.Event()
    leave, recover = pull.leave, pull._recover

    def noted(delivery: Delivery) -> None:
        left.set()
        leave(delivery)

    async def later() -> None:
        await left.wait()
        await recover()

    monkeypatch.setattr(pull, "leave", noted)
    monkeypatch.setattr(pull, "_recover", later)
    pull._extended -= 3600  # as of before the machine stood still
    assert pull.overslept()
    clock.advance(60.0)
    await left.wait()
    assert (runs.times, pull.held) == ([], {})
    await eventually(lambda: runs.times)  # nobody else was there, so it comes again
    assert len(runs.times) == 1
    await timer.drain(1)


async def test_a_machine_that_stands_still_is_sent_no_more_after_the_lease(
    jetstream: JetStream, subjects: Subjects, monkeypatch: pytest.MonkeyPatch
):
    """The server cannot know that it does, so what it asked for ends by itself; asked for 30 s, that would hand it each tick again."""
    asked = asked_of(jetstream, monkeypatch)
    timer = Timer(jetstream, subjects, "reports", "purge", Every(3600.0), Runs())
    await timer.start()
    await timer.drain(1)
    assert [request["expires"] for request in asked] == [LEASE * NANOSECONDS]


class Ahead(Clock):
    """A clock that is wrong."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def now(self) -> float:
        return time.time() + self._seconds


class Rarely:
    """A plan that is due at one moment, and each hour before and after."""

    def __init__(self, due: float) -> None:
        self._due = due

    def after(self, moment: float) -> float:
        return self._due if moment < self._due else self._due + 3600

    def until(self, moment: float) -> float:
        return self._due if moment >= self._due else self._due - 3600


async def test_a_time_is_due_by_the_clock_of_the_server(jetstream: JetStream, join: Join, subjects: Subjects):
    """Replicas whose clocks are ahead and behind note the same time; it does not come early, and not twice."""
    runs, plan = Runs(), Rarely(time.time() + 2)
    timers = [Timer(JetStream(await join()), subjects, "reports", "purge", plan, runs, clock=Ahead(by)) for by in (1.2, -1.2)]
    await asyncio.gather(*(timer.start() for timer in timers))
    await eventually(lambda: runs.times)
    tick = await jetstream.last_message("TIMERS", timer_subject(subjects, "reports-purge-timer"))
    assert tick is not None
    assert datetime.fromisoformat(tick.time).timestamp() >= msgspec.json.decode(tick.data)["due"]
    await asyncio.gather(*(timer.drain(2) for timer in timers))
    assert len(runs.times) == 1


async def test_a_time_that_comes_while_no_replica_is_there_is_kept_by_the_server(jetstream: JetStream, subjects: Subjects):
    """It was noted before they went; the first that is back runs it, once, and not what was not due meanwhile."""
    never, runs = Runs(), Runs()
    plan = Rarely(time.time() + 2.5)
    gone = Timer(jetstream, subjects, "reports", "purge", plan, never)
    await gone.start()
    while (await jetstream.stream("TIMERS")).state.messages == 0:  # noqa: ASYNC110 - it is the server that knows
        await asyncio.sleep(0.01)
    await gone.drain(0)
    while await jetstream.last_message("TIMERS", timer_subject(subjects, "reports-purge-timer")) is None:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    back = [Timer(jetstream, subjects, "reports", "purge", plan, runs) for _ in range(2)]
    await asyncio.gather(*(timer.start() for timer in back))
    await eventually(lambda: runs.times)
    await asyncio.gather(*(timer.drain(1) for timer in back))
    assert (len(never.times), len(runs.times)) == (0, 1)


@pytest.mark.parametrize("how", ["deleted", "went back"])
async def test_a_timer_goes_on_where_its_stream_was_lost(jetstream: JetStream, subjects: Subjects, server: NatsServer, how: str):
    """With the disk of the server, or to a power cut: what was noted for later is noted again, in a stream that takes that again."""
    if how == "went back":
        await ensure_stream(jetstream, timers_stream(subjects, schedules=True))
        await asyncio.to_thread(server.keep)
    timer = Timer(jetstream, subjects, "reports", "purge", Rarely(time.time() + 50), Runs())
    await timer.start()

    async def noted() -> None:
        while True:
            with suppress(NotFound):
                if (await jetstream.stream("TIMERS")).state.messages == 1:
                    return
            await asyncio.sleep(0.01)

    async with asyncio.timeout(30):
        await noted()
        await (jetstream.delete_stream("TIMERS") if how == "deleted" else asyncio.to_thread(server.go_back))
        await noted()
    await timer.drain(1)


async def test_ticks_that_cannot_be_published_are_one_warning(jetstream: JetStream, subjects: Subjects, monkeypatch: pytest.MonkeyPatch):
    """However many there are, until one can be published again."""
    clock, runs, refused = MovableClock(), Runs(), 0
    lines: list[str] = []
    number = logger.add(lines.append, format="{message}", filter=lambda record: record["level"].name == "WARNING")
    timer = Timer(jetstream, subjects, "reports", "purge", Every(60.0), runs, clock=clock)
    await timer.start()

    async def refuse(*_: object, **__: object) -> None:
        nonlocal refused
        refused += 1
        raise SetupError("no")

    for round_ in (1, 2):
        monkeypatch.setattr(jetstream, "store", refuse)
        for count in (1, 2, 3):
            clock.advance(60)
            await eventually(lambda count=count, round_=round_: refused == 3 * (round_ - 1) + count and not timer.publishing)
        monkeypatch.undo()
        clock.advance(60)
        await eventually(lambda round_=round_: len(runs.times) == round_)
    await timer.drain(1)
    logger.remove(number)
    assert sum("could not be published" in line for line in lines) == 2


async def test_a_server_without_schedules_is_told_when_it_is_due(jetstream: JetStream, subjects: Subjects, monkeypatch: pytest.MonkeyPatch):
    """As is one whose stream an operator has made otherwise: it is the replicas' clocks that count then."""
    monkeypatch.setattr(JetStream, "version", (2, 11, 4))
    runs = Runs()
    timer = Timer(jetstream, subjects, "reports", "purge", Every(2.0), runs)
    await timer.start()
    await eventually(lambda: runs.times)
    await timer.drain(1)
    config = (await jetstream.stream("TIMERS")).config
    assert (config["discard"], config.get("allow_msg_schedules")) == ("new", None)
    monkeypatch.undo()
    again = Timer(jetstream, subjects, "reports", "purge", Every(2.0), runs)
    await again.start()
    await eventually(lambda: len(runs.times) == 2)
    await again.drain(1)


async def test_what_was_missed_is_made_up_for_once(jetstream: JetStream, subjects: Subjects):
    """A timer that is due daily and was down at that time runs when it comes back."""
    now, runs = 1_700_000_000.0, Runs()
    plan = At(Cron("0 12 * * *"))
    for clock in (plan.until(now) - 1, plan.until(now) + 3 * 86_400 + 60):
        count = len(runs.times)
        timer = Timer(jetstream, subjects, "reports", "purge", plan, runs, clock=_from(clock))
        await timer.start()
        await eventually(lambda count=count: len(runs.times) == count + 1)
        await timer.drain(1)


async def test_tidying_up_behind_the_first_tick_keeps_it(jetstream: JetStream, subjects: Subjects):
    """Servers before 2.12 take a purge before number 1 for one of everything, so none is asked for."""
    await ensure_stream(jetstream, timers_stream(subjects))
    await jetstream.store(timer_subject(subjects, "x"), b"")
    assert await jetstream.purge("TIMERS", filter=timer_subject(subjects, "x"), seq=1) == 0
    assert (await jetstream.stream("TIMERS")).state.messages == 1


async def test_what_was_missed_may_be_left_out(jetstream: JetStream, subjects: Subjects):
    """With ``skip``, a timer waits for its next time."""
    runs, plan = Runs(), At(Cron("0 12 * * *"))
    noon = plan.until(1_700_000_000.0)
    for due, before in ((noon, 0), (noon + 2 * 86_400, 1)):
        clock = _from(due - 3600)
        timer = Timer(jetstream, subjects, "reports", "purge", plan, runs, missed="skip", clock=clock)
        await timer.start()
        for _ in range(5):
            await jetstream.bus.flush()
        assert len(runs.times) == before  # yesterday's, which was missed, is left out
        clock.advance(3600)
        await eventually(lambda before=before: len(runs.times) == before + 1)
        await timer.drain(1)


async def test_a_timer_goes_on_after_the_server_was_killed(jetstream: JetStream, subjects: Subjects, server: NatsServer):
    """Ticks that could not be published are no reason to stop."""
    runs = Runs()
    timer = Timer(jetstream, subjects, "reports", "purge", Every(0.3), runs)
    await timer.start()
    await eventually(lambda: runs.times)
    await asyncio.to_thread(server.restart)
    count = len(runs.times)
    await eventually(lambda: len(runs.times) >= count + 2)
    await timer.drain(1)


async def test_a_timer_that_fails_runs_again_next_time(jetstream: JetStream, subjects: Subjects):
    """A failure is logged, not parked, and does not end the timer."""
    runs = 0

    async def fails() -> None:
        nonlocal runs
        runs += 1
        raise ValueError("no")

    timer = Timer(jetstream, subjects, "reports", "purge", Every(0.2), fails)
    await timer.start()
    await eventually(lambda: runs >= 3)
    await timer.drain(1)
    assert "DEAD" not in await jetstream.stream_names()


async def test_a_timer_of_each_replica_needs_no_server():
    """It runs here, without overlap, and stops in order."""
    runs = Runs(takes=0.15)
    timer = LocalTimer("purge", Every(0.1), runs)
    await timer.start()
    await eventually(lambda: len(runs.times) >= 3)
    await timer.drain(1)
    assert (runs.most, runs.together) == (1, 0)


def _from(moment: float):
    """A clock that goes on from a moment."""
    clock = MovableClock()
    clock.ahead = moment - time.time()
    return clock
