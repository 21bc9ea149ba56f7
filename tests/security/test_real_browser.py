"""Cookies, forged requests and sign-in as a real browser does them: what it sends by itself, and to whom."""

from collections.abc import AsyncIterator
from typing import Any

from starlette.responses import HTMLResponse

from cliffracer import App, BrowserLogin, Claims, Identity, Request, provided, public, requires
from cliffracer.testing import running
from tests.security.corpus import KEY
from tests.support.browser import browsing
from tests.support.issuer import CLIENT, SECRET, FakeIssuer

app, elsewhere = App("site"), App("elsewhere")
app.provide(Claims(roles="groups", names={"shop-admins": "admin"}))
app.use(BrowserLogin())
changed: list[str] = []


@app.get("/home")
@requires(role="admin")
async def home(*, identity: Identity = provided) -> HTMLResponse:
    return HTMLResponse(f"<html lang=en><link rel=icon href=data:,><h1>hello, {identity.claims['name']}</h1></html>")


@app.post("/change")
@requires(role="admin")
async def change(*, request: Request = provided) -> None:
    changed.append(request.headers["origin"])


@app.websocket("/feed")
@requires(role="admin")
async def feed(*, identity: Identity = provided) -> AsyncIterator[str]:
    yield identity.subject


@elsewhere.get("/")
@public
async def evil() -> HTMLResponse:
    return HTMLResponse("<html lang=en><link rel=icon href=data:,><h1>win a prize</h1></html>")


POST = """(url) => fetch(`${url}/change`, {method: "POST", credentials: "include", mode: "no-cors"}).then(() => 0, () => 0)"""
OURS = """() => fetch("/change", {method: "POST"}).then((answer) => [answer.status, document.cookie])"""
SOCKET = """(url) => new Promise((done) => {
  const socket = new WebSocket(url.replace("http", "ws") + "/feed");
  socket.onmessage = (message) => done(message.data);
  socket.onerror = () => done("refused");
})"""
FORM = """(url) => {
  const form = document.createElement("form");
  form.method = "post"; form.action = `${url}/change`; form.innerHTML = '<input name="a" value="b">';
  document.body.append(form); form.submit();
}"""


async def test_a_browser_signs_in_and_is_not_misused() -> None:
    """Sign-in comes back from another site with a cookie; no script sees it, our page uses it, pages of other sites and ports cannot."""
    changed.clear()
    given: dict[str, Any] = {"oidc_client_id": CLIENT, "oidc_client_secret": SECRET, "auth_secret_key": KEY}
    with FakeIssuer("localhost") as issuer:
        site, another = running(app, oidc_issuer=issuer.url, **given), running(elsewhere, auth_secret_key=KEY)
        async with site as t, another as other, browsing() as (browser, seen):
            page = await browser.new_page()
            await page.goto(f"{t.url}/oidc/login?next=/home")
            assert await page.locator("h1").text_content() == "hello, Ada"
            assert await page.evaluate(OURS) == [204, ""]
            assert await page.evaluate(SOCKET, t.url) == '"ada"'
            (kept,) = [cookie for cookie in await browser.cookies() if cookie["name"] != "cliffracer_login"]
            assert (kept["name"], kept["httpOnly"], kept["sameSite"]) == ("cliffracer_session", True, "Lax")
            for place in (other.url, other.url.replace("127.0.0.1", "localhost")):  # another port, and another site
                await page.goto(place)
                await page.evaluate(POST, t.url)
                assert await page.evaluate(SOCKET, t.url) == "refused"
                async with page.expect_navigation():
                    await page.evaluate(FORM, t.url)
            seen.forgive("401", "403", "404", "WebSocket connection")
            assert changed == [t.url]
