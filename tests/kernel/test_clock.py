"""A test moves time: timers fire and retries come when the clock says so, not when the day is over."""

import asyncio
import re
from collections.abc import AsyncIterator

import pytest
from loguru import logger
from websockets.asyncio.client import connect

from cliffracer import App, Event
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
    """An event whose handler failed is handled again after its wait, which the test skips."""
    app, attempts = App("s"), []

    @app.on("paid", retry=["10m", "1h"])
    async def book(amount: int, *, event: Event) -> None:
        attempts.append(event.attempt)
        if event.attempt < 3:
            raise RuntimeError("not yet")

    async with running(app) as t:
        counts = t.up.services[0].consumptions[0].counts
        await t.emit("paid", 5)
        for failures, wait in enumerate(("10m", "1h"), 1):
            while counts.failed < failures:  # it is known that it failed, so it waits for the clock
                await t.up.bus.flush()
            await t.clock.advance(wait)
        await t.settled()
    assert attempts == [1, 2, 3]


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
