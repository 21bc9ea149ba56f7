"""`/docs`: what it serves and to whom, and the page in a real browser."""

import json
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

import msgspec
import pytest
from msgspec import Meta
from playwright.async_api import Page, expect

from cliffracer import App, requires
from cliffracer.testing import running
from cliffracer.web import docs
from tests.support.browser import browsing, overflows, readable

HOSTILE = "<img src=x onerror=document.title='hacked'><script>document.title='hacked'</script>"
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
OURS = {"X-Cliffracer": "docs", "Sec-Fetch-Site": "same-origin"}


class Line(msgspec.Struct):
    """One line of an order."""

    sku: Annotated[str, Meta(min_length=3, description="what is bought")]
    quantity: Annotated[int, Meta(ge=1)] = 1


def declared(app: App) -> App:
    """Declare something of every kind."""

    @app.rpc
    async def price(line: Line) -> dict[str, Any]:
        """Say what a line costs, with everything that there is to pay for it, to the cent, in words that no narrow window fits."""
        return {"sku": line.sku, "quantity": line.quantity, "total": 2.5 * line.quantity}

    @app.rpc
    async def count(n: int) -> AsyncIterator[int]:
        for number in range(n):
            yield number

    @app.get("/lines/{sku}")
    async def get_line(sku: str, quantity: int = 1) -> Line:
        """Get a `Line`; ``sku`` says which, ` says nothing."""
        return Line(sku, quantity)

    @app.post("/lines", status=201)
    async def add(line: Line) -> Line:
        return line

    @app.on("line.added")
    async def note(line: Line) -> None:
        """Take note."""

    @app.websocket("/echo")
    async def echo(lines: AsyncIterator[Line]) -> AsyncIterator[Line]:
        """Say it again."""
        async for line in lines:
            yield line

    return app


async def test_a_call_takes_the_way_of_every_caller() -> None:
    """In development the bridge calls over NATS and gives the result, the items of a stream, or the method's own refusal."""
    app = declared(App("shop"))
    async with running(app, env="development") as t:
        asked = {"service": "shop", "method": "price", "arguments": {"line": {"sku": "abc", "quantity": 2}}}
        answer = await t.http.post("/docs/call", json=asked, headers=OURS)
        assert (answer.status_code, answer.json()) == (200, {"sku": "abc", "quantity": 2, "total": 5.0})
        stream = await t.http.post("/docs/call", json={"service": "shop", "method": "count", "arguments": {"n": 1000}}, headers=OURS)
        assert stream.json() == list(range(100))
        wrong = await t.http.post("/docs/call", json={"service": "shop", "method": "price"}, headers=OURS)
        assert (wrong.status_code, wrong.json()["errors"][0]["path"]) == (422, "line")
        nowhere = await t.http.post("/docs/call", json={"service": "shop", "method": "drop"}, headers=OURS)
        assert nowhere.status_code == 404


async def test_an_event_is_stored_for_its_subscribers() -> None:
    """The bridge emits what a function here subscribes to, and nothing else."""
    app = declared(App("shop"))
    async with running(app, env="development") as t:
        answer = await t.http.post("/docs/emit", json={"subject": "line.added", "data": {"sku": "abc"}}, headers=OURS)
        assert answer.json() == {"emitted": "line.added"}
        await t.settled()
        assert t.emitted("line.added")[0].data == {"sku": "abc"}
        assert (await t.http.post("/docs/emit", json={"subject": "other", "data": 1}, headers=OURS)).status_code == 404
        assert (await t.http.post("/docs/emit", json={"subject": "a b", "data": 1}, headers=OURS)).status_code == 422


async def test_the_bridge_has_no_rights_of_its_own() -> None:
    """A method with a rule refuses a call without a token, and takes one with it, through the bridge as through NATS."""
    app = App("vault")

    @app.rpc
    @requires("gold")
    async def open_it() -> str:
        return "gold"

    @app.get("/")
    @requires("gold")
    async def home() -> str:
        return ""

    async with running(app, env="development") as t:
        asked = {"service": "vault", "method": "open_it"}
        assert (await t.http.post("/docs/call", json=asked, headers=OURS)).status_code == 401
        poor = {**OURS, "Authorization": f"Bearer {t.token('ann')}"}
        assert (await t.http.post("/docs/call", json=asked, headers=poor)).status_code == 403
        rich = {**OURS, "Authorization": f"Bearer {t.token('bea', permissions=['gold'])}"}
        assert (await t.http.post("/docs/call", json=asked, headers=rich)).json() == "gold"


