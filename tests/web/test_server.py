"""The port, the start and the stop."""

import asyncio
import socket
import threading
from typing import Any

import httpx
import pytest

from cliffracer import App
from cliffracer.errors import SetupError
from cliffracer.web.ports import bind
from tests.support.waiting import eventually


def declare(app: App) -> asyncio.Event:
    """Declare a quick route and one that waits for the event returned."""
    release = asyncio.Event()

    @app.get("/a")
    async def get_a() -> str:
        return "a"

    @app.get("/wait")
    async def wait() -> str:
        await release.wait()
        return "done"

    return release


def test_port_in_use_names_its_holder() -> None:
    """A taken port is one clear line: which port, who has it, what to do."""
    with bind("127.0.0.1", 0) as holder:
        holder.listen()
        port = holder.getsockname()[1]
        with pytest.raises(SetupError, match=rf"Port {port} on 127.0.0.1 is in use by .+ \(pid \d+\)\. Stop it, or choose another"):
            bind("127.0.0.1", port)


def test_addresses_that_cannot_be_had() -> None:
    """A host that is not ours, or no host at all, is a clear line too."""
    with pytest.raises(SetupError, match="HTTP_HOST"):
        bind("192.0.2.1", 0)
    for host in ("no.such.host.invalid", "no..host", "kein..höst"):
        with pytest.raises(SetupError, match="is no address of this machine"):
            bind(host, 0)


async def test_port_taken_between_bind_and_listen(serve: Any, app: App) -> None:
    """Two that bound the same port at the same moment: the second to listen says so."""
    declare(app)
    async with serve(app) as served:
        late = socket.socket()
        late.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with pytest.raises(SetupError, match="is in use"):
            bind("127.0.0.1", served.port)
        late.close()


async def test_answers_carry_the_date_and_no_server_name(serve: Any, app: App) -> None:
    """Answers have a Date, and do not say what serves them."""
    declare(app)
    async with serve(app) as served:
        answer = await served.http.get("/a")
        assert answer.headers["date"]
        assert "server" not in answer.headers


async def test_an_answer_of_two_parts_is_not_held_back(serve: Any, app: App) -> None:
    """Connections have TCP_NODELAY: without it the body of a 404 waits 40 ms for the client to confirm its head."""
    declare(app)
    async with serve(app) as served:
        await served.http.get("/nowhere")
        (connection,) = served.server._state.connections
        held = connection.transport.get_extra_info("socket")
        assert held.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_drain_tells_clients_to_leave(serve: Any, app: App) -> None:
    """Once draining, answers of every kind carry ``Connection: close``, and are answers still."""
    declare(app)
    async with serve(app) as served:
        assert "connection" not in (await served.http.get("/a")).headers
        served.server.drain_start()
        for path in ("/a", "/nowhere", "/health"):
            answer = await served.http.get(path)
            assert answer.headers["connection"] == "close"
        await eventually(lambda: not served.server._state.connections)


async def test_stop_finishes_what_runs(serve: Any, app: App) -> None:
    """What was accepted is answered; idle connections are closed; nothing is left."""
    release = declare(app)
    async with httpx.AsyncClient() as client, serve(app) as served:
        base = f"http://127.0.0.1:{served.port}"
        await client.get(f"{base}/a")
        waiting = [asyncio.create_task(client.get(f"{base}/wait")) for _ in range(20)]
        await eventually(lambda: served.handler("wait").gate.admitted == 20)
        stopping = asyncio.create_task(served.server.stop())
        await eventually(lambda: served.server._closing_from is not None)
        release.set()
        answers = await asyncio.gather(*waiting)
        assert {(a.status_code, a.headers["connection"]) for a in answers} == {(200, "close")}
        await stopping
        assert not served.server._state.connections
        with pytest.raises(httpx.ConnectError):
            await client.get(f"{base}/a")
    leftovers = [task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    assert not [name for name in leftovers if "http" in name or "socket" in name or "stream" in name]
    assert not [t for t in threading.enumerate() if t.name.startswith("handler") and not t.daemon and not t.is_alive()]


async def test_stop_does_not_wait_for_who_came_in_as_the_port_closed(serve: Any, app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """And asks for nothing, as a browser that connects ahead: it was told of the stop by nobody, which waited for all of its time."""
    monkeypatch.setattr("cliffracer.web.server.MOMENT", 0.05)
    declare(app)
    async with serve(app, drain=3600) as served:
        connections = served.server._state.connections
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        await eventually(lambda: connections)
        entering = connections.pop()
        task = asyncio.create_task(served.http.get("/wait"))
        await eventually(lambda: connections)
        stopping = asyncio.create_task(served.server.stop())
        await eventually(lambda: not served.server._acceptor._listeners)
        connections.add(entering)
        assert await asyncio.wait_for(reader.read(), 20) == b""
        task.cancel()
        await asyncio.wait([task])
        await asyncio.wait_for(stopping, 20)
        writer.close()


async def test_stop_ends_what_does_not_finish(serve: Any, app: App) -> None:
    """A handler that does not return within the time to drain is ended, and the stop with it."""
    declare(app)
    ended: list[bool] = []

    @app.get("/hangs", deadline=60)
    async def hangs() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(True)

    async with serve(app, drain=0.2) as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(b"GET /hangs HTTP/1.1\r\nHost: x\r\n\r\n")
        await eventually(lambda: served.handler("hangs").gate.admitted)
        await asyncio.wait_for(served.server.stop(), 30)
        assert ended
        assert (await reader.read()).startswith(b"HTTP/1.1 503 ")
        writer.close()


async def test_several_apps_on_one_port(serve: Any) -> None:
    """Apps share a port; two that want the same place are refused, both named."""
    one, two = App("one"), App("two")

    @one.get("/one")
    async def get_one() -> str:
        return "one"

    @two.get("/two")
    async def get_two() -> str:
        return "two"

    async with serve(one, two) as served:
        assert (await served.http.get("/one")).json() == "one"
        assert (await served.http.get("/two")).json() == "two"
        assert (await served.http.get("/health")).json()["service"] == "one, two"
        assert all(assembly.frozen.needs_http for assembly in served.assemblies)

    @two.get("/one")
    async def again() -> str:
        return "again"

    with pytest.raises(SetupError, match=r"(?s)again .*GET /one is declared already, by .*get_one"):
        async with serve(one, two):
            pass


async def test_bad_path_kinds_are_refused(serve: Any) -> None:
    """A kind of path parameter that does not exist, and two that take everything, are mistakes in the declaration."""
    for path, words in (("/a/{x:integer}", "kind integer"), ("/a/{x:path}/b/{y:path}", "two parameters of kind path")):
        app = App("odd")

        async def handler(x: str, y: str = "") -> None: ...

        app.get(path)(handler)
        with pytest.raises(SetupError, match=words):
            async with serve(app):
                pass


async def test_forwarded_headers_of_trusted_proxies_only(serve: Any, app: App) -> None:
    """The client's address is taken from a header only when a listed proxy sends it."""
    from starlette.requests import Request

    @app.get("/client")
    async def client(*, request: Request) -> list[str]:
        assert request.client is not None
        return [request.client.host, request.url.scheme]

    headers = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https"}
    async with serve(app) as served:
        assert (await served.http.get("/client", headers=headers)).json() == ["127.0.0.1", "http"]
    async with serve(app, trusted_proxies=("127.0.0.0/8",)) as served:
        assert (await served.http.get("/client", headers=headers)).json() == ["203.0.113.9", "https"]
