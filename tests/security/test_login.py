"""Sign-in of browsers by an issuer, and services with tokens of its making: a real issuer on loopback, also when it lies."""

import asyncio
import base64
import json
import sys
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from loguru import logger

from cliffracer import App, BrowserLogin, Claims, Identity, SetupError, Unauthenticated, provided, public, requires
from cliffracer.security import grants, oauth
from cliffracer.security.login import local
from cliffracer.testing import running
from tests.security.corpus import KEY, b64, signed
from tests.support.inside import authority_of
from tests.support.issuer import CLIENT, SECRET, FakeIssuer, rsa
from tests.support.waiting import eventually

app, back = App("front"), App("vault")
app.provide(Claims(roles="groups", names={"shop-admins": "admin"}))
app.use(BrowserLogin(lasts="1h"))


@app.get("/mine")
@requires(role="admin")
async def mine() -> list[str]:
    return await app.call("vault.whose")


@back.rpc
@requires(role="admin")
async def whose(*, identity: Identity = provided) -> list[str]:
    return [identity.subject, *identity.roles]


@pytest.fixture
def issuer() -> Iterator[FakeIssuer]:
    """Run an issuer."""
    with FakeIssuer() as made:
        yield made


def fields(issuer: FakeIssuer, **more: Any) -> dict[str, Any]:
    return {"oidc_issuer": issuer.url, "oidc_client_id": CLIENT, "oidc_client_secret": SECRET, "auth_secret_key": KEY, **more}


async def went(t: Any, place: str = "/mine") -> Any:
    """Go through a sign-in as a browser does; return the last answer before the page itself."""
    asked = await t.http.get("/oidc/login", params={"next": place})
    assert asked.status_code == 303
    return await t.http.get((await t.http.get(asked.headers["location"])).headers["location"])


async def test_sign_in(issuer: FakeIssuer) -> None:
    """Code flow with PKCE, state and nonce; then a cookie of ours, with the issuer's claims as our roles, good in every service."""
    async with running(app, back, **fields(issuer)) as t:
        assert (await t.http.get("/mine")).status_code == 401
        done = await went(t)
        assert (done.status_code, done.headers["location"]) == (303, "/mine")
        assert {"HttpOnly", "SameSite=lax", "Path=/", "Max-Age=3600"} <= set(done.headers["set-cookie"].split("; "))
        assert sorted(t.http.cookies) == ["cliffracer_login", "cliffracer_session"]
        assert (await t.http.get("/mine")).json() == ["ada", "admin"]
        me = (await t.http.get("/oidc/me")).json()
        assert me == {"id": "ada", "name": "Ada", "roles": ["admin"], "permissions": []}
        asked, granted = issuer.requests[0], issuer.grants[0]
        assert len({asked["state"], asked["nonce"], asked["code_challenge"]}) == 3
        assert asked["redirect_uri"] == f"{t.url}/oidc/callback"
        assert len(granted["code_verifier"]) >= 43
        assert SECRET not in str(granted)
        kept = dict(t.http.cookies)
        out = await t.http.post("/oidc/logout", headers={"Origin": t.url})
        assert (out.status_code, out.headers["location"]) == (303, "/")
        assert "cliffracer_session" not in t.http.cookies
        t.http.cookies.update(kept)
        assert (await t.http.get("/mine")).status_code == 401


async def test_tokens_of_the_issuer_do_not_sign_out(issuer: FakeIssuer) -> None:
    """Who shows a token that the issuer gave has not signed in here: to sign out is the issuer's business, and the token stays good."""
    async with running(app, **fields(issuer)) as t:
        shown = {"Authorization": f"Bearer {issuer.token(aud=CLIENT, sid='theirs')}"}
        assert (await t.http.get("/oidc/me", headers=shown)).status_code == 200
        assert (await t.http.post("/oidc/logout", headers=shown)).status_code == 403
        assert (await t.http.get("/oidc/me", headers=shown)).status_code == 200


ID_TOKENS: dict[str, dict[str, Any]] = {
    "another issuer": {"iss": "https://accounts.example.org"},
    "no issuer": {"iss": None},
    "another audience": {"aud": "other"},
    "several audiences, another party": {"aud": [CLIENT, "other"], "azp": "other"},
    "several audiences, no party": {"aud": [CLIENT, "other"]},
    "another party": {"azp": "other"},
    "another nonce": {"nonce": "x"},
    "no nonce": {"nonce": None},
    "a nonce that is no text": {"nonce": 7},
    "expired": {"exp": 1},
    "no end": {"exp": None},
    "from the future": {"iat": 4_000_000_000},
    "no subject": {"sub": None},
}


