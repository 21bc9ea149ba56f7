"""Starlette's middleware around a service and its applications within, as its users know them."""

from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from cliffracer import App, Group, SetupError
from cliffracer.security.enforcement import enforcement
from cliffracer.settings import Settings

KEY = "q7Vx2mNf0aLr9TzKdE5wYhCj3sPb8uGi"


async def _where(request: Request) -> PlainTextResponse:
    return PlainTextResponse(f"{request.url_for('where', name=request.path_params['name']).path} {request.scope['root_path']}")


async def _echo(socket: WebSocket) -> None:
    await socket.accept()
    await socket.send_text(await socket.receive_text() + socket.scope["root_path"])
    await socket.close()


async def _broken(scope: Any, receive: Any, send: Any) -> None:
    raise RuntimeError("a secret of the application's")


def other() -> Starlette:
    return Starlette(routes=[Route("/where/{name}", _where, name="where"), WebSocketRoute("/echo", _echo)])


async def test_an_application_is_served_below_its_path(serve: Any, app: App) -> None:
    """It knows where it is, answers what is not there, and leaves to our routes what they take; its bare path leads to it."""
    app.mount("/other", other())

    @app.get("/other/ours")
    async def ours() -> str:
        return "ours"

    async with serve(app) as served:
        answer = await served.http.get("/other/where/a")
        assert (answer.status_code, answer.text) == (200, "/other/where/a /other")
        assert (await served.http.get("/other/ours")).json() == "ours"
        missing = await served.http.get("/other/nothing")
        assert (missing.status_code, missing.text) == (404, "Not Found")
        moved = await served.http.get("/other?a=1")
        assert (moved.status_code, moved.headers["location"]) == (307, "/other/?a=1")
        assert (await served.http.get("/others/where/a")).headers["content-type"] == "application/problem+json"


async def test_sockets_reach_a_mounted_application(serve: Any, app: App) -> None:
    """Its sockets are at its paths; elsewhere below it, it refuses them itself."""
    app.mount("/other", other())
    async with serve(app) as served:
        where = f"ws://127.0.0.1:{served.port}/other"
        async with connect(f"{where}/echo") as socket:
            await socket.send("hello ")
            assert await socket.recv() == "hello /other"
        with pytest.raises(InvalidStatus, match="403"):
            await connect(f"{where}/nothing")


async def test_the_longest_path_wins_and_groups_have_theirs(serve: Any, app: App, tmp_path: Any) -> None:
    """Among mounts and folders the most precise one answers; a group's prefix goes before its mounts."""
    (tmp_path / "page.txt").write_text("a file")
    group = Group("admin", prefix="/admin")
    group.mount("/tools", other())
    app.include(group)
    app.static("/admin", tmp_path)
    async with serve(app) as served:
        assert (await served.http.get("/admin/page.txt")).text == "a file"
        assert (await served.http.get("/admin/tools/where/b")).text == "/admin/tools/where/b /admin/tools"


async def test_a_mounted_application_that_fails_gives_nothing_away(serve: Any, app: App, logged: list[str]) -> None:
    """The client gets a problem document with an id, the log the traceback under that id, and the service goes on."""
    app.mount("/broken", _broken)
    async with serve(app) as served:
        answer = await served.http.get("/broken/x")
        assert answer.status_code == 500
        assert "secret" not in answer.text
        assert answer.json()["error_id"]
        assert any("what is mounted at /broken failed" in line for line in logged)
        assert (await served.http.get("/health")).status_code == 200


