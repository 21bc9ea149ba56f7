"""Sessions of browsers: a cookie that only our own pages can use, tickets for sockets, headers that protect pages."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import websockets
from starlette.responses import HTMLResponse
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from cliffracer import Accounts, App, Identity, Tickets, provided, public, requires
from cliffracer.security import browser
from cliffracer.security.authority import Authority, tokens_of
from cliffracer.security.credentials import Credential, key_of_ticket
from cliffracer.security.tokens import RefusedToken
from cliffracer.settings import Settings
from cliffracer.testing import running
from tests.security.corpus import KEY, attacks
from tests.support.inside import authority_of
from tests.support.keys import private_pem, public_pem

app, back = App("pages"), App("vault")
app.use(Accounts(register=True, roles=("user",), cookies=True, lasts="1h"))
app.use(Tickets())
ADA = {"username": "ada", "password": "correct horse battery"}


@app.get("/who")
@app.post("/who")
@app.delete("/who")
@requires(role="user")
async def who(*, identity: Identity = provided) -> str:
    return identity.claims["username"]


@app.get("/through")
@requires
async def through() -> str:
    return await app.call("vault.mine")


@app.post("/open")
@public
async def opened(*, identity: Identity | None = None) -> str | None:
    return None if identity is None else identity.claims["username"]


@app.get("/page")
@public
async def page(framed: bool = False) -> HTMLResponse:
    return HTMLResponse("<p>", headers={"Content-Security-Policy": "frame-ancestors 'self'"} if framed else None)


@app.websocket("/feed")
@requires(role="user")
async def feed(*, identity: Identity = provided) -> AsyncIterator[str]:
    yield identity.subject
    while True:
        await asyncio.sleep(0.05)
        yield await app.call("vault.mine")


@back.rpc
@requires(role="user")
async def mine(*, identity: Identity = provided) -> str:
    return identity.subject


async def signed_in(t: Any) -> httpx.Response:
    """Sign in as a page of the site does; the client keeps the cookie."""
    await t.http.post("/auth/register", json=ADA)
    reply = await t.http.post("/auth/session", json=ADA, headers={"Origin": t.url})
    assert reply.status_code == 204, reply.text
    return reply


async def test_life_of_a_cookie() -> None:
    """It is for us alone and for no script; it opens what a token opens, here and in the services behind, until it is signed out."""
    async with running(app, back) as t:
        reply = await signed_in(t)
        words = {word.strip().lower() for word in reply.headers["set-cookie"].split(";")[1:]}
        assert {"httponly", "samesite=lax", "path=/", "max-age=3600"} <= words
        assert reply.headers["cache-control"] == "no-store"
        assert (await t.http.get("/who")).json() == "ada"
        assert (await t.http.get("/who", headers={"Authorization": "Basic YTpi"})).json() == "ada"  # a proxy's
        assert (await t.http.get("/through")).json() == (await t.http.get("/auth/me")).json()["id"]
        kept = dict(t.http.cookies)
        out = await t.http.post("/auth/logout", headers={"Origin": t.url})
        assert out.status_code == 204
        assert "max-age=0" in out.headers["set-cookie"].lower()
        assert dict(t.http.cookies) == {}
        t.http.cookies.update(kept)
        assert (await t.http.get("/who")).status_code == 401


async def test_a_planted_cookie_is_not_raised_to_a_session() -> None:
    """Whatever cookie a browser had before, a sign-in makes a session of its own: who planted the old one has none of it (fixation)."""
    async with running(app, back) as t:
        await signed_in(t)
        mine = dict(t.http.cookies)
        await t.http.post("/auth/register", json={"username": "eve", "password": "correct horse battery"})
        (name,) = mine
        for planted in ("made-up", mine[name]):
            t.http.cookies.clear()
            t.http.cookies.set(name, planted)
            answer = await t.http.post("/auth/session", json={**ADA, "username": "eve"}, headers={"Origin": t.url})
            assert answer.status_code == 204
            given = answer.cookies[name]
            assert given not in {planted, mine[name]}
            t.http.cookies.clear()
            t.http.cookies.set(name, given)
            assert (await t.http.get("/who")).json() == "eve"
            t.http.cookies.clear()
            t.http.cookies.set(name, planted)
            assert (await t.http.get("/who")).status_code == (401 if planted == "made-up" else 200)
            if planted != "made-up":
                assert (await t.http.get("/who")).json() == "ada"  # whose it was before


SENT: list[tuple[dict[str, str], bool]] = [
    ({}, False),
    ({"Origin": "SELF"}, True),
    ({"Origin": "https://friend.example"}, True),
    ({"Origin": "https://evil.example"}, False),
    ({"Origin": "null"}, False),
    ({"Origin": ""}, False),
    ({"Origin": "SELF.evil.example"}, False),
    ({"Sec-Fetch-Site": "same-origin"}, True),
    ({"Sec-Fetch-Site": "none"}, True),
    ({"Sec-Fetch-Site": "same-site"}, False),
    ({"Sec-Fetch-Site": "cross-site", "Origin": "SELF"}, False),
    ({"Sec-Fetch-Site": "same-site", "Origin": "https://friend.example"}, True),
    ({"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}, False),
]
"""What browsers may say of where a request comes from, and whether it may use the cookie."""


async def test_requests_forged_by_other_sites() -> None:
    """What changes something needs proof that our page sent it; what only reads does not, and a token is proof enough."""
    async with running(app, back, cors_origins=("https://friend.example",)) as t:
        await signed_in(t)
        tokens = (await t.http.post("/auth/login", json=ADA)).json()
        for headers, good in SENT:
            sent = {name: value.replace("SELF", t.url) for name, value in headers.items()}
            for method in ("POST", "DELETE"):
                reply = await t.http.request(method, "/who", headers=sent)
                assert reply.status_code == (200 if good else 403), (headers, reply.text)
            assert (await t.http.get("/who", headers=sent)).status_code == 200
            assert (await t.http.post("/open", headers=sent)).json() == ("ada" if good else None)
            bearing = await t.http.post("/who", headers={**sent, "Authorization": f"Bearer {tokens['access_token']}"})
            assert bearing.status_code == 200
            login = await t.http.post("/auth/session", json=ADA, headers=sent)
            assert login.status_code == (204 if good else 403), headers


async def test_a_page_without_tls_is_another_site() -> None:
    """Whoever is on the way can make up a page of ours over plain HTTP; of a site over TLS it may neither use nor set the session."""
    async with running(app, back, trusted_proxies=("127.0.0.1",)) as t:
        await t.http.post("/auth/register", json=ADA)
        plain, over_tls = t.url, t.url.replace("http:", "https:")
        proxied = {"X-Forwarded-Proto": "https"}
        for origin, status in ((plain, 403), (over_tls, 204)):
            reply = await t.http.post("/auth/session", json=ADA, headers={**proxied, "Origin": origin})
            assert reply.status_code == status
        cookie = reply.headers["set-cookie"].partition(";")[0]
        t.http.cookies.clear()
        for origin, status in ((plain, 403), (over_tls, 200)):
            reply = await t.http.post("/who", headers={**proxied, "Origin": origin, "Cookie": cookie})
            assert reply.status_code == status
        place = t.url.replace("http", "ws") + "/feed"
        with pytest.raises(InvalidStatus) as refused:
            await websockets.connect(place, origin=plain, additional_headers={**proxied, "Cookie": cookie})
        assert refused.value.response.status_code == 403
        async with websockets.connect(place, origin=over_tls, additional_headers={**proxied, "Cookie": cookie}) as client:
            assert await client.recv()


async def test_sockets_by_cookie() -> None:
    """A page of ours opens a socket with its cookie and nobody else's does; it ends with the session."""
    async with running(app, back) as t:
        await signed_in(t)
        place = t.url.replace("http", "ws") + "/feed"
        cookie = "; ".join(f"{name}={value}" for name, value in t.http.cookies.items())
        for origin in (None, "https://evil.example", "null"):
            with pytest.raises(InvalidStatus) as refused:
                await websockets.connect(place, origin=origin, additional_headers={"Cookie": cookie})
            assert refused.value.response.status_code == 403
        async with websockets.connect(place, origin=t.url, additional_headers={"Cookie": cookie}) as client:
            assert json.loads(await client.recv())
            await t.http.post("/auth/logout", headers={"Origin": t.url})
            async with asyncio.timeout(30):
                with pytest.raises(ConnectionClosed) as closed:  # noqa: PT012 - some frames come first
                    while True:
                        await client.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4401


