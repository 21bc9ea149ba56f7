"""Async generators over HTTP: Server-Sent Events and NDJSON."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

from cliffracer import App
from cliffracer.errors import Conflict, NotFound
from tests.support.waiting import eventually


async def test_ndjson_is_the_default(serve: Any, app: App) -> None:
    """Without a wish for events, each item is a line of JSON."""

    @app.get("/count/{n}")
    async def count(n: int) -> AsyncIterator[dict[str, int]]:
        for i in range(n):
            yield {"i": i}

    async with serve(app) as served:
        answer = await served.http.get("/count/3")
        assert answer.headers["content-type"] == "application/x-ndjson"
        assert [json.loads(line) for line in answer.text.splitlines()] == [{"i": 0}, {"i": 1}, {"i": 2}]
        assert answer.headers["x-correlation-id"]
        answer = await served.http.get("/count/0")
        assert (answer.status_code, answer.text) == (200, "")
        answer = await served.http.head("/count/3")
        assert (answer.status_code, answer.content) == (200, b"")


async def test_events_by_accept(serve: Any, app: App) -> None:
    """``Accept: text/event-stream`` gets events, unless NDJSON is preferred."""

    @app.get("/count")
    async def count() -> AsyncIterator[str]:
        yield "a\nb"
        yield "c"

    async with serve(app) as served:
        answer = await served.http.get("/count", headers={"Accept": "text/event-stream"})
        assert answer.headers["content-type"] == "text/event-stream"
        assert answer.text == 'data: "a\\nb"\n\ndata: "c"\n\n'
        answer = await served.http.get("/count", headers={"Accept": "text/event-stream;q=0.5, application/x-ndjson"})
        assert answer.headers["content-type"] == "application/x-ndjson"


async def test_plain_generators_stream_from_a_thread(serve: Any, app: App) -> None:
    """A plain generator streams like an async one."""

    @app.post("/numbers")
    def numbers(most: int) -> Iterator[int]:
        yield from range(most)

    async with serve(app) as served:
        answer = await served.http.post("/numbers", json={"most": 3})
        assert answer.text == "0\n1\n2\n"


async def test_failure_before_the_first_item_is_a_problem(serve: Any, app: App) -> None:
    """Nothing has been sent yet, so the status can tell."""

    @app.get("/a")
    async def fails() -> AsyncIterator[int]:
        raise NotFound("no such thing")
        yield 1

    async with serve(app) as served:
        answer = await served.http.get("/a", headers={"Accept": "text/event-stream"})
        assert (answer.status_code, answer.json()["detail"]) == (404, "no such thing")


async def test_failure_within_is_the_last_item(serve: Any, app: App, logged: list[str]) -> None:
    """A failure after the start is an error event, or a line with ``error``; the text of a defect stays in the log."""

    @app.get("/known")
    async def known() -> AsyncIterator[int]:
        yield 1
        raise Conflict("changed meanwhile", by="you")

    @app.get("/defect")
    async def defect() -> AsyncIterator[int]:
        yield 1
        raise RuntimeError("secret text")

    @app.get("/odd")
    async def odd() -> AsyncIterator[object]:
        yield 1
        yield object()

    async with serve(app) as served:
        lines = (await served.http.get("/known")).text.splitlines()
        assert json.loads(lines[1]) == {"error": {"code": 409, "message": "changed meanwhile", "details": {"by": "you"}}}
        text = (await served.http.get("/known", headers={"Accept": "text/event-stream"})).text
        assert text.endswith('event: error\ndata: {"code":409,"message":"changed meanwhile","details":{"by":"you"}}\n\n')
        for path in ("/defect", "/odd"):
            lines = (await served.http.get(path)).text.splitlines()
            error = json.loads(lines[1])["error"]
            assert error["code"] == 500
            assert "secret" not in lines[1]
            assert any(error["details"]["error_id"] in line or "secret text" in line or "cannot be encoded" in line for line in logged)


async def test_leaving_client_cancels_the_handler(serve: Any, app: App) -> None:
    """A client that stops reading in the middle ends the generator."""
    ended = []

    @app.get("/endless")
    async def endless() -> AsyncIterator[int]:
        try:
            while True:
                yield 1
                await asyncio.sleep(0.001)
        finally:
            ended.append(True)

    async with serve(app) as served:
        async with served.http.stream("GET", "/endless") as answer:
            async for _ in answer.aiter_lines():
                break
        await eventually(lambda: ended)
        await eventually(lambda: not served.handler("endless").gate.admitted)
        assert not served.site._endless._open


async def test_slow_reader_holds_the_handler_back(serve: Any, app: App) -> None:
    """A client that does not read stops the generator after what the buffers hold, and is cut off in the end."""
    made = 0
    ended = []

    @app.get("/flood")
    async def flood() -> AsyncIterator[str]:
        nonlocal made
        try:
            while True:
                made += 1
                yield "x" * 65536
        finally:
            ended.append(True)

    async with serve(app, http_timeout=0.5) as served:
        _, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(b"GET /flood HTTP/1.1\r\nHost: x\r\n\r\n")
        await eventually(lambda: made)
        writer.transport.pause_reading()
        await eventually(lambda: ended)
        assert made < 1000
        writer.close()


async def test_headers_come_before_a_late_first_item(serve: Any, app: App, monkeypatch: Any) -> None:
    """A stream without items yet begins all the same, and comments keep it alive."""
    monkeypatch.setattr("cliffracer.web.streams.FIRST", 0.05)
    monkeypatch.setattr("cliffracer.web.streams.SILENCE", 0.05)
    go = asyncio.Event()

    @app.get("/late")
    async def late() -> AsyncIterator[int]:
        await go.wait()
        yield 1

    async with serve(app) as served, served.http.stream("GET", "/late", headers={"Accept": "text/event-stream"}) as answer:
        lines = answer.aiter_lines()
        found = [await anext(lines) for _ in range(4)]
        assert found == [": ", "", ": ", ""]
        go.set()
        assert "data: 1" in [line async for line in lines]


async def test_stop_ends_streams(serve: Any, app: App) -> None:
    """Streams are told that the service stops, and do not hold it up."""

    @app.get("/endless")
    async def endless() -> AsyncIterator[int]:
        yield 1
        await asyncio.Event().wait()

    async with serve(app) as served:
        async with served.http.stream("GET", "/endless") as answer:
            lines = answer.aiter_lines()
            assert await anext(lines) == "1"
            served.server.drain_start()
            assert json.loads(await anext(lines))["error"]["code"] == 503
        answer = await served.http.get("/endless")
        assert answer.status_code == 503
