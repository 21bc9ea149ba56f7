"""Figures of handlers: what services tell each other, what Prometheus is told, and what came are one and the same."""

import contextlib
import re

import websockets

from cliffracer import App, Group, InvalidInput, NotFound
from cliffracer.messaging.directory import Stats
from cliffracer.testing import running

_SAMPLE = re.compile(r'^cliffracer_(calls|errors)_total\{service="\w+",handler="(\w+)",kind="(\w+)"\} (\d+)$', re.MULTILINE)


async def figures(t) -> dict[tuple[str, str], tuple[int, int]]:
    """Return how many came and how many failed of each handler, once both who tell have told the same."""
    (stats,) = await t._link.directory.ask("STATS", t.app.name, kind=Stats)
    told = [((one.kind, one.name), (one.num_requests, one.num_errors)) for one in (*stats.endpoints, *stats.handlers)]
    samples: dict[tuple[str, str], dict[str, int]] = {}
    for figure, handler, kind, number in _SAMPLE.findall((await t.http.get("/metrics")).text):
        assert figure not in samples.setdefault((kind, handler), {}), f"{figure} of {handler} is there twice"
        samples[kind, handler][figure] = int(number)
    assert {key: (found["calls"], found["errors"]) for key, found in samples.items()} == dict(told)
    assert len(dict(told)) == len(told)
    return dict(told)


async def test_what_is_refused_before_it_begins_came_all_the_same_through_every_door():
    """Who takes errors for a share of calls never finds more of them than calls."""
    app = App("counted")

    @app.rpc
    @app.get("/work")
    async def work(n: int) -> int:
        return n

    @app.on("stored", retry=(0.1,))
    async def stored(n: int) -> None: ...

    @app.on("stored", batch=4, within=0.1, retry=(0.1,))
    async def together(n: list[int]) -> None: ...

    @app.on("passing", durable=False)
    async def passing(n: int) -> None: ...

    @app.websocket("/socket")
    async def socket(n: int) -> int:
        return n

    async with running(app) as t:
        for n in (1, "x", "y"):
            with contextlib.suppress(InvalidInput):
                await t.call("work", n=n)
            await t.http.get(f"/work?n={n}")
            await t.emit("stored", n)
            await t.emit("passing", n, durable=False)
            with contextlib.suppress(websockets.InvalidStatus):
                async with websockets.connect(f"{t.url.replace('http', 'ws')}/socket?n={n}") as client:
                    await client.wait_closed()
        await t.app.service("counted").send.work(n="z")
        await t.settled()
        found = await figures(t)
    assert found["rpc", "work"] == (4, 3)
    assert found["http", "work"] == found["event", "stored"] == found["event", "passing"] == found["websocket", "socket"] == (3, 2)
    assert found["event", "together"] == (3, 2)


async def test_handlers_of_one_name_are_one_in_figures():
    """A function with two routes, or two functions called alike: Prometheus keeps one sample of several that have the same labels."""
    app, group = App("alike"), Group("more", prefix="/more")

    @app.get("/one")
    @app.get("/two")
    async def work(n: int = 0) -> int:
        return n

    @app.on("one")
    @app.on("two")
    async def hear(n: int) -> None: ...

    def elsewhere() -> None:
        @group.get("/work")
        async def work() -> None:
            raise NotFound("no")

    elsewhere()
    app.include(group)
    async with running(app) as t:
        for path in ("/one", "/two", "/two", "/more/work", "/two?n=x"):
            await t.http.get(path)
        for subject in ("one", "two", "two"):
            await t.emit(subject, 1)
        await t.settled()
        assert await figures(t) == {("http", "work"): (5, 2), ("event", "hear"): (3, 0)}
        counts = re.findall(r'call_seconds_count\{.*handler="work".*\} (\d+)', (await t.http.get("/metrics")).text)
        assert counts == ["4"]