@pytest.mark.parametrize(
    ("headers", "why"),
    [
        ({"Host": "evil.example"}, "another name that leads here (DNS rebinding)"),
        ({"Host": "evil.example", "Origin": "http://evil.example"}, "and its page"),
        ({"Origin": "http://evil.example"}, "a page of another site"),
        ({"Origin": "null"}, "a page of nowhere"),
        ({"Sec-Fetch-Site": "cross-site"}, "what the browser says is from elsewhere"),
        ({"Sec-Fetch-Site": "same-site"}, "another port of this machine"),
        ({"X-Cliffracer": None}, "a form"),
    ],
)
async def test_only_a_page_of_ours_reaches_the_bridge(headers: dict[str, str | None], why: str) -> None:
    """What another site's page could make a browser send is refused, and nothing is called."""
    app = declared(App("shop"))
    async with running(app, env="development", cors_origins=("*",)) as t:
        given = {name: value for name, value in {**OURS, **headers}.items() if value is not None}
        for path in ("/docs/call", "/docs/emit"):
            body = {"service": "shop", "method": "count", "arguments": {"n": 1}, "subject": "line.added"}
            answer = await t.http.post(path, content=json.dumps(body), headers=given)
            assert answer.status_code == 403, why
        assert t.emitted() == []


@pytest.mark.parametrize("env", ["test", "production"])
async def test_there_is_no_bridge_outside_development(env: str, serve: Any, app: App) -> None:
    """Elsewhere the paths are not there, and in production no documentation is unless it was asked for."""
    async with serve(declared(app), env=env, docs=True) as served:
        assert (await served.http.post("/docs/call", json={}, headers=OURS)).status_code == 404
        assert 'data-bridge=""' in (await served.http.get("/docs")).text
    if env == "production":
        async with serve(declared(App("shop")), env=env) as served:
            assert (await served.http.get("/docs")).status_code == 404


async def test_pages_let_nothing_else_in(serve: Any, app: App) -> None:
    """Every file has a Content Security Policy without inline script or other origins; it is asked for again and not sent twice."""
    async with serve(declared(app)) as served:
        for path in ("/docs", "/docs/docs.js", "/docs/base.css", "/docs/mark.svg"):
            answer = await served.http.get(path)
            policy = answer.headers["content-security-policy"]
            assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
            assert "unsafe" not in policy
            assert answer.headers["x-content-type-options"] == "nosniff"
            again = await served.http.get(path, headers={"If-None-Match": answer.headers["etag"]})
            assert (again.status_code, again.content) == (304, b"")


async def test_a_page_of_the_apps_own_stands(serve: Any, app: App) -> None:
    """An app that has its own /docs keeps it, and gets none of ours."""

    @app.get("/docs")
    async def mine() -> str:
        return "mine"

    async with serve(app) as served:
        assert (await served.http.get("/docs")).json() == "mine"
        assert (await served.http.get("/docs/docs.js")).status_code == 404


