"""Figures of handlers: what services tell each other, what Prometheus is told, and what came are one and the same."""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import websockets
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, Response, StreamingResponse

from cliffracer import App, Conflict, Group, InvalidInput, NotFound, Overloaded, Rejected, WebSocket
from cliffracer.cli.look import look
from cliffracer.client import AsyncClient
from cliffracer.errors import Internal
from cliffracer.messaging.directory import Stats
from cliffracer.observability.otel import Tracing
from cliffracer.testing import running
from tests.support.inside import handler_of

_RAISED = {
    "refused": Conflict("no"),
    "key": KeyError("x"),
    "index": IndexError("x"),
    "value": ValueError("x"),
    "http404": HTTPException(404),
    "http503": HTTPException(503),
}
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


async def test_what_is_refused_before_it_begins_came_all_the_same_through_every_door(capfd):
    """Who takes errors for a share of calls never finds more of them than calls; log and traces have them as well."""
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

    async with running(app, log_calls=1.0, log_format="json") as t:
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
        refused = [span for span in t.up.services[0].assembly.spans.find("") if span.outcome == "InvalidInput"]
    logged = [json.loads(line) for line in capfd.readouterr().err.splitlines() if '"message":"call"' in line]
    assert sorted(line["kind"] for line in logged if line["outcome"] == "InvalidInput") == sorted(span.kind for span in refused)
    assert sorted(span.kind for span in refused) == ["event"] * 4 + ["http"] * 2 + ["rpc"] * 3 + ["websocket"] * 2
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


def telling() -> App:
    """Return an app whose route ends in every way that there is."""
    app = App("told")

    @app.on_error(KeyError)
    def missing(_: KeyError) -> NotFound:
        return NotFound("no such thing")

    @app.on_error(LookupError)
    def other(_: LookupError) -> str:
        return "another"

    @app.get("/work")
    async def work(how: str) -> str:
        if how == "late":
            await asyncio.sleep(60)
        if how in _RAISED:
            raise _RAISED[how]
        return how

    @app.websocket("/socket")
    async def socket(*, socket: WebSocket) -> None:
        while True:
            await socket.send_text(await socket.receive_text())

    @app.on("some", batch=2, within=0.1, retry=())
    async def some(n: list[int]) -> None:
        raise Rejected({0: "odd"})

    return app


async def test_log_traces_figures_and_opentelemetry_say_the_same_of_a_call(monkeypatch, capfd):
    """A time-out is an error, what the app's mapping answers is none of the service, and who leaves a socket is neither."""
    exported, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exported))
    monkeypatch.setattr("cliffracer.serving.tracing", lambda service, _: Tracing(provider, provider.get_tracer("t"), service))
    wanted = {
        "fine": ("ok", "", False),
        "refused": ("Conflict", "Conflict", False),
        "late": ("DeadlineExceeded", "DeadlineExceeded", True),
        "key": ("NotFound", "NotFound", False),
        "index": ("ok", "", False),
        "value": ("Internal", "ValueError", True),
        "http404": ("HTTPException", "HTTPException", False),
        "http503": ("HTTPException", "HTTPException", True),
    }
    async with running(telling(), log_calls=1.0, log_format="json") as t:
        for how in wanted:
            await t.http.get(f"/work?how={how}", headers={"Cliffracer-Timeout": "100"} if how == "late" else {})
        async with websockets.connect(f"{t.url.replace('http', 'ws')}/socket") as client:
            await client.send("x")
            await client.recv()
        await t.emit("some", 1)
        await t.settled()
        spans = [span for service in t.up.services for span in service.assembly.spans.find("")]
        assert await figures(t) == {("http", "work"): (8, 6), ("websocket", "socket"): (1, 0), ("event", "some"): (1, 1)}
    logged = [json.loads(line) for line in capfd.readouterr().err.splitlines() if '"message":"call"' in line]
    assert [span.outcome for span in spans if span.name == "work"] == [told[0] for told in wanted.values()]
    assert sorted((line["kind"], line["outcome"]) for line in logged) == sorted((span.kind, span.outcome) for span in spans)
    ended = [(s.name, s.attributes.get("error.type", ""), s.status.status_code is StatusCode.ERROR) for s in exported.get_finished_spans()]
    assert [told[1:] for told in ended if told[0] == "GET /work"] == [told[1:] for told in wanted.values()]
    assert [told[1:] for told in ended if told[0] in {"WS /socket", "process some"}] == [("", False), ("Rejected", True)]


