"""Figures of handlers: what services tell each other, what Prometheus is told, and what came are one and the same."""

import contextlib
import re

import websockets

from cliffracer import App, InvalidInput
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
