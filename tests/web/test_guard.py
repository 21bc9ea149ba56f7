"""What the server refuses before any handler: too slow, too large, readable in two ways."""

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request

from cliffracer import App
from cliffracer.web import guard
from cliffracer.web.shortcut import FITS
from tests.support.waiting import eventually

GOOD = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(name="app")
def _app() -> App:
    app = App("guarded")

    @app.get("/a")
    async def get_a() -> str:
        return "a"

    @app.post("/b")
    async def post_b(everything: dict[str, Any]) -> int:
        return len(everything)

    @app.post("/raw")
    async def raw(*, request: Request) -> int:
        return sum([len(chunk) async for chunk in request.stream()])

    return app


def status(answer: bytes) -> int:
    """Return the status of a raw answer; 0 if there is none."""
    return int(answer.split(b" ")[1]) if answer.startswith(b"HTTP/1.1 ") else 0


def test_uvicorn_is_as_we_know_it() -> None:
    """The hooks and attributes that the guard and the shortcut hang on are there; if not, uvicorn has changed and so must we."""
    assert guard.fits()
    assert FITS


@pytest.mark.parametrize(
    ("request_", "wanted"),
    [
        (b"GET /a HTTP/1.1\r\n\r\n", 400),
        (b"GET /a HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n", 400),
        (b"GET /a HTTP/1.1\r\nHost: x\r\nhost: y\r\n\r\n", 400),
        (b"GET /a HTTP/2.0\r\nHost: x\r\n\r\n", 400),
        (b"GET /a HTTP/1.2\r\nHost: x\r\n\r\n", 400),
        (b"GET /a\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00", 400),
        (b"GARBAGE\r\n\r\n", 400),
        (b"BREW /a HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"POST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}", 400),
        (b"POST /b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n", 400),
        (b"POST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}", 400),
        (b"POST /b HTTP/1.1\r\nHost: x\r\nContent-Length: +2\r\n\r\n{}", 400),
        (b"POST /b HTTP/1.1\r\nHost: x\r\nContent-Length: -2\r\n\r\n{}", 400),
        (b"POST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 2, 2\r\n\r\n{}", 400),
        (b"POST /b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n{}", 400),
        (b"POST /b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n{}\r\n0\r\n\r\n", 400),
        (b"GET /a HTTP/1.1\r\nHost: x\r\nX-Correlation-ID: a\x1b[31m\r\n\r\n", 400),
        (b"GET /a HTTP/1.1\r\nHost: x\r\nX: a\x00b\r\n\r\n", 400),
        (b"GET /a HTTP/1.1\r\nHost: x\r\nX : a\r\n\r\n", 400),
        (b"GET /a HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n", 400),
        (b"GET /a HTTP/1.1\nHost: x\n\n", 400),
        (b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (b"GET /a HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X%d: y\r\n" % i for i in range(101)) + b"\r\n", 431),
        (b"GET /a HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 65_600 + b"\r\n\r\n", 431),
        (b"POST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n", 413),
        (b"POST /b HTTP/1.1\r\nHost: x\r\nContent-Length: " + b"9" * 400 + b"\r\n\r\n", 400),
    ],
)
async def test_malformed_requests(serve: Any, app: App, request_: bytes, wanted: int) -> None:
    """Each is refused by a problem document that closes the connection, and the next good request works."""
    fatal: list[dict[str, Any]] = []
    async with serve(app) as served:
        asyncio.get_running_loop().set_exception_handler(lambda _, told: fatal.append(told))
        answer = await served.raw(request_)
        head, _, body = answer.partition(b"\r\n\r\n")
        assert status(answer) == wanted, answer[:300]
        assert not fatal, "it was refused twice"
        assert b"content-type: application/problem+json" in head
        assert b"connection: close" in head
        assert b"x-correlation-id: " in head
        assert json.loads(body)["status"] == wanted
        assert status(await served.one(GOOD)) == 200


async def test_body_over_the_limit(serve: Any, app: App) -> None:
    """A body that turns out too long while it comes is refused, its sender told, its memory not spent."""
    async with serve(app, http_max_body=100_000) as served:
        for path in ("/b", "/raw"):
            reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
            writer.write(f"POST {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
            try:
                for _ in range(200):
                    writer.write(b"10000\r\n" + b"x" * 65_536 + b"\r\n")
                    await writer.drain()
            except ConnectionError:
                pass
            answer = await reader.read()
            assert status(answer) == 413, path
            assert answer.endswith(b'"limit":100000}')
            writer.close()
        await eventually(lambda: not served.assemblies[0].watch.running)
        exact = await served.http.post("/raw", content=b"x" * 100_000)
        assert (exact.status_code, exact.json()) == (200, 100_000)
        assert (await served.http.post("/raw", content=b"x" * 100_001)).status_code == 413


async def test_client_sees_the_refusal_while_it_sends(serve: Any, app: App) -> None:
    """A client that sends a large body in one go reads the 413, rather than a reset."""
    async with serve(app, http_max_body=1000) as served:
        for _ in range(10):
            answer = await served.http.post("/b", content=b"x" * 5_000_000, headers={"content-type": "application/json"})
            assert answer.status_code == 413


async def test_endless_framing_is_bounded(serve: Any, app: App) -> None:
    """Headers, chunk extensions and trailers that never end are cut off."""
    async with serve(app, http_max_body=1000) as served:
        beginnings = [
            b"GET /a HTTP/1.1\r\nHost: x\r\nX: ",
            b"GET /",
            b"POST /raw HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1;x=",
            b"POST /raw HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: ",
        ]
        for beginning in beginnings:
            reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
            writer.write(beginning)
            sent = 0
            try:
                while sent < 50_000_000:
                    writer.write(b"y" * 65_536)
                    sent += 65_536
                    await writer.drain()
                    if reader.at_eof() or reader._buffer:
                        break
            except ConnectionError:
                pass
            assert sent < 5_000_000, beginning
            writer.close()
        await eventually(lambda: not served.assemblies[0].watch.running)


async def test_slow_clients_are_ended(serve: Any, app: App) -> None:
    """Connections that never finish a request are ended at the time limit; a slow handler is not."""
    release = asyncio.Event()

    @app.get("/wait")
    async def wait() -> str:
        await release.wait()
        return "done"

    beginnings = [b"", b"G", b"GET /a HTTP/1.1\r\nHost: x\r\nX-a: b", b"POST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc"]
    async with serve(app, http_timeout=0.4) as served:
        patient = asyncio.create_task(served.http.get("/wait"))
        clients = [await asyncio.open_connection("127.0.0.1", served.port) for _ in range(40)]
        for i, (_, writer) in enumerate(clients):
            writer.write(beginnings[i % 4])
        answers = await asyncio.wait_for(asyncio.gather(*(reader.read() for reader, _ in clients), return_exceptions=True), 60)
        for i, answer in enumerate(answers):
            expected = 0 if i % 4 == 0 else 408
            assert isinstance(answer, ConnectionResetError) or status(answer) == expected, (i, answer)
        assert sum(1 for answer in answers if isinstance(answer, bytes) and status(answer) == 408) >= 25
        for _, writer in clients:
            writer.close()
        release.set()
        assert (await patient).json() == "done"


async def test_drip_fed_body_has_one_time_limit(serve: Any, app: App) -> None:
    """A byte now and then does not extend the time that a request may take to arrive."""
    async with serve(app, http_timeout=0.4) as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(b"POST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
        for _ in range(200):
            writer.write(b"x")
            await asyncio.sleep(0.02)
            if reader.at_eof() or reader._buffer:
                break
        assert status(await reader.read()) == 408
        writer.close()


async def test_idle_connections_are_closed(serve: Any, app: App, monkeypatch: Any) -> None:
    """A connection on which no further request comes is closed quietly."""
    monkeypatch.setattr("cliffracer.web.server.KEEP_ALIVE", 0.3)
    async with serve(app, http_timeout=0.4) as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(GOOD)
        assert status(await reader.readuntil(b"\r\n\r\n")) == 200
        rest = await asyncio.wait_for(reader.read(), 30)
        assert rest == b'"a"'
        writer.close()


async def test_pipelined_requests(serve: Any, app: App) -> None:
    """Requests sent at once are answered in order."""
    async with serve(app) as served:
        body = b'{"a":1}'
        post = b"POST /b HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 7\r\n\r\n" + body
        last = GOOD.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        answer = await served.raw(GOOD + post + GOOD.replace(b"/a", b"/nowhere") + post + last)
        assert [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:]] == [200, 200, 404, 200, 200]


@pytest.mark.parametrize("behind", [GOOD, GOOD + GOOD, GOOD[:-2]], ids=["one", "two", "a part"])
async def test_the_client_of_pipelined_requests_leaves(serve: Any, app: App, behind: bytes) -> None:
    """A call ends with its client although other requests wait behind it: a stream, for one, would hold its place for good."""
    ended: list[str] = []
    begun = asyncio.Event()

    @app.get("/feed")
    async def feed() -> AsyncIterator[int]:
        begun.set()
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            ended.append("feed")

    async with serve(app) as served:
        _, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(GOOD.replace(b"/a", b"/feed") + behind)
        await begun.wait()
        writer.close()
        await eventually(lambda: ended == ["feed"])
        await eventually(lambda: not served.server._running() and not served.handler("feed").gate.admitted)


@pytest.mark.parametrize(
    "behind",
    [b"GET /nowhere HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nHost: x\r\n\r\n", GOOD + b"NO HTTP\r\n\r\n"],
    ids=["an upgrade", "nonsense"],
)
async def test_what_is_pipelined_does_not_come_between(serve: Any, app: App, behind: bytes) -> None:
    """What has to be refused behind an answer that is half sent breaks that off: nothing else is written in the middle of it."""
    ended = asyncio.Event()

    @app.get("/feed")
    async def feed() -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with serve(app) as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(GOOD.replace(b"/a", b"/feed"))
        answer = await reader.readuntil(b"1\n\r\n")
        writer.write(behind)
        with contextlib.suppress(ConnectionResetError):
            answer += await asyncio.wait_for(reader.read(), 20)
        assert answer.count(b"HTTP/1.1 ") == 1
        await ended.wait()
        writer.close()


async def test_http_1_0(serve: Any, app: App) -> None:
    """A request of HTTP/1.0 needs no Host and ends its connection."""
    async with serve(app) as served:
        answer = await served.raw(b"GET /a HTTP/1.0\r\n\r\n")
        assert status(answer) == 200
        assert b"connection: close" in answer
        assert answer.endswith(b'"a"')


async def test_expect_continue(serve: Any, app: App) -> None:
    """A client that waits for permission gets it, or the refusal at once."""
    async with serve(app, http_max_body=100) as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(b"POST /b HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        assert status(await reader.readuntil(b"\r\n\r\n")) == 100
        writer.write(b"{}")
        assert status(await reader.readuntil(b"\r\n\r\n")) == 200
        writer.close()
        assert status(await served.raw(b"POST /b HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 200\r\n\r\n")) == 413


async def test_nothing_is_left_of_hostile_clients(serve: Any, app: App) -> None:
    """After many kinds of broken clients no task, connection or descriptor is left."""
    async with serve(app, http_timeout=0.4) as served:
        assert status(await served.one(GOOD)) == 200
        await eventually(lambda: len(served.server._state.connections) == 0)
        before = len(list(Path("/proc/self/fd").iterdir())) if os.path.exists("/proc/self/fd") else 0  # noqa: PTH110, ASYNC240
        for i in range(200):
            _, writer = await asyncio.open_connection("127.0.0.1", served.port)
            writer.write([b"", b"GET /a HT", b"POST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n", GOOD][i % 4])
            if i % 3:
                writer.transport.abort()
            else:
                writer.close()
        await eventually(lambda: not served.server._state.connections)
        await eventually(lambda: not served.server._running())
        if before:
            await eventually(lambda: len(list(Path("/proc/self/fd").iterdir())) <= before)


async def test_upgrade_that_is_not_spoken(serve: Any, app: App) -> None:
    """A client that offers another protocol is answered in this one, its body read."""
    async with serve(app) as served:
        head = b"POST /b HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: a\r\n"
        answer = await served.one(head + b'Content-Type: application/json\r\nContent-Length: 7\r\n\r\n{"a":1}')
        assert status(answer) == 200
        assert status(await served.one(GOOD.replace(b"Host", b"Upgrade: h2c\r\nConnection: Upgrade\r\nHost"))) == 200


async def test_unknown_uvicorn_is_served_unguarded(serve: Any, app: App, monkeypatch: Any, logged: list[str]) -> None:
    """Where uvicorn's class has changed, the server says so and works without the guard; bodies stay bounded."""
    monkeypatch.setattr(guard, "fits", lambda: False)
    async with serve(app, http_max_body=1000) as served:
        assert any("cannot be guarded" in line for line in logged)
        assert status(await served.one(GOOD)) == 200
        assert (await served.http.post("/b", json={"a": 1})).json() == 1
        answer = await served.http.post("/b", content=b'{"a":"' + b"x" * 2000 + b'"}', headers={"content-type": "application/json"})
        assert answer.status_code == 413


async def test_asgi_is_spoken_where_the_shortcut_does_not_fit(serve: Any, app: App, monkeypatch: Any) -> None:
    """Without the shortcut the same answers go through ASGI."""
    monkeypatch.setattr("cliffracer.web.shortcut.FITS", False)
    async with serve(app) as served:
        assert (await served.http.get("/a")).json() == "a"
        assert (await served.http.post("/b", json={"a": 1})).json() == 1
        assert (await served.http.head("/a")).headers["content-length"] == "3"