async def test_what_an_answer_turns_out_to_be_is_said_everywhere_and_once(monkeypatch, capfd):
    """What cannot be sent, or is a response with the status of an error, failed in figures, log, traces and OpenTelemetry alike."""
    exported, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exported))
    monkeypatch.setattr("cliffracer.serving.tracing", lambda service, _: Tracing(provider, provider.get_tracer("t"), service))
    app, broken = App("sent"), {"x": "a\r\nb"}
    answers = {"fine": 1, "odd": object(), "gone": Response(status_code=410), "down": Response(status_code=503)}

    @app.rpc
    @app.get("/work")
    async def work(how: str) -> Any:
        if how == "raised":
            raise HTTPException(404, headers=broken)
        return Response(headers=broken) if how == "header" else answers[how]

    async with running(app, log_calls=1.0, log_format="json") as t:
        for how in (*answers, "header", "raised"):
            await t.http.get(f"/work?how={how}")
        assert await t.call("work", how="fine") == 1
        with pytest.raises(Internal):
            await t.call("work", how="odd")
        spans = [(span.kind, span.outcome) for span in t.up.services[0].assembly.spans.find("")]
        assert await figures(t) == {("http", "work"): (6, 5), ("rpc", "work"): (2, 1)}
    logged = [json.loads(line) for line in capfd.readouterr().err.splitlines() if '"message":"call"' in line]
    outcomes = ["ok", "Internal", "Response", "Response", "Internal", "HTTPException"]
    assert [one for one in spans if one[0] != "call"] == [*(("http", outcome) for outcome in outcomes), ("rpc", "ok"), ("rpc", "Internal")]
    assert [(line["kind"], line["outcome"]) for line in logged] == [one for one in spans if one[0] != "call"]
    served = [span for span in exported.get_finished_spans() if span.kind is SpanKind.SERVER]
    ended = [(span.attributes.get("error.type", ""), span.status.status_code is StatusCode.ERROR) for span in served]
    assert ended[:5] == [("", False), ("Unencodable", True), ("410", False), ("503", True), ("Internal", True)]
    assert ended[5:] == [("HTTPException", False), ("", False), ("Unencodable", True)]


async def test_the_span_of_a_response_ends_when_that_is_sent(monkeypatch, tmp_path):
    """A file is looked at only then, and a stream may break off: neither went well although its function did."""
    exported, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exported))
    monkeypatch.setattr("cliffracer.serving.tracing", lambda service, _: Tracing(provider, provider.get_tracer("t"), service))
    app, there = App("sending"), tmp_path / "there.txt"
    there.write_text("there")

    async def breaks():
        yield b"begun"
        raise OSError("the disk is gone")

    answers = {
        "there": lambda: FileResponse(there),
        "header": lambda: FileResponse(there, headers={"x": "a\r\nb"}),
        "away": lambda: FileResponse(tmp_path / "away"),
        "breaks": lambda: StreamingResponse(breaks()),
    }

    @app.get("/work")
    async def work(how: str) -> Response:
        return answers[how]()

    async with running(app) as t:
        for how in answers:
            with contextlib.suppress(httpx.HTTPError):
                await t.http.get(f"/work?how={how}")
    ended = [(span.attributes.get("error.type", ""), span.status.status_code is StatusCode.ERROR) for span in exported.get_finished_spans()]
    assert ended == [("", False), ("Internal", True), ("RuntimeError", True), ("OSError", True)]


async def test_calls_over_their_rate_are_refused_and_have_not_begun():
    """They came and failed, as those that find all places taken: none of them is in the durations, nor pushes others out of the traces."""
    app = App("often")

    @app.rpc(rate="1/d")
    async def ask() -> int:
        return 1

    @app.get("/work", rate="1/d")
    async def work() -> int:
        return 1

    async with running(app) as t:
        for _ in range(3):
            await t.http.get("/work")
            with contextlib.suppress(Overloaded):
                await t.call("ask")
        text = (await t.http.get("/metrics")).text
        assert [span.outcome for span in t.up.services[0].assembly.spans.find("")] == ["ok", "ok"]
        assert await figures(t) == {("http", "work"): (3, 2), ("rpc", "ask"): (3, 2)}
        handler_of(t, "work").gate.average = 6.0
        await t.http.get("/work")
        assert handler_of(t, "work").gate.average == 6.0, "what does no work tells nothing of how long the queue is"
    for labels in ('handler="work",kind="http"', 'handler="ask",kind="rpc"'):
        assert f'cliffracer_refused_total{{service="often",{labels}}} 2' in text
        assert f'cliffracer_call_seconds_count{{service="often",{labels}}} 1' in text


async def test_how_long_a_socket_or_stream_lasted_is_not_how_long_calls_take():
    """A page that was open for ten minutes is none of a slow service: neither to who lists services nor in the health of one."""
    app = App("feeds")

    @app.get("/work")
    async def work() -> int:
        return 1

    @app.websocket("/feed")
    async def feed() -> int:
        return 1

    @app.get("/page")
    async def page() -> AsyncIterator[int]:
        yield 1

    @app.rpc
    async def rows() -> AsyncIterator[int]:
        yield 1

    async with running(app) as t:
        await t.http.get("/work")
        for name in ("feed", "page", "rows"):
            handler_of(t, name).stats.note(600.0)
        detailed = (await t.http.get("/health/detailed")).json()["metrics"]
        (row,) = await look(AsyncClient(t._link, None), "feeds")
    assert detailed["rps"] > 0
    assert 0 < detailed["latency_ms"] < 60_000
    assert 0 < row["p50_ms"] <= row["p95_ms"] < 60_000
    assert row["calls"] == 4
