"""Cross-origin requests: nothing by default, the listed origins otherwise."""

from typing import Any

from cliffracer import App


def declare(app: App) -> None:
    """Declare a route."""

    @app.post("/a")
    async def post_a(x: int) -> int:
        return x


async def test_off_by_default(serve: Any, app: App) -> None:
    """Without origins no answer allows any."""
    declare(app)
    async with serve(app) as served:
        answer = await served.http.post("/a", json={"x": 1}, headers={"Origin": "https://a.example"})
        assert answer.status_code == 200
        assert not [name for name in answer.headers if name.startswith("access-control")]


async def test_listed_origins(serve: Any, app: App) -> None:
    """A listed origin is echoed, any other is not, and caches are told."""
    declare(app)
    async with serve(app, cors_origins=("https://a.example",)) as served:
        wanted = {"Origin": "https://a.example", "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-odd"}
        answer = await served.http.options("/a", headers=wanted)
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, "https://a.example")
        assert answer.headers["x-correlation-id"]
        answer = await served.http.post("/a", json={"x": 1}, headers={"Origin": "https://a.example"})
        assert answer.headers["access-control-allow-origin"] == "https://a.example"
        assert "Origin" in answer.headers["vary"]
        answer = await served.http.post("/a", json={"x": "no"}, headers={"Origin": "https://a.example"})
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (422, "https://a.example")
        for origin in ("https://a.example.evil", "http://a.example", "https://A.example", "null", "https://a.example:444"):
            answer = await served.http.post("/a", json={"x": 1}, headers={"Origin": origin})
            assert "access-control-allow-origin" not in answer.headers, origin
            assert "Origin" in answer.headers["vary"]


async def test_any_origin_never_with_credentials(serve: Any, app: App) -> None:
    """``*`` allows every page to call, and none to send cookies."""
    declare(app)
    async with serve(app, cors_origins=("*",)) as served:
        answer = await served.http.post("/a", json={"x": 1}, headers={"Origin": "https://any.example"})
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in answer.headers