async def test_swagger_says_what_to_install(serve: Any, app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra its address names it, and the page does not link there."""
    monkeypatch.setattr(docs, "swagger_folder", lambda: None)
    async with serve(declared(app)) as served:
        answer = await served.http.get("/docs/swagger")
        assert (answer.status_code, answer.json()["detail"]) == (
            404, 'Swagger UI needs cliffracer[swagger]: pip install "cliffracer[swagger]".',
        )  # fmt: skip
        assert 'data-swagger=""' in (await served.http.get("/docs")).text


# -- in a browser ------------------------------------------------------------------------------------------------------


async def _opened(page: Page, url: str, card: str) -> Any:
    await page.goto(f"{url}/docs#{card}")
    await expect(page.locator(f"#{card}")).to_have_attribute("open", "")
    return page.locator(f"#{card}")


async def test_the_page_shows_everything_legibly() -> None:
    """All four kinds are on the page, controls have names, text has contrast by day and night, and no window is too narrow."""
    app = declared(App("shop"))
    async with running(app, env="development") as t, browsing() as (context, _):
        page = context.pages[0]
        await _opened(page, t.url, "rpc-shop-price")
        for name in ("HTTP", "RPC", "Events", "WebSockets"):
            await expect(page.get_by_role("heading", name=name, exact=True).first).to_be_visible()
        told = page.locator("summary", has_text="/lines/{sku}").locator(".summary")
        await expect(told).to_have_text("Get a Line; sku says which, ` says nothing.")
        assert await told.locator("code").all_text_contents() == ["Line", "sku"]
        for scheme in SCHEMES:
            await page.emulate_media(color_scheme=scheme)
            assert await readable(page) == [], scheme
        for width in (1600, 820, 360):
            await page.set_viewport_size({"width": width, "height": 800})
            assert not await overflows(page)
        await page.get_by_label("Search").fill("line added")
        await expect(page.locator("#index li:visible")).to_have_count(1)
        await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        await expect(page.locator("#event-shop-note-line-added summary")).to_be_focused()


async def test_every_kind_can_be_tried() -> None:
    """Forms from the schemas send HTTP, RPC, an event and socket frames; refused input is told at its field; text stays text."""
    app = declared(App("shop"))
    async with running(app, env="development") as t, browsing() as (context, seen):
        page = context.pages[0]
        rpc = await _opened(page, t.url, "rpc-shop-price")
        await rpc.get_by_role("button", name="Call").click()
        await expect(rpc.locator(".why:not(:empty)").first).to_contain_text("3")
        await rpc.get_by_label("sku").fill(HOSTILE)
        await rpc.get_by_label("quantity").fill("9007199254740993")
        await rpc.get_by_role("button", name="Call").click()
        await expect(rpc.locator(".answer pre")).to_contain_text('"quantity": 9007199254740993')  # beyond what JavaScript counts to
        await rpc.get_by_label("quantity").fill("2")
        await rpc.get_by_role("button", name="Call").click()
        await expect(rpc.locator(".answer pre")).to_contain_text('"total": 5')
        await expect(rpc.locator(".answer pre")).to_contain_text("<script>")
        await rpc.get_by_role("button", name="Edit as JSON").click()
        await expect(rpc.get_by_label("JSON", exact=True)).to_have_value(json.dumps({"line": {"sku": HOSTILE, "quantity": 2}}, indent=2))
        http = await _opened(page, t.url, "http-shop-get_line")
        await http.get_by_label("sku").fill("a/b c")
        await http.get_by_role("button", name="Send").click()
        await expect(http.locator(".answer")).to_contain_text("404")  # a slash is another path
        await http.get_by_label("sku").fill("b c?")
        await http.get_by_role("button", name="Send").click()
        await expect(http.locator(".answer pre")).to_contain_text('"sku": "b c?"')
        event = await _opened(page, t.url, "event-shop-note-line-added")
        await event.get_by_label("sku").fill("abc")
        await event.get_by_role("button", name="Emit").click()
        await expect(event.locator(".answer pre")).to_contain_text("line.added")
        socket = await _opened(page, t.url, "socket-shop-echo")
        await socket.get_by_role("button", name="Connect").click()
        await expect(socket.get_by_role("status")).to_have_text("Connected.")
        await socket.get_by_label("sku").fill("xyz")
        await socket.get_by_role("button", name="Send").click()
        await expect(socket.get_by_role("log")).to_contain_text("←")
        assert await page.title() == "shop 0.1.0"
        seen.forgive("404", "422")


async def test_swagger_ui_draws_under_the_same_policy() -> None:
    """With the extra, Swagger UI shows the routes, from its package's files alone."""
    app = declared(App("shop"))
    async with running(app, env="development") as t, browsing() as (context, _):
        page = context.pages[0]
        await page.goto(f"{t.url}/docs")
        await page.get_by_role("link", name="Swagger UI").click()
        await expect(page.locator(".opblock").first).to_be_visible()
        grounds = []
        for scheme in SCHEMES:
            await page.emulate_media(color_scheme=scheme)
            await expect(page.locator("html.dark-mode")).to_have_count(int(scheme == "dark"))
            grounds.append(await page.evaluate("getComputedStyle(document.documentElement).backgroundColor"))
        assert grounds[0] != grounds[1]
