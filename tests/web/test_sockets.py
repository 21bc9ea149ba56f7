"""WebSockets, by a real client."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from starlette.exceptions import HTTPException, WebSocketException
from starlette.websockets import WebSocket
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from cliffracer import App
from cliffracer.context import Context
from cliffracer.errors import Forbidden, NotFound
from tests.support.waiting import eventually


class Line(msgspec.Struct):
    """A frame."""

    text: str


def url(served: Any, path: str) -> str:
    """Return the address of a socket."""
    return f"ws://127.0.0.1:{served.port}{path}"


async def closed(client: Any) -> tuple[int, str]:
    """Read until the end; return how the server closed."""
    try:
        while True:
            await asyncio.wait_for(client.recv(), 30)
    except ConnectionClosed as error:
        return (error.rcvd.code, error.rcvd.reason) if error.rcvd else (1006, "")


@pytest.fixture(params=["frames", "asgi"])
def way(request: Any, monkeypatch: Any) -> str:
    """How messages go out: as frames of ours, or over ASGI, as where uvicorn does not fit."""
    monkeypatch.setattr("cliffracer.web.frames.FITS", request.param == "frames")
    return str(request.param)


@pytest.mark.usefixtures("way")
async def test_items_are_json_frames(serve: Any, app: App) -> None:
    """What a generator yields arrives as JSON text, bytes as binary; the end is a normal close."""

    @app.websocket("/feed/{n}")
    async def feed(n: int, word: str = "hi") -> AsyncIterator[Any]:
        for i in range(n):
            yield {"i": i, "word": word}
        yield b"\x00raw"

    async with serve(app) as served, connect(url(served, "/feed/2?word=ho"), additional_headers={"X-Correlation-ID": "abc"}) as client:
        assert client.response.headers["x-correlation-id"] == "abc"
        assert [json.loads(await client.recv()) for _ in range(2)] == [{"i": 0, "word": "ho"}, {"i": 1, "word": "ho"}]
        assert await client.recv() == b"\x00raw"
        assert (await closed(client))[0] == 1000


@pytest.mark.usefixtures("way")
async def test_messages_of_every_size_arrive_whole_and_in_order(serve: Any, app: App) -> None:
    """Also where the length of a frame takes more bytes (RFC 6455, 5.2), and past what the connection holds at once."""
    sizes = [0, 1, 123, 124, 125, 126, 127, 65_533, 65_534, 65_535, 65_536, 300_000, 1]

    @app.websocket("/sizes")
    async def feed(*, socket: WebSocket) -> AsyncIterator[str | bytes]:
        for size in sizes:
            yield "é" * (size // 2) + "x" * (size % 2)
            yield b"\xff" * size
            await socket.send_text(str(size))

    async with serve(app) as served, connect(url(served, "/sizes")) as client:
        for size in sizes:
            assert json.loads(await client.recv()) == "é" * (size // 2) + "x" * (size % 2)
            assert await client.recv() == b"\xff" * size
            assert await client.recv() == str(size)
        assert (await closed(client))[0] == 1000


async def test_a_text_that_is_none_is_a_defect(serve: Any, app: App, logged: list[str]) -> None:
    """What is passed on as raw JSON is looked at: a browser would close over bytes that are no UTF-8. So would exiting the process."""

    @app.websocket("/raw")
    async def raw() -> AsyncIterator[Any]:
        yield msgspec.Raw(b'"fine"')
        yield msgspec.Raw(b'"\xff"')

    @app.websocket("/exits")
    async def exits() -> AsyncIterator[int]:
        yield 1
        sys.exit(3)

    async with serve(app) as served:
        async with connect(url(served, "/raw")) as client:
            assert await client.recv() == '"fine"'
            assert (await closed(client))[0] == 1011
        async with connect(url(served, "/exits")) as client:
            assert await client.recv() == "1"
            assert (await closed(client))[0] == 1011
        async with connect(url(served, "/raw")) as client:
            assert await client.recv() == '"fine"'
    assert logged


async def test_incoming_frames_are_decoded(serve: Any, app: App) -> None:
    """``incoming`` yields typed frames; one that does not fit is answered by an error frame and skipped."""

    @app.websocket("/echo")
    async def echo(incoming: AsyncIterator[Line]) -> AsyncIterator[str]:
        async for line in incoming:
            yield line.text.upper()

    async with serve(app) as served, connect(url(served, "/echo")) as client:
        await client.send('{"text":"a"}')
        assert await client.recv() == '"A"'
        for bad in ('{"text":1}', "no json", '{"text":"a","text":"b"}', "", b"\xff\xfe", "[" * 10_000):
            await client.send(bad)
            error = json.loads(await client.recv())["error"]
            assert (error["code"], bool(error["details"]["errors"])) == (400, True), bad
        await client.send(b'{"text":"b"}')
        assert await client.recv() == '"B"'


async def test_incoming_text_and_bytes(serve: Any, app: App) -> None:
    """``AsyncIterator[str]`` takes plain text frames too, ``AsyncIterator[bytes]`` binary ones as they are."""

    @app.websocket("/text")
    async def text(incoming: AsyncIterator[str]) -> AsyncIterator[str]:
        async for one in incoming:
            yield one

    @app.websocket("/binary/{room}")
    async def binary(room: str, incoming: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for one in incoming:
            yield room.encode() + one

    async with serve(app) as served:
        async with connect(url(served, "/text")) as client:
            for sent in ("plain", '"quoted"'):
                await client.send(sent)
                assert json.loads(await client.recv()) == sent.strip('"')
        async with connect(url(served, "/binary/a")) as client:
            await client.send(b"\xff")
            assert await client.recv() == b"a\xff"


async def test_frames_before_the_close_are_handled(serve: Any, app: App) -> None:
    """A client that sends and leaves at once has its frames handled; then the iteration ends."""
    seen: list[str] = []

    @app.websocket("/in")
    async def take(incoming: AsyncIterator[str]) -> None:
        async for one in incoming:
            await asyncio.sleep(0.001)
            seen.append(one)
        seen.append("end")

    async with serve(app) as served:
        async with connect(url(served, "/in")) as client:
            for i in range(100):
                await client.send(str(i))
        await eventually(lambda: seen[-1:] == ["end"])
        assert seen[:-1] == [str(i) for i in range(100)]


@pytest.mark.parametrize("taking", ["nothing", "frames", "socket"])
async def test_disconnect_cancels_the_handler(serve: Any, app: App, taking: str) -> None:
    """A handler that waits for something else is cancelled once its client is gone, however the client goes."""
    began: list[bool] = []
    ended: list[bool] = []

    async def wait() -> None:
        began.append(True)
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(True)

    if taking == "nothing":

        @app.websocket("/ws")
        async def nothing() -> AsyncIterator[int]:
            await wait()
            yield 1

    elif taking == "frames":

        @app.websocket("/ws")
        async def frames(incoming: AsyncIterator[str]) -> None:
            await wait()

    else:

        @app.websocket("/ws")
        async def socket(*, socket: WebSocket) -> None:
            await wait()

    async with serve(app) as served:
        async with connect(url(served, "/ws")):
            await eventually(lambda: began)
        await eventually(lambda: ended)
        client = await connect(url(served, "/ws"))
        await eventually(lambda: len(began) == 2)
        client.transport.abort()
        await eventually(lambda: len(ended) == 2)
        await eventually(lambda: not served.assemblies[0].watch.running)
        assert not served.site._endless._open


async def test_handler_drives_the_socket(serve: Any, app: App) -> None:
    """A handler that takes the `WebSocket` uses it as with Starlette; accepting again does no harm."""

    @app.websocket("/drive")
    async def drive(name: str, *, socket: WebSocket, context: Context) -> None:
        await socket.accept()
        assert context.kind == "websocket"
        async for text in socket.iter_text():
            await socket.send_json({"name": name, "text": text})
        await asyncio.sleep(0)

    @app.websocket("/closes")
    async def closes(*, socket: WebSocket) -> None:
        await socket.close(4001, "enough")

    @app.websocket("/subprotocol")
    async def subprotocol(*, socket: WebSocket) -> None:
        await socket.accept(subprotocol="x")

    async with serve(app) as served:
        async with connect(url(served, "/drive?name=Ada")) as client:
            await client.send("hi")
            assert json.loads(await client.recv()) == {"name": "Ada", "text": "hi"}
        async with connect(url(served, "/closes")) as client:
            assert await closed(client) == (4001, "enough")
        async with connect(url(served, "/subprotocol")) as client:
            assert (await closed(client))[0] == 1011


async def test_refused_handshakes_are_http(serve: Any, app: App) -> None:
    """Bad input, an unknown path and middleware that refuses answer a problem document before the upgrade."""
    entered: list[int] = []

    @app.middleware
    async def only_known(context: Context, proceed: Any) -> Any:
        if context.headers.get("x-user") == "bad":
            raise Forbidden("not you")
        if context.headers.get("x-user") == "lost":
            raise HTTPException(418, "teapot")
        return await proceed()

    @app.websocket("/ws/{n}")
    async def ws(n: int) -> AsyncIterator[int]:
        entered.append(n)
        yield n

    async with serve(app) as served:
        cases = [("/ws/x", "", 422), ("/ws/%ff", "", 422), ("/nowhere", "", 404), ("/ws/1", "bad", 403), ("/ws/1", "lost", 418)]
        for path, user, status in cases:
            with pytest.raises(InvalidStatus) as caught:
                await connect(url(served, path), additional_headers={"X-User": user}).__aenter__()
            answer = caught.value.response
            assert answer.status_code == status
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.headers["x-correlation-id"]
            assert json.loads(answer.body)["status"] == status
        assert not entered
        stats = served.handler("ws").stats
        assert (stats.requests, stats.errors, stats.last_error) == (3, 3, "HTTPException 418")
        assert (await served.http.get("/ws/1")).status_code == 404


@pytest.mark.usefixtures("way")
async def test_errors_close_with_their_code(serve: Any, app: App, logged: list[str]) -> None:
    """A failure is told by an error frame, then by the code of the close; a defect shows nothing."""

    @app.websocket("/known")
    async def known() -> AsyncIterator[int]:
        yield 1
        raise NotFound("no such room")

    @app.websocket("/defect")
    async def defect() -> AsyncIterator[int]:
        yield 1
        raise RuntimeError("secret text")

    @app.websocket("/odd")
    async def odd() -> AsyncIterator[object]:
        yield object()

    @app.websocket("/chosen")
    async def chosen() -> AsyncIterator[int]:
        yield 1
        raise WebSocketException(4002, "mine")

    async with serve(app) as served:
        async with connect(url(served, "/known")) as client:
            assert await client.recv() == "1"
            assert json.loads(await client.recv()) == {"error": {"code": 404, "message": "no such room", "details": {}}}
            assert await closed(client) == (1008, "Not Found")
        for path in ("/defect", "/odd"):
            async with connect(url(served, path)) as client:
                assert (await closed(client))[0] == 1011
        async with connect(url(served, "/chosen")) as client:
            assert await closed(client) == (4002, "mine")
        assert any("secret text" in line for line in logged)


async def test_too_large_a_frame_closes(serve: Any, app: App) -> None:
    """A frame over the limit ends the socket with 1009, and the handler with it."""
    ended: list[bool] = []

    @app.websocket("/in")
    async def take(incoming: AsyncIterator[str]) -> None:
        async for _ in incoming:
            pass
        ended.append(True)

    async with serve(app) as served, connect(url(served, "/in")) as client:
        await client.send("x" * (2**20 + 1))
        assert (await closed(client))[0] == 1009
        await eventually(lambda: ended)


@pytest.mark.usefixtures("way")
async def test_client_that_does_not_read_is_closed(serve: Any, app: App) -> None:
    """A send that waits too long ends the handler and the connection; others go on."""
    ended: list[bool] = []

    @app.websocket("/flood")
    async def flood() -> AsyncIterator[str]:
        try:
            while True:
                yield "x" * 100_000
        finally:
            ended.append(True)

    @app.websocket("/calm")
    async def calm(incoming: AsyncIterator[int]) -> AsyncIterator[int]:
        async for one in incoming:
            yield one

    async with serve(app, http_timeout=0.4) as served, connect(url(served, "/calm")) as good:
        slow = await connect(url(served, "/flood"), max_queue=1)
        slow.transport.pause_reading()
        await eventually(lambda: ended)
        await eventually(lambda: len(served.server._state.connections) == 1)
        await good.send("1")
        assert await good.recv() == "1"
        slow.transport.abort()


async def test_foreign_origin_is_refused(serve: Any, app: App) -> None:
    """A page of another site may not open a socket, unless it is listed."""

    @app.websocket("/ws")
    async def ws() -> AsyncIterator[int]:
        yield 1

    async with serve(app, cors_origins=("https://good.example",)) as served:
        same = f"http://127.0.0.1:{served.port}"
        for origin in (same, "https://good.example"):
            async with connect(url(served, "/ws"), origin=origin) as client:
                assert await client.recv() == "1"
        for origin in ("https://evil.example", "null", "https://good.example.evil", f"{same}0", "http://127.0.0.1", "http://a:b"):
            with pytest.raises(InvalidStatus) as caught:
                await connect(url(served, "/ws"), origin=origin).__aenter__()
            assert caught.value.response.status_code == 403, origin


async def test_more_than_the_limit_are_refused(serve: Any, app: App) -> None:
    """Sockets over a handler's limit are not queued but answered 429, with a time to come back."""

    @app.websocket("/ws", limit=2)
    async def ws(incoming: AsyncIterator[int]) -> None:
        async for _ in incoming:
            pass

    async with serve(app) as served:
        async with connect(url(served, "/ws")), connect(url(served, "/ws")):
            with pytest.raises(InvalidStatus) as caught:
                await connect(url(served, "/ws")).__aenter__()
            assert caught.value.response.status_code == 429
            assert int(caught.value.response.headers["retry-after"]) >= 1
        await eventually(lambda: not served.handler("ws").gate.admitted)