async def test_lasting_sessions_call_others_with_fresh_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket outlives the short tokens that its calls to other services are made with."""
    monkeypatch.setattr(browser, "ONWARD", 2.0)
    async with running(app, back) as t:
        await signed_in(t)
        cookie = "; ".join(f"{name}={value}" for name, value in t.http.cookies.items())
        place = t.url.replace("http", "ws") + "/feed"
        spoken = [Subprotocol("chat"), Subprotocol("x.y.z")]  # the page's own, and no token
        async with websockets.connect(place, origin=t.url, additional_headers={"Cookie": cookie}, subprotocols=spoken) as client:
            until = asyncio.get_running_loop().time() + 3.5
            while asyncio.get_running_loop().time() < until:
                assert "error" not in await client.recv()


async def test_cookies_and_tokens_are_not_each_other() -> None:
    """A cookie's text opens nothing as a bearer, an access token nothing as a cookie, and neither does anything of the corpus."""
    async with running(app, back, auth_secret_key=KEY) as t:
        await signed_in(t)
        text = t.http.cookies["cliffracer_session"]
        tokens = (await t.http.post("/auth/login", json=ADA)).json()
        assert (await t.http.get("/who", headers={"Authorization": f"Bearer {text}"})).status_code == 401
        t.http.cookies.clear()
        corpus = [token for _, token in attacks(text)]
        authority = authority_of(t)
        for token in corpus:
            with pytest.raises(RefusedToken):
                authority.session(token)
        sent = [token for token in corpus if token.isprintable() and len(token) < 8000 and not set(token) & set(' ";,')]
        answers = set()
        for token in (tokens["access_token"], tokens["refresh_token"], *sent[::10]):
            reply = await t.http.get("/who", headers={"Cookie": f"cliffracer_session={token}"})
            answers.add((reply.status_code, reply.text, reply.headers["www-authenticate"]))
        assert len(answers) == 1, answers
        assert next(iter(answers))[0] == 401
        assert (await t.http.get("/who", headers={"Cookie": f"cliffracer_session={text}"})).status_code == 200