async def test_issuer_that_lies_in_its_tokens(issuer: FakeIssuer) -> None:
    """An ID token that is not for us, not of this sign-in, not in force or not of this issuer signs nobody in; nothing of it is told."""
    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(str(message)), level="TRACE")
    truth, answers = dict(issuer.claims), set()
    now = 1_900_000_000
    body = {"iss": issuer.url, "aud": CLIENT, "sub": "ada", "nonce": "x", "iat": 1, "exp": now}
    pem = rsa("one").as_pem(private=False).decode()
    forged = {
        "alg none": f"{b64(json.dumps({'alg': 'none', 'kid': 'one'}))}.{b64(json.dumps(body))}.",
        "HMAC with the client's secret": signed({"alg": "HS256", "kid": "one"}, body, SECRET),
        "HMAC with the public key": signed({"alg": "HS256", "kid": "one"}, body, pem),
        "no token": "opaque",
    }
    async with running(app, back, **fields(issuer)) as t:

        async def refused(name: str, status: int = 401) -> None:
            reply = await went(t)
            assert reply.status_code == status, name
            assert "cliffracer_session" not in t.http.cookies, name
            if status == 401:
                answers.add(reply.text)
            t.http.cookies.clear()

        for name, wrong in ID_TOKENS.items():
            issuer.claims = {**truth, **wrong}
            await refused(name)
        issuer.claims = truth
        for name, text in forged.items():
            issuer.id_token = text
            await refused(name)
        issuer.id_token = None
        issuer.reply = {"id_token": None}
        await refused("none at all")
        issuer.reply = {"id_token": issuer.token(aud=CLIENT, nonce="x", typ="ID")}
        await refused("a replayed one")
        issuer.reply = {"access_token": issuer.token(sub="eve", aud=CLIENT)}
        await refused("tokens of two subjects")
        issuer.reply = {"access_token": None}
        await refused("no access token", 503)
        issuer.reply = {}
        grant = issuer.grant
        issuer.grant = lambda *_: (200, b"<html>")  # type: ignore[method-assign, assignment, return-value]
        await refused("no JSON", 503)
        issuer.grant = grant  # type: ignore[method-assign]
        issuer.keys = {"one": rsa("two")}  # signs with what it does not publish
        published = issuer.jwks
        issuer.jwks = lambda: {"keys": [{**rsa("one").as_dict(private=False), "kid": "one"}]}  # type: ignore[method-assign]
        await refused("keys of another")
        issuer.jwks = published  # type: ignore[method-assign]
        issuer.keys = {"one": rsa("one")}
        assert (await went(t)).status_code == 303
    logger.remove(sink)
    assert len(answers) == 1, answers
    assert SECRET not in "".join(lines)
    assert "eyJ" not in "".join(lines)


@pytest.mark.parametrize("wrong", [{"scope": ["openid"]}, {"scope": "email"}, {"url": "shop.example"}, {"home": "orders"}, {"home": "//x"}])
def test_a_sign_in_that_leads_nowhere_is_refused(wrong: dict[str, Any]) -> None:
    """Where it is written, and not when the first browser comes back."""
    with pytest.raises(SetupError, match=rf"BrowserLogin\({next(iter(wrong))}="):
        BrowserLogin(**wrong)