async def test_stop_closes_sockets(serve: Any, app: App) -> None:
    """When the service stops, sockets are closed with 1012 so that clients come back elsewhere; new ones are refused."""

    @app.websocket("/ws")
    async def ws(incoming: AsyncIterator[int]) -> AsyncIterator[int]:
        yield 1
        async for one in incoming:
            yield one

    async with serve(app) as served, connect(url(served, "/ws")) as client:
        assert await client.recv() == "1"
        served.server.drain_start()
        assert (await closed(client))[0] == 1012
        with pytest.raises(InvalidStatus) as caught:
            await connect(url(served, "/ws")).__aenter__()
        assert caught.value.response.status_code == 503


async def test_pings_without_reading_are_cut_off(serve: Any, app: App, monkeypatch: Any) -> None:
    """A client that makes the server write and never reads is ended before it fills the memory."""
    monkeypatch.setattr("cliffracer.web.sweep.MAX_UNREAD", 100_000)

    @app.websocket("/ws")
    async def ws(incoming: AsyncIterator[int]) -> None:
        async for _ in incoming:
            pass

    async with serve(app, http_timeout=0.4) as served:
        client = await connect(url(served, "/ws"), ping_interval=None)
        client.transport.pause_reading()
        ping = b"\x89\xfd\x00\x00\x00\x00" + b"x" * 125
        sent = 0
        while served.server._state.connections and sent < 500_000_000:
            client.transport.write(ping * 1000)
            sent += 131_000
            await asyncio.sleep(0.001)
        assert not served.server._state.connections
        client.transport.abort()
