"""A test moves time: timers fire and retries come when the clock says so, not when the day is over."""

import asyncio
import re
from collections.abc import AsyncIterator
from itertools import pairwise

import pytest
from loguru import logger
from websockets.asyncio.client import connect

from cliffracer import App, Event, Identity, Transaction, requires
from cliffracer.clock import Clock
from cliffracer.messaging.plans import Every, Wait
from cliffracer.testing import running
from tests.support.waiting import eventually


async def test_a_timer_fires_when_the_clock_is_moved():
    """An hourly timer runs once for each hour that the test lets pass, for the cluster and for the replica alike."""
    app, runs = App("s"), []

    @app.every("1h")
    async def hourly() -> None:
        runs.append("cluster")

    @app.every("1h", each=True)
    def hourly_here() -> None:
        runs.append("replica")

    @app.cron("0 9 * * *", tz="Europe/Berlin")
    async def daily() -> None:
        runs.append("daily")

    async with running(app) as t:
        await t.settled()
        assert runs == []
        for _ in range(2):
            await t.clock.advance("1h")
            await t.settled()
        while runs.count("replica") < 2:
            await t.settled()
        assert (runs.count("cluster"), runs.count("replica")) == (2, 2)
        await t.clock.advance("1d")
        await t.settled()
        assert runs.count("daily") >= 1


@pytest.mark.parametrize("each", [False, True])
async def test_what_a_timer_raised_is_logged_once(each):
    """With its traceback; a second line would say that it failed, and no more."""
    app, lines = App("s"), []

    @app.every("1h", each=each)
    async def hourly() -> None:
        raise ValueError("not now")

    async with running(app) as t:
        sink = logger.add(lambda line: lines.append(line.record["message"]), level="WARNING")
        await t.clock.advance("1h")
        await eventually(lambda: lines)
        await t.settled()
        logger.remove(sink)
    [line] = lines
    assert re.fullmatch(r"hourly \(.*test_clock\.py:\d+\) failed", line)


async def test_a_one_way_call_is_tried_again_when_the_clock_is_moved():
    """As an event is whose handler failed."""
    app, tried = App("s"), []

    @app.rpc(retry=["10m"])
    async def book(amount: int) -> None:
        tried.append(amount)
        if len(tried) == 1:
            raise RuntimeError("not yet")

    async with running(app) as t:
        await app.service("s").send.book(amount=5)
        sends = t.up.services[0]._sends
        await eventually(lambda: sends.consumption is not None and sends.consumption.counts.failed == 1)
        await t.clock.advance("10m")
        await t.settled()
    assert tried == [5, 5]


async def test_a_retry_comes_when_the_clock_is_moved():
    """An event whose handler failed is handled again after its wait, which the test skips, and not a minute earlier."""
    app, attempts, moments = App("s"), [], []

    @app.on("paid", retry=["10m", "1h"])
    async def book(amount: int, *, event: Event) -> None:
        attempts.append(event.attempt)
        moments.append(t.clock.now())
        if event.attempt < 3:
            raise RuntimeError("not yet")

    async with running(app) as t:
        counts = t.up.services[0].consumptions[0].counts
        await t.emit("paid", 5)
        for failures, wait in enumerate(("9m", "59m"), 1):
            while counts.failed < failures:  # it is known that it failed, so it waits for the clock
                await t.up.bus.flush()
            await t.clock.advance(wait)
            for _ in range(20):
                await t.up.bus.flush()
            await t.clock.advance("1m")
        await t.settled()
    assert attempts == [1, 2, 3]
    assert [round(after - before) for before, after in pairwise(moments)] == [600, 3600]


async def test_what_lasts_for_ever_is_not_waited_for():
    """A leader and an open WebSocket run on while all that was accepted is settled."""
    app = App("lasting")
    leading = asyncio.Event()

    @app.leader
    async def lead() -> None:
        leading.set()
        await asyncio.Event().wait()

    @app.websocket("/feed")
    async def feed() -> AsyncIterator[str]:
        yield "begun"
        await asyncio.Event().wait()

    async with running(app) as t, connect(f"{t.url.replace('http', 'ws', 1)}/feed") as socket:
        await leading.wait()
        assert await socket.recv() == '"begun"'
        await t.settled(within=0.0)


@pytest.mark.parametrize("method", ["direct", "stored"])
async def test_a_delayed_event_comes_when_the_clock_is_moved(method):
    """Those that are due by then and no others, counted from when each was emitted, in the name of whoever put it off."""
    app, heard = App("s"), []

    @app.rpc
    @requires
    async def direct(number: int) -> str:
        return await app.emit("trial.ended", number, delay="1h")

    @app.rpc
    @requires
    async def stored(number: int, *, tx: Transaction) -> str:
        return await app.emit("trial.ended", number, delay="1h")

    @app.rpc
    @requires
    async def take_back(made: str) -> bool:
        return await app.cancel(made)

    @app.on("trial.ended")
    @requires
    async def ended(number: int, *, identity: Identity) -> None:
        heard.append((number, identity.subject))

    async with running(app) as t:
        with t.acting("ada"):
            for number in range(3):
                await t.clock.advance("40m")
                made = await t.call(method, number=number)
        await t.settled()
        assert heard == [(0, "ada")]
        await t.clock.advance("30m")
        with t.acting("ada"):
            assert await t.call("take_back", made=made)
        await t.settled()
        await t.clock.advance("1d")
        await t.settled()
        assert heard == [(0, "ada"), (1, "ada")]
        assert [event.data for event in t.emitted("trial.ended")] == [0, 1]
        assert not await t.parked()


async def test_a_delayed_event_of_nobody_comes_when_the_clock_is_moved():
    """With whatever came along, and at once where it was due before."""
    app, heard = App("s"), []

    @app.on("cart.left")
    async def left(number: int, *, event: Event) -> None:
        heard.append((number, event.id, event.attempt))

    async with running(app) as t:
        await t.emit("cart.left", 1, delay="2d", id="cart-1")
        await t.clock.advance("1d")
        await t.settled()
        assert heard == []
        await t.clock.advance("1d")
        await t.settled()
        assert heard == [(1, "cart-1", 1)]


class Corrected(Clock):
    """A clock that goes as far as somebody naps, and is set back during the first nap."""

    def __init__(self, back: float) -> None:
        self.time = 36_010.0
        self._back = back

    def now(self) -> float:
        return self.time

    async def nap(self, seconds: float) -> None:
        self.time += seconds - self._back
        self._back = 0.0


async def test_a_clock_that_is_set_back_holds_up_no_timer():
    """As a machine that has found out what time it is corrects its clock by hours; also between two times that are waited for."""
    clock = Corrected(back=3_600.0)
    wait = Wait(Every(60.0), clock)
    assert await wait.until(36_060.0) == 32_460.0
    assert await wait.until(32_520.0) == 32_520.0
    clock.time -= 3_600.0
    assert await wait.until(32_580.0, lambda _: 30.0) == 28_980.0
    assert clock.now() == 28_950.0


async def test_a_pause_is_as_long_as_it_is_however_the_clock_is_set(monkeypatch):
    """As an event waits that was refused for its rate: set back by an hour, it would wait for that hour."""
    times = iter([36_010.0])
    monkeypatch.setattr(Clock, "now", lambda _: next(times, 32_410.0))
    async with asyncio.timeout(30):
        await Clock().pause(0.01)