async def test_middleware_wraps_everything_the_last_added_outermost(serve: Any, app: App) -> None:
    """Routes, mounts, files, pages and refusals come through it, and it may answer itself."""
    seen: list[str] = []

    class Named(BaseHTTPMiddleware):
        def __init__(self, app: Any, name: str) -> None:
            super().__init__(app)
            self.name = name

        async def dispatch(self, request: Request, call_next: Any) -> Any:
            seen.append(self.name)
            answer = await call_next(request)
            answer.headers["x-through"] = f"{answer.headers.get('x-through', '')}{self.name}"
            return answer

    @app.get("/long")
    async def long() -> list[int]:
        return [*range(1000)]

    @app.post("/double")
    async def double(number: int) -> int:
        return 2 * number

    app.mount("/other", other())
    app.add_middleware(GZipMiddleware, minimum_size=500)
    app.add_middleware(Named, name="inner")
    app.add_middleware(Named, "outer")
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])
    async with serve(app) as served:
        answer = await served.http.get("/long", headers={"Accept-Encoding": "gzip"})
        assert answer.json() == [*range(1000)]
        assert (answer.headers["content-encoding"], answer.headers["x-through"]) == ("gzip", "innerouter")
        assert (await served.http.post("/double", json={"number": 4})).json() == 8
        assert (await served.http.post("/double", json={"number": "x"})).status_code == 422
        for path in ("/other/where/a", "/health", "/nowhere"):
            assert (await served.http.get(path)).headers["x-through"] == "innerouter"
        assert seen[:2] == ["outer", "inner"]
        before = len(seen)
        strange = await served.http.get("/long", headers={"Host": "evil.example"})
        assert (strange.status_code, len(seen)) == (400, before)


@pytest.mark.parametrize(("root", "path"), [("/api", "/api/word"), ("/api", "/word"), ("/wo", "/word"), ("/api", "/api/echo/")])
async def test_what_stands_in_front_of_a_path_is_not_looked_at(serve: Any, app: App, root: str, path: str) -> None:
    """A proxy, or middleware that has taken the beginning of a path for itself, says so by ``root_path``, and may have cut it off."""

    class Rooted:
        def __init__(self, inner: Any) -> None:
            self.inner = inner

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await self.inner({**scope, "root_path": root}, receive, send)

    @app.get("/word")
    async def word() -> str:
        return "a"

    app.mount("/echo", PlainTextResponse('"a"'))
    app.add_middleware(Rooted)
    async with serve(app) as served:
        assert (await served.http.get(path)).json() == "a"


async def test_other_sites_are_told_whether_they_may_read_what_middleware_answers(serve: Any, app: App) -> None:
    """CORS is outside of all middleware, or a page could not read its refusals."""
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=["only.example"])
    async with serve(app, cors_origins=["https://page.example"]) as served:
        answer = await served.http.get("/health", headers={"Origin": "https://page.example"})
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (400, "https://page.example")


@pytest.mark.parametrize(("path", "application", "what"), [
    ("admin", other(), "must begin with /"), ("/", other(), "name a place"), ("/{name}", other(), "name a place"),
    ("/admin", "no application", "takes an ASGI application, not str"),
])  # fmt: skip
def test_what_cannot_be_mounted_is_refused_where_it_is_declared(app: App, path: str, application: Any, what: str) -> None:
    """The message says what a mount takes."""
    with pytest.raises(SetupError, match=what):
        app.mount(path, application)


async def test_two_at_one_place_are_refused(serve: Any, app: App) -> None:
    """Which of them answered would depend on the order of declarations."""
    app.mount("/a", other())
    app.mount("/a/", other())
    with pytest.raises(SetupError, match="two things are mounted at /a"):
        async with serve(app):
            pass


async def test_where_callers_are_asked_a_mount_says_that_it_asks_them_itself(app: App) -> None:
    """A door without a rule is as forgotten at a mount as at a handler."""
    settings = Settings(auth_secret_key=KEY)
    app.mount("/a", other())
    with pytest.raises(SetupError, match=r"mounted at /a has no rule\. Say mount\(\.\.\., public=True\)"):
        enforcement([app.freeze()], settings)
    app.mounts.clear()
    app.mount("/a", other(), public=True)
    assert enforcement([app.freeze()], settings) is not None