async def test_answers_that_are_not_of_this_sign_in(issuer: FakeIssuer) -> None:
    """A state, browser or issuer that is not the one it began with, a code twice, and a refusal sign nobody in."""
    async with running(app, back, **fields(issuer)) as t:

        async def came_back(**answer: Any) -> Any:
            issuer.answer = answer
            return await went(t)

        lines: list[str] = []
        sink = logger.add(lambda message: lines.append(str(message)))
        for answer in ({"state": "x"}, {"state": None}, {"iss": "https://accounts.example.org"}, {"iss": f"{issuer.url}/"},
                       {"code": None, "error": "access_denied"}, {"code": None}, {"error": "x"}):  # fmt: skip
            assert (await came_back(**answer)).status_code == 401, answer
        logger.remove(sink)
        assert "a sign-in was refused: the issuer says 'access_denied'" in "".join(lines)
        issuer.answer = {"code": "made-up"}
        issuer._codes["made-up"] = {"code_challenge": "x", "redirect_uri": f"{t.url}/oidc/callback", "nonce": "x"}
        assert (await went(t)).status_code == 401
        issuer.answer = {}
        asked = await t.http.get("/oidc/login")
        answer = (await t.http.get(asked.headers["location"])).headers["location"]
        stolen = dict(t.http.cookies)
        t.http.cookies.clear()
        assert (await t.http.get(answer)).status_code == 401  # another browser, to which somebody sent the link
        await t.http.get("/oidc/login")
        told = len(issuer.grants)
        assert (await t.http.get(answer)).status_code == 401  # one that signs in just now
        assert len(issuer.grants) == told
        t.http.cookies.clear()
        t.http.cookies.update(stolen)
        assert (await t.http.get(answer)).status_code == 303
        t.http.cookies.update(stolen)
        assert (await t.http.get(answer)).status_code == 401  # a code is good once
        for text in (t.token("x"), "x.y.z", "", "x" * 43, '"'):
            t.http.cookies.clear()
            planted = {"Cookie": f"cliffracer_login={text}"}
            assert (await t.http.get(answer, headers=planted)).status_code == 401
            begun = (await t.http.get("/oidc/login", headers=planted)).headers["set-cookie"].partition(";")[0]
            assert len(begun) == len("cliffracer_login=") + 43


async def test_a_session_that_no_browser_would_keep(issuer: FakeIssuer) -> None:
    """Who has more roles than fit into a cookie is not sent round and round: the sign-in fails, and the log says what to do."""
    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(str(message)))
    every = App("every")
    every.use(BrowserLogin())
    async with running(every, **fields(issuer)) as t:
        issuer.claims = {"sub": "ada", "roles": [f"group-{number:032}" for number in range(50)]}
        assert (await went(t)).status_code == 303
        t.http.cookies.clear()
        issuer.claims = {"sub": "ada", "roles": [f"group-{number:032}" for number in range(80)]}
        assert (await went(t)).status_code == 500
        assert "cliffracer_session" not in t.http.cookies
    logger.remove(sink)
    assert "browsers keep a cookie of 4096: give it fewer roles and permissions" in "".join(lines)


async def test_several_tabs(issuer: FakeIssuer) -> None:
    """Each tab that was sent to sign in comes back to where it was, in whatever order; a state is not another's."""
    async with running(app, back, **fields(issuer)) as t:
        asked = [(await t.http.get("/oidc/login", params={"next": place})).headers["location"] for place in ("/a", "/b")]
        answers = [(await t.http.get(place)).headers["location"] for place in asked]
        assert len({query["nonce"] for query in issuer.requests}) == len({query["code_challenge"] for query in issuer.requests}) == 2
        mixed = answers[0].replace(issuer.requests[0]["state"], issuer.requests[1]["state"])
        assert (await t.http.get(mixed)).status_code == 401
        assert (await t.http.get(answers[1])).headers["location"] == "/b"
        again = (await t.http.get(asked[0])).headers["location"]
        assert (await t.http.get(again)).headers["location"] == "/a"


@pytest.mark.parametrize(("promises", "status"), [(True, 401), (False, 303)])
async def test_issuer_that_says_it_names_itself(issuer: FakeIssuer, promises: bool, status: int) -> None:
    """An issuer that promises to name itself in its answers (RFC 9207) has to; of others this is not asked."""
    issuer.document = {"authorization_response_iss_parameter_supported": promises}
    async with running(app, back, **fields(issuer)) as t:
        issuer.answer = {"iss": None}
        assert (await went(t)).status_code == status
        issuer.answer = {}
        assert (await went(t)).status_code == 303


@pytest.mark.parametrize("document", [{"issuer": "https://accounts.example.org"}, {"authorization_endpoint": "http://evil.example/a"}])
async def test_discovery_that_lies(issuer: FakeIssuer, document: dict[str, Any]) -> None:
    """Nobody is sent where an issuer that is none, or that would have it in the clear, says."""
    issuer.document = document
    async with running(app, back, **fields(issuer)) as t:
        reply = await t.http.get("/oidc/login")
        assert (reply.status_code, reply.headers.get("location")) == (503, None)


