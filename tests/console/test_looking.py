"""What the console finds out about services, asked without a browser."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import httpx

from cliffracer import App
from cliffracer.client import AsyncClient
from cliffracer.console.application import Console
from cliffracer.console.callgraph import CallGraph
from cliffracer.observability.spans import MOST, Span
from cliffracer.settings import Settings
from tests.console.support import console, entered, many
from tests.support.nats import NatsServer

front, back, quiet = App("front"), App("back", description="does the work"), App("quiet")


@back.rpc
async def work(n: int) -> int:
    """Work."""
    return n * 2


@front.get("/begin/{n}")
async def begin(n: int) -> int:
    await front.emit("begun", n)
    return int(await front.call(work, n=n))


@quiet.on("begun")
async def note(n: int) -> None: ...


@asynccontextmanager
async def _live(http: httpx.AsyncClient) -> AsyncIterator[AsyncIterator[Any]]:
    """Follow what all pages are told."""

    async def looks() -> AsyncIterator[Any]:
        async for line in live.aiter_lines():
            if line.startswith("data: "):
                yield json.loads(line.removeprefix("data: "))

    async with http.stream("GET", "/api/live") as live:
        yield looks()


async def test_edges_come_from_calls_and_outlive_them() -> None:
    """Who called whom is told with counts while calls are remembered, and without them as long as the caller runs."""
    async with console(front, back, quiet) as c, entered(c) as http:
        for n in range(3):
            await c.t.http.get(f"/begin/{n}")
        await c.t.settled()
        found = {(e["from"], e["to"], e["kind"], e["name"]): e["calls"] for e in (await http.get("/api/edges")).json()}
        assert found["HTTP", "front", "http", "begin"] == 3
        assert found["front", "back", "rpc", "work"] == 3
        assert found["front", "quiet", "event", "note"] == 3
    async with console(front, back, quiet) as c, entered(c) as http:
        await c.t.http.get("/begin/1")
        await c.t.settled()
        for service in c.t.up.services:
            service.assembly.spans._recent.clear()
            service.assembly.spans._kept.clear()
        found = {(e["from"], e["to"], e["kind"], e["name"]): e["calls"] for e in (await http.get("/api/edges")).json()}
        assert found == {("front", "back", "rpc", "work"): 0, ("front", "quiet", "event", "note"): 0}


async def test_a_caller_is_known_whose_call_began_long_ago() -> None:
    """A call that took long began before the time that everybody still remembers: who made calls in it is told all the same."""
    called = partial(Span, trace="t", correlation="", ms=1.0)
    spans = [called("patient", "job", "event", id="root", parent="", began=0.0)]
    spans += [called("quick", "work", "rpc", id=f"c{n}", parent="root", began=1.0 + n) for n in range(MOST)]
    spans += [called("page", "feed", "websocket", id=f"w{n}", parent="", began=2.0 + n, outcome="Cancelled") for n in range(3)]
    paths = CallGraph(cast("AsyncClient", SimpleNamespace(directory=None)))
    paths._spans, paths._asked, paths._learnt = spans, float("inf"), float("inf")
    assert [(e["from"], e["to"], e["calls"], e["errors"]) for e in await paths.edges()] == [
        ("WebSockets", "page", 3, 0),
        ("patient", "quick", MOST, 0),
    ]


async def test_services_of_others_are_shown_as_far_as_they_tell() -> None:
    """A service that is not of ours has methods without schemas, no health and no settings."""
    async with console(back) as c, many(c, 2, 3), entered(c) as http:
        found = (await http.get("/api/services/service_001")).json()
        assert (found["ours"], len(found["methods"]), found["settings"]) == (False, 3, [])
        assert found["methods"][0]["request"] is None
        ours = (await http.get("/api/services/back")).json()
        assert (ours["ours"], ours["description"]) == (True, "does the work")
        assert ours["methods"][0]["request"]["$ref"]


async def test_http_and_events_count_as_calls() -> None:
    """A service that only serves HTTP or handles events has figures, too."""
    async with console(front, back, quiet) as c, entered(c) as http:
        for n in range(3):
            await c.t.http.get(f"/begin/{n}")
        await c.t.settled()
        async with _live(http) as looks:
            rows = {row["name"]: row["calls"] for row in (await anext(looks))["services"]}
        assert rows == {"front": 3, "back": 3, "quiet": 3}


async def test_a_slow_health_check_hides_nothing() -> None:
    """A replica whose checks take their time is waited for, and is told to be unwell when they take too long."""
    slow = App("slow")

    @slow.rpc
    async def ping() -> str:
        return "pong"

    @slow.health_check("disk", critical=False)
    async def disk() -> None:
        await asyncio.sleep(1.0)

    async with console(slow) as c, entered(c) as http:
        found = (await http.get("/api/services/slow")).json()
        assert (found["replicas"][0]["health"], [h["name"] for h in found["handlers"]]) == ([], ["ping"])


async def test_rubbish_from_a_peer_hides_nobody() -> None:
    """Somebody who answers discovery with nonsense of every kind is left out, and everybody else is shown."""
    rubbish = [b"", b"[]", b"{", b"\xff\xfe", b'{"name": 5}', b'{"handlers": [{"kind": 1}]}', b'{"spans": [1]}', b"[" * 3000]
    odd = [{"name": f"odd{n}", "metadata": {"request_schema": text}} for n, text in enumerate(("[" * 3000, "5", "no"))]
    rubbish.append(json.dumps({"name": "back", "id": "odd", "metadata": {"cliffracer": "1"}, "endpoints": odd}).encode())
    async with console(front, back, quiet) as c, entered(c) as http:
        bus, subjects = c.client.link.bus, c.client.link.subjects

        def receive(_subject: bytes, reply: bytes, _block: bytes | None, _payload: bytes) -> None:
            for each in rubbish:
                bus.publish(reply, each)

        for verb in ("STATS", "INFO", "DETAIL", "TRACE", "CONTRACT"):
            for name in ("", "back"):
                await bus.subscribe(subjects.discovery(verb, name), receive)
        await bus.flush()
        async with _live(http) as looks:
            assert {row["name"] for row in (await anext(looks))["services"]} >= {"front", "back", "quiet"}
        for path in ("/api/services/back", "/api/details", "/api/edges", "/api/traces"):
            assert (await http.get(path)).status_code == 200, path
        found = (await http.get("/api/services/back")).json()
        assert found["ours"] is True
        assert [bool(method["request"]) for method in sorted(found["methods"], key=lambda one: one["name"])] == [False] * 3 + [True]


async def test_what_nats_lacks_is_said() -> None:
    """Without JetStream the pages of what it keeps say so; when NATS is away every page is told, and told when it is back."""
    server = NatsServer().start()
    alone = App("alone")

    @alone.get("/")
    async def ping() -> str:
        return "pong"

    settings = Settings(env="development", nats_url=server.url, wait=5, http_port=0)
    try:
        async with console(alone, settings=settings) as c, entered(c) as http:
            for path in ("/api/streams", "/api/dead", "/api/events?since=1h"):
                answer = await http.get(path)
                assert (answer.status_code, "JetStream is not enabled" in answer.json()["detail"]) == (503, True)
            async with _live(http) as looks:
                assert (await anext(looks))["dead"] is None
                server.kill()
                while "problem" not in (look := await anext(looks)):
                    pass
                assert look["problem"].startswith("NATS is away")
                server.start()
                while "services" not in await anext(looks):
                    pass
    finally:
        server.stop()


async def test_a_nats_that_hangs_is_not_taken_for_nobody() -> None:
    """Every page says that NATS does not answer, not that no service runs; nothing is done meanwhile."""
    server = NatsServer(jetstream=True).start()
    settings = Settings(env="development", nats_url=server.url, wait=5, http_port=0)
    try:
        async with console(back, settings=settings) as c, entered(c) as http, _live(http) as looks:
            assert [one["name"] for one in (await anext(looks))["services"]] == ["back"]
            server.pause()
            while "problem" not in (look := await anext(looks)):
                assert look["services"]  # none of them is gone
            emission = http.post("/api/emit", json={"subject": "n", "data": 1})
            pages = [http.get(f"/api/{page}") for page in ("services/back", "details", "edges", "traces", "traces/abc")]
            answers = await asyncio.gather(emission, *pages)
            assert {(answer.status_code, answer.json()["detail"]) for answer in answers} == {(503, "NATS does not answer")}
            server.resume()
            while not (look := await anext(looks)).get("services"):
                pass  # one whose connection was given up meanwhile comes back when it has another
            assert [one["name"] for one in look["services"]] == ["back"]
    finally:
        server.kill()


async def test_a_stream_ends_before_what_it_reads_from_is_left() -> None:
    """At the end no browser waits for a consumer to be removed: its answer would be cut off."""
    left = asyncio.Event()

    async def items() -> AsyncGenerator[int, None]:
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            await left.wait()

    async with console(quiet) as c:
        inner: Console = c.door._inner
        stream = inner._events_of(items())
        assert await anext(stream) == b"data: 1\n\n"
        inner.end_streams()
        async with asyncio.timeout(10):
            assert [item async for item in stream] == []
        left.set()