def test_who_only_verifies() -> None:
    """A service without a private key recognises cookies, and calls others on behalf of nobody."""
    private = private_pem()
    front, behind = (Authority.of(Settings(auth_keys=text)) for text in (private, public_pem(private)))
    cookie = front.browsers.begin("ada", lasts=60, roles=("user",))
    known = behind.session(cookie)
    assert (known.subject, known.roles) == ("ada", ("user",))
    assert behind.browsers.onward(known) is None
    assert front.identity(front.browsers.onward(front.session(cookie)) or "").roles == ("user",)


def test_a_cookie_that_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """A session ends when its time is over, however well it is known by then."""
    clock = [time.time()]
    monkeypatch.setattr(time, "time", lambda: clock[0])
    authority = Authority.of(Settings(auth_secret_key=KEY))
    cookie = authority.browsers.begin("ada", lasts=60)
    assert authority.session(cookie).subject == "ada"
    clock[0] += 61
    with pytest.raises(RefusedToken, match="expired"):
        authority.session(cookie)


def test_of_many_who_are_known_some_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions and tokens that were verified do not pile up; who is forgotten is verified again."""
    monkeypatch.setattr(browser, "_REMEMBERED", 2)
    monkeypatch.setattr("cliffracer.security.authority.REMEMBERED", 2)
    authority = Authority.of(Settings(auth_secret_key=KEY))
    cookies = {name: authority.browsers.begin(name, lasts=60) for name in "abcd"}
    for name, cookie in [*cookies.items()] * 2:
        identity = authority.session(cookie)
        assert identity.subject == name == authority.identity(authority.browsers.onward(identity) or "").subject
    assert len(authority.browsers._known) == len(authority.browsers._onward) == len(authority._known) == 2


def test_behind_a_proxy_in_production() -> None:
    """Where requests look like plain HTTP the cookie is for TLS all the same, and one that was set without is not looked at."""
    browsers, response = Authority.of(Settings(env="production", auth_secret_key=KEY)).browsers, HTMLResponse("")
    browsers.remember(response, "http", "text", 60)
    cookie, *words = response.headers["set-cookie"].split("; ")
    assert cookie == "__Host-cliffracer_session=text"
    assert "Secure" in words
    assert browsers.cookie({"Cookie": cookie}, "http") == "text"
    assert browsers.cookie({"Cookie": "cliffracer_session=text"}, "http") is None


async def test_behind_tls() -> None:
    """Over TLS the cookie goes over TLS only, under a name that no other host can set; a plain one is not looked at."""
    async with running(app, back, trusted_proxies=("127.0.0.1",)) as t:
        await t.http.post("/auth/register", json=ADA)
        tls = {"X-Forwarded-Proto": "https"}
        reply = await t.http.post("/auth/session", json=ADA, headers={**tls, "Sec-Fetch-Site": "same-origin"})
        cookie, *words = reply.headers["set-cookie"].split("; ")
        assert cookie.startswith("__Host-cliffracer_session=")
        assert "Secure" in words
        assert not any(word.lower().startswith("domain") for word in words)
        assert reply.headers["strict-transport-security"] == "max-age=31536000"
        assert (await t.http.get("/who", headers={**tls, "Cookie": cookie})).json() == "ada"
        assert (await t.http.get("/who", headers={**tls, "Cookie": cookie.removeprefix("__Host-")})).status_code == 401


async def test_tickets() -> None:
    """A ticket opens one socket, as whoever asked for it; of several who come with it at once one gets in."""
    async with running(app, back) as t:
        await signed_in(t)
        place = t.url.replace("http", "ws") + "/feed"
        tokens = (await t.http.post("/auth/login", json=ADA)).json()
        mine = {"Origin": t.url}
        by_cookie = (await t.http.post("/auth/ticket", headers=mine)).json()["ticket"]
        t.http.cookies.clear()
        by_token = (await t.http.post("/auth/ticket", headers={"Authorization": f"Bearer {tokens['access_token']}"})).json()["ticket"]
        assert (await t.http.post("/auth/ticket", headers=mine)).status_code == 401

        async def enter(ticket: str) -> bool:
            try:
                async with websockets.connect(f"{place}?ticket={ticket}") as client:
                    return bool(json.loads(await client.recv()))
            except InvalidStatus as refused:
                assert refused.response.status_code == 401  # noqa: PT017 - one of four gets in
                return False

        for ticket in (by_cookie, by_token):
            assert sorted(await asyncio.gather(*(enter(ticket) for _ in range(4)))) == [False, False, False, True]
        assert not await enter("ticket_" + "x" * 43)
        assert (await t.http.get("/who", params={"ticket": by_token})).status_code == 401


async def test_a_ticket_of_a_session_that_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """A ticket is as good as what it stands for, and half a minute old at most."""
    async with running(app, back) as t:
        await signed_in(t)
        place = t.url.replace("http", "ws") + "/feed"
        mine = {"Origin": t.url}
        first, second = [(await t.http.post("/auth/ticket", headers=mine)).json()["ticket"] for _ in range(2)]
        authority = authority_of(t)
        shown = await authority.redeem(first)
        assert shown.text not in repr(shown)
        monkeypatch.setattr("cliffracer.security.authority.TICKET_LIFE", -0.001)
        with pytest.raises(RefusedToken, match="over"):
            await authority.redeem(await authority.ticket(shown))
        await t.http.post("/auth/logout", headers=mine)
        with pytest.raises(InvalidStatus):
            await websockets.connect(f"{place}?ticket={second}")


async def test_what_a_ticket_stands_for_is_sealed_with_it() -> None:
    """Who may write to the bucket cannot exchange what two tickets stand for, or make something up."""
    shown, kept = Credential("bearer", "a token"), dict[str, str]()

    class Kept:
        async def put(self, key: str, value: str) -> None:
            kept[key] = value

        async def take(self, key: str) -> str | None:
            return kept.get(key)

    authority = Authority(tokens_of(Settings(auth_secret_key=KEY)))
    authority.tickets = Kept()
    first, second = await authority.ticket(shown), await authority.ticket(shown)
    assert (await authority.redeem(first)).text == "a token"
    assert "a token" not in "".join(kept.values())
    for other in (kept[key_of_ticket(second)], '{"kind": "bearer", "text": "x"}', "", "a.b.c.d.e", "é"):
        kept[key_of_ticket(first)] = other
        with pytest.raises(RefusedToken, match="something else"):
            await authority.redeem(first)


async def test_protecting_headers() -> None:
    """Nothing is to be guessed, pages are framed by nobody unless they say by whom."""
    async with running(app, back) as t:
        plain, framed = await t.http.get("/page"), await t.http.get("/page", params={"framed": True})
        assert plain.headers["x-frame-options"] == "DENY"
        assert "x-frame-options" not in framed.headers
        assert "strict-transport-security" not in plain.headers
        for reply in (plain, framed, await t.http.get("/who"), await t.http.get("/nowhere"), await t.http.get("/health")):
            assert reply.headers["x-content-type-options"] == "nosniff"