async def test_rotation_and_outage(issuer: FakeIssuer) -> None:
    """A new key is taken at once in a sign-in; while the issuer is away nobody signs in and who is stays so."""
    async with running(app, back, **fields(issuer)) as t:
        assert (await went(t)).status_code == 303
        issuer.keys = {"two": rsa("two")}
        t.http.cookies.clear()
        assert (await went(t)).status_code == 303
        kept = dict(t.http.cookies)
        asked = await t.http.get("/oidc/login")
        answer = (await t.http.get(asked.headers["location"])).headers["location"]
        issuer.up = False
        assert (await t.http.get(answer)).status_code == 503
        t.http.cookies.update(kept)
        assert (await t.http.get("/mine")).status_code == 200


async def test_roles_of_an_access_token(issuer: FakeIssuer) -> None:
    """An issuer that has roles in the access token only is understood, if that token is for us."""
    async with running(app, back, **fields(issuer, auth_audience="shop")) as t:
        issuer.claims = {"sub": "ada"}
        issuer.reply = {"access_token": issuer.token(groups=["shop-admins"], aud="elsewhere")}
        assert (await went(t)).status_code == 303
        assert (await t.http.get("/mine")).status_code == 403
        issuer.reply = {"access_token": issuer.token(groups=["shop-admins"])}
        assert (await went(t)).status_code == 303
        assert (await t.http.get("/mine")).status_code == 200


async def test_home_may_be_a_page_of_another_host(issuer: FakeIssuer) -> None:
    """As where one host has the pages and another the services: after the sign-in, and after one's sign-out at the issuer."""
    mine = App("mine")
    mine.use(BrowserLogin(everywhere=True, home="https://www.shop.example/start"))
    async with running(mine, **fields(issuer)) as t:
        asked = await t.http.get("/oidc/login")
        answer = (await t.http.get(asked.headers["location"])).headers["location"]
        assert (await t.http.get(answer)).headers["location"] == "https://www.shop.example/start"
        out = urlsplit((await t.http.post("/oidc/logout", headers={"Origin": t.url})).headers["location"])
        assert parse_qs(out.query)["post_logout_redirect_uri"] == ["https://www.shop.example/start"]


async def test_public_clients_and_sign_out_everywhere(issuer: FakeIssuer) -> None:
    """Without a secret PKCE is all there is; sign-out may go on to the issuer's; another URL of ours is believed when it is set."""
    mine = App("mine")
    mine.use(BrowserLogin(prefix="/in", url="https://shop.example/", everywhere=True, home="/bye"))
    async with running(mine, **{**fields(issuer), "oidc_client_secret": None}) as t:
        asked = await t.http.get("/in/login")
        answer = (await t.http.get(asked.headers["location"])).headers["location"]
        assert answer.startswith("https://shop.example/in/callback?")
        assert (await t.http.get(answer.replace("https://shop.example", t.url))).headers["location"] == "/bye"
        assert "client_id" in issuer.grants[0]
        out = urlsplit((await t.http.post("/in/logout", headers={"Origin": t.url})).headers["location"])
        assert out.path == "/end"
        assert (await t.http.post("/in/logout", headers={"Origin": t.url})).status_code == 401
        issuer.document = {"end_session_endpoint": None}
        authority_of(t).issuer.document = issuer.discovery()
        asked = await t.http.get("/in/login")
        answer = (await t.http.get(asked.headers["location"])).headers["location"]
        await t.http.get(answer.replace("https://shop.example", t.url))
        assert (await t.http.post("/in/logout", headers={"Origin": t.url})).headers["location"] == "/bye"
        assert parse_qs(out.query) == {"client_id": [CLIENT], "post_logout_redirect_uri": ["https://shop.example/bye"]}


ELSEWHERE = (
    "//evil.example", "https://evil.example", "/\\evil.example", "\\evil", "evil", "", "/a\r\nSet-Cookie: a=b", "/\t/evil",
    "javascript:a", "/é", "/.\\/evil.example",
)  # fmt: skip


@pytest.mark.parametrize("place", ELSEWHERE)
def test_where_browsers_are_sent(place: str) -> None:
    """Only paths of this site."""
    assert local(place, "/home") == "/home"
    assert local("/a/b?c=d&e=%2F#f", "/home") == "/a/b?c=d&e=%2F#f"


teller, ledger = App("teller"), App("ledger")


@teller.rpc
@public
async def ask() -> list[str]:
    with teller.as_service():
        return await teller.call("ledger.entry")


@ledger.rpc
@requires(role="service")
async def entry(*, identity: Identity = provided) -> list[str]:
    return [identity.subject, *identity.roles, identity.claims["jti"]]


async def test_client_credentials(issuer: FakeIssuer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where only an issuer makes tokens a service gets its own there before it starts, and a new one before the old one ends.

    One that has ended while the issuer is away is shown to nobody.
    """
    grant = issuer.grant
    monkeypatch.setattr(issuer, "grant", lambda *asked: (time.sleep(0.2), grant(*asked))[1])
    issuer.reply = {"expires_in": 2}  # they last longer: a busy machine may be late
    only = {"auth_secret_key": None, "auth_audience": "shop"}
    async with running(teller, ledger, **fields(issuer, **only)) as t:
        first = await t.call("ask")
        assert first[:2] == [CLIENT, "service"]
        assert [asked["audience"] for asked in issuer.grants] == ["shop"]
        await eventually(lambda: len(issuer.grants) > 2, within=15)
        second = await t.call("ask")
        assert second[2] != first[2]
        issuer.up = False
        await eventually(lambda: t.up.services[0].link.own_token() is None, within=15)
    assert "client credentials" not in {task.get_name() for task in asyncio.all_tasks()}


async def test_client_credentials_of_an_issuer_that_is_away(issuer: FakeIssuer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service starts without the issuer, calls others as nobody meanwhile, and gets its token when the issuer is back."""
    monkeypatch.setattr(grants, "_FIRST", 0.2)
    monkeypatch.setattr(grants, "_AGAIN", (0.1,))
    monkeypatch.setattr("cliffracer.security.oidc.ONCE", 0.1)
    issuer.up = False
    only = {"auth_secret_key": None, "auth_audience": "shop"}
    async with running(teller, ledger, **fields(issuer, **only)) as t:
        with pytest.raises(Unauthenticated):
            await t.call("ask")
        issuer.up = True
        await eventually(lambda: t.up.services[0].link.own_token() is not None, within=20)
        assert (await t.call("ask"))[0] == CLIENT
    assert len(issuer.grants) == 1


async def test_a_client_that_the_issuer_does_not_know(issuer: FakeIssuer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong secret is told in the log, without it, and is no crash; the issuer is asked again after a pause that grows."""
    monkeypatch.setattr(grants, "_FIRST", 0.5)
    monkeypatch.setattr(grants, "_AGAIN", (0.01, 60.0))
    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(str(message)), level="TRACE")
    only = {"auth_secret_key": None, "auth_audience": "shop", "oidc_client_secret": "wr0ng-secret-of-the-client"}
    async with running(teller, ledger, **fields(issuer, **only)) as t:
        with pytest.raises(Unauthenticated):
            await t.call("ask")
        await eventually(lambda: len(issuer.grants) >= 2)
    assert len(issuer.grants) == 2
    logger.remove(sink)
    said = "".join(lines)
    assert "invalid_client" in said
    assert "wr0ng" not in said
    assert base64.b64encode(b"wr0ng")[:6].decode() not in said


def test_what_it_needs(issuer: FakeIssuer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing extra, client or key is told by a start, with what to do."""

    async def start(**more: Any) -> None:
        async with running(app, back, **{name: value for name, value in fields(issuer, **more).items() if value is not None}):
            pass

    with pytest.raises(SetupError, match="OIDC_CLIENT_ID"):
        asyncio.run(start(oidc_client_id=None, auth_audience="shop"))
    with pytest.raises(SetupError, match="AUTH_SECRET_KEY"):
        asyncio.run(start(auth_secret_key=None, auth_audience="shop"))
    with pytest.raises(SetupError, match="openid"):
        BrowserLogin(scope="profile")
    monkeypatch.setitem(sys.modules, "httpx2", None)
    oauth._library.cache_clear()
    with pytest.raises(SetupError, match=r'pip install "cliffracer\[oidc\]"'):
        asyncio.run(start())
    oauth._library.cache_clear()
