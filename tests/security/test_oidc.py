"""Tokens of an OpenID Connect issuer: a real one on loopback, that rotates its keys, goes away, and lies."""

import asyncio
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from joserfc.errors import SecurityWarning
from joserfc.jwk import RSAKey
from loguru import logger

from cliffracer import App, Claims, Identity, SetupError, Unauthenticated, Unavailable, provided, public, requires
from cliffracer.security.enforcement import enforcement
from cliffracer.security.keys import read_keys
from cliffracer.security.oidc import Issuer
from cliffracer.security.tokens import RefusedToken
from cliffracer.settings import Settings
from cliffracer.testing import running
from tests.security.corpus import KEY, b64, forgeries
from tests.support.inside import authority_of
from tests.support.issuer import FakeIssuer, rsa
from tests.support.waiting import eventually

app = App("shielded")


@app.get("/who")
@requires
async def who(*, identity: Identity = provided) -> dict[str, Any]:
    return {"subject": identity.subject, "roles": identity.roles, "permissions": identity.permissions}


@app.get("/open")
@public
async def opened(*, identity: Identity | None = None) -> str | None:
    return None if identity is None else identity.subject


@pytest.fixture
def fake() -> Iterator[FakeIssuer]:
    """Run an issuer."""
    with FakeIssuer() as made:
        yield made


async def status(t: Any, token: str) -> int:
    return (await t.http.get("/who", headers={"Authorization": f"Bearer {token}"})).status_code


async def test_tokens_of_the_issuer(fake: FakeIssuer) -> None:
    """Given its URL, its access tokens are good here, with their scopes and roles; what is for others, or no access token, is not."""
    async with running(app, oidc_issuer=fake.url, auth_audience="shop", auth_secret_key="q8Zt3vN0xW7sLk2pRm5yUe9aJh4cGf6d1") as t:
        good = await t.http.get("/who", headers={"Authorization": f"Bearer {fake.token(realm_access={'roles': ['admin']})}"})
        assert good.json() == {"subject": "ada", "roles": ["admin"], "permissions": ["a", "b"]}
        assert await status(t, t.token("bob")) == 200
        for wrong in ({"aud": "other"}, {"exp": 1}, {"nonce": "x"}, {"typ": "Refresh"}, {"iss": "https://elsewhere"}, {"sub": ""}):
            assert await status(t, fake.token(**wrong)) == 401, wrong
    assert len(fake.asked) == 2


@pytest.mark.parametrize("wrong", ["slash", "redirect"])
async def test_the_log_says_what_is_wrong_with_the_name_of_the_issuer(fake: FakeIssuer, wrong: str) -> None:
    """With a slash too many, tokens are another issuer's, not of another type; an issuer that has moved says where to."""
    lines: list[str] = []
    url = fake.url
    if wrong == "slash":
        url += "/"
    else:
        fake.moved = "https://id.example.org/realms/shop"
    sink = logger.add(lambda message: lines.append(str(message)))
    async with running(app, oidc_issuer=url, auth_audience="shop") as t:
        assert await status(t, fake.token()) == (401 if wrong == "slash" else 503)
    logger.remove(sink)
    told = "".join(lines)
    words = (
        ["a token was refused: another issuer", "to the letter"]
        if wrong == "slash"
        else ["sends us on to 'https://id.example.org/realms/shop'"]
    )
    assert [word for word in words if word not in told] == []


@pytest.mark.parametrize("wrong", [{"roles": 5}, {"permissions": None}, {"names": ["admin"]}, {"names": {"a": 5}}, {"roles": ("a", 5)}])
def test_claims_that_mean_nothing_are_refused(wrong: dict[str, Any]) -> None:
    """Where they are written: every call with a token of the issuer would be a defect."""
    with pytest.raises(SetupError, match=r"Claims\("):
        Claims(**wrong)


async def test_what_the_issuer_signed_for_another_use_is_no_access_token(fake: FakeIssuer) -> None:
    """By the type that its header states, if it does (RFC 8725, 3.11); without a name of a key there must be no doubt whose it is."""
    fake.keys["two"] = rsa("two")
    async with running(app, oidc_issuer=fake.url, auth_audience="shop") as t:
        for typ in ("at+jwt", "application/AT+JWT", "JWT", None):
            assert await status(t, fake.token(header={"typ": typ})) == 200, typ
        for typ in ("id+jwt", "logout+jwt", "dpop+jwt", "rt+jwt", "secevent+jwt", ""):
            assert await status(t, fake.token(header={"typ": typ})) == 401, typ
        assert await status(t, fake.token(header={"kid": None})) == 401


async def test_rotation_and_unknown_keys(fake: FakeIssuer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new key is asked for every ten seconds at most, however many tokens name one that is not known."""
    clock = [1000.0]
    monkeypatch.setattr("cliffracer.security.oidc.monotonic", lambda: clock[0])
    async with running(app, oidc_issuer=fake.url, auth_audience="shop") as t:
        assert await status(t, fake.token()) == 200
        fake.keys["two"] = rsa("two")
        fake.keys["bad"] = rsa("bad")
        tokens = [fake.token("bad") for _ in range(30)]
        fresh = fake.token("two")
        del fake.keys["bad"]
        assert {await status(t, token) for token in tokens} == {401}
        assert len(fake.asked) == 2
        clock[0] += 11
        assert await status(t, fresh) == 200
        assert {await status(t, token) for token in tokens} == {401}
        assert len(fake.asked) == 4


async def test_every_door(fake: FakeIssuer) -> None:
    """Its tokens are good over RPC, one-way calls and events as over HTTP, and what is forged is not."""
    doors, handled = App("doors"), list[str]()

    @doors.rpc
    @doors.on("door.opened")
    @requires("a")
    async def enter(name: str, *, identity: Identity = provided) -> str:
        handled.append(f"{name} {identity.subject}")
        return identity.subject

    async with running(doors, oidc_issuer=fake.url, auth_audience="shop") as t:
        link = t.up.services[0].link
        link.token = fake.token()[:-4] + "AAAA"
        with pytest.raises(Unauthenticated):
            await t.call("enter", name="rpc")
        await t.emit("door.opened", "forged")
        link.token = fake.token()
        assert await t.call("enter", name="rpc") == "ada"
        await t.emit("door.opened", "event")
        await doors.service("doors").send.enter("sent")
        await eventually(lambda: len(handled) == 3)
        await t.settled()
    assert sorted(handled) == ["event ada", "rpc ada", "sent ada"]


async def test_forgeries(fake: FakeIssuer) -> None:
    """Nothing that can be made of a token without the issuer's private key is taken."""
    issuer = Issuer(fake.url, "shop")
    await issuer.learn()
    key = fake.keys["one"]
    written = [key.as_pem(private=False), key.as_der(private=False), b"\x01\x00\x01"]
    (attacker,) = read_keys(rsa("two").as_pem(private=True).decode(), "test")
    good = fake.token()
    taken = []
    for name, token in forgeries(good, written, attacker.sign):
        try:
            issuer.tokens.verify(token)
        except RefusedToken:
            continue
        taken.append(name)
    assert taken == []
    assert issuer.tokens.verify(good)["sub"] == "ada"


async def test_a_key_that_was_taken_back(fake: FakeIssuer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens of a key that the issuer publishes no more are refused once that is known, also those that were seen before."""
    clock = [1000.0]
    monkeypatch.setattr("cliffracer.security.oidc.monotonic", lambda: clock[0])
    async with running(app, oidc_issuer=fake.url, auth_audience="shop") as t:
        old = fake.token()
        assert await status(t, old) == 200
        fake.keys = {"two": rsa("two")}
        assert await status(t, old) == 200
        clock[0] += 601
        assert await status(t, fake.token("two")) == 200
        assert await status(t, old) == 401


async def test_issuer_away(fake: FakeIssuer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys that are known stay good while it is away, however long that is, and nobody waits for it; without any the answer is 503."""
    clock = [1000.0]
    monkeypatch.setattr("cliffracer.security.oidc.monotonic", lambda: clock[0])
    async with running(app, oidc_issuer=fake.url, auth_audience="shop") as t:
        assert await status(t, fake.token()) == 200
        fake.up = False
        assert await status(t, fake.token(sub="eve")) == 200
        clock[0] += 100_000
        assert await status(t, fake.token(sub="bob")) == 200
        issuer = authority_of(t).issuer
        await eventually(lambda: issuer._asking is None)
        assert fake.asked.count("/.well-known/openid-configuration") == 2
        assert await status(t, fake.token(sub="cy")) == 200
        fake.up = True
        fake.up = False
    async with running(app, oidc_issuer=fake.url, auth_audience="shop") as t:
        assert await status(t, fake.token()) == 503


async def test_lying_issuer(fake: FakeIssuer) -> None:
    """Who says that he is another issuer is not believed."""
    fake.document = {"issuer": "https://accounts.example.org"}
    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(str(message)))
    async with running(app, oidc_issuer=fake.url, auth_audience="shop") as t:
        assert await status(t, fake.token()) == 503
    logger.remove(sink)
    assert "it says that it is 'https://accounts.example.org', to the letter" in "".join(lines)


def test_settings() -> None:
    """Without TLS an issuer is refused, and so is one without an audience."""
    with pytest.raises(SetupError, match="no https URL"):
        Issuer.of(Settings(oidc_issuer="http://example.org", auth_audience="a"))
    with pytest.raises(SetupError, match="AUTH_AUDIENCE"):
        Issuer.of(Settings(oidc_issuer="https://example.org"))


@pytest.mark.parametrize(
    "document",
    [
        {"jwks_uri": "http://127.1:PORT/jwks"},
        {"jwks_uri": "file://FOLDER/jwks"},
        {"jwks_uri": None},
        {"issuer": None},
        {"issuer": "SELF/"},
    ],
)
async def test_discovery_that_cannot_be_trusted(fake: FakeIssuer, document: dict[str, Any], tmp_path: Path) -> None:
    """Keys come from the issuer that was named, over TLS or from this machine, and from nowhere else, although good ones are there."""
    (tmp_path / "jwks").write_text(json.dumps(fake.jwks()))
    places = {"SELF": fake.url, "PORT": fake.url.rpartition(":")[2], "FOLDER": str(tmp_path)}
    for name, value in document.items():
        fake.document[name] = value and re.sub("SELF|PORT|FOLDER", lambda word: places[word[0]], value)
    issuer = Issuer(fake.url, "shop")
    with pytest.raises(Unavailable):
        await issuer.learn()
    assert issuer.tokens.keys == []


@pytest.mark.parametrize("what", ["discovery", "jwks"])
@pytest.mark.parametrize("sent", [b"<html>", b"[]", b"7", b"{}", b'{"keys": []}', b'{"keys": {}}', None], ids=str)
async def test_an_issuer_that_sends_rubbish(fake: FakeIssuer, what: str, sent: bytes | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """No JSON, no object, no key, a megabyte: who never had keys is told that there are none, and those that are known stay."""
    issuer = Issuer(fake.url, "shop")
    await issuer.learn()
    large = json.dumps({**getattr(fake, what)(), "more": "x" * 1_000_000}).encode()
    monkeypatch.setattr(fake, what, lambda: large if sent is None else sent)
    await issuer.learn(again=True, at_once=True)
    assert issuer.tokens.verify(fake.token())["sub"] == "ada"
    with pytest.raises(Unavailable):
        await Issuer(fake.url, "shop").learn()


async def test_our_own_tokens_while_the_issuer_is_away(fake: FakeIssuer) -> None:
    """What we signed ourselves is good although no key of the issuer was ever read, and what is public stays open to its users."""
    fake.up = False
    async with running(app, oidc_issuer=fake.url, auth_audience="shop", auth_secret_key=KEY) as t:
        assert await status(t, t.token("ada")) == 200
        assert await status(t, fake.token()) == 503
        assert (await t.http.get("/open", headers={"Authorization": f"Bearer {fake.token()}"})).json() is None


async def test_keys_that_are_none(fake: FakeIssuer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A published secret, a key to encrypt with and a weak one are not taken; keys of another issuer verify nothing of this one."""
    good = fake.keys["one"].as_dict(private=False)
    with pytest.warns(SecurityWarning):
        weak = RSAKey.generate_key(1024).as_dict(private=False)
    listed = [{"kty": "oct", "k": b64(KEY), "kid": "s"}, {**good, "use": "enc"}, weak, {"kty": "XX"}, 7]
    monkeypatch.setattr(fake, "jwks", lambda: {"keys": listed})
    with pytest.raises(Unavailable):
        await Issuer(fake.url, "shop").learn()
    fake.keys = {"one": rsa("two")}
    monkeypatch.undo()
    issuer = Issuer(fake.url, "shop")
    await issuer.learn()
    fake.keys = {"one": rsa("one")}
    with pytest.raises(RefusedToken, match="signature"):
        issuer.tokens.verify(fake.token())


async def test_claims_are_roles(fake: FakeIssuer) -> None:
    """Where roles stand and what they are called here is for the app to say; what it does not name gives nothing."""
    mapped = App("mapped")
    mapped.provide(
        Claims(roles=("https://shop.example/groups", "resource_access.shop.roles"), names={"bosses": ("admin", "user"), "x": "y"})
    )
    mapped.get("/who")(who)
    claims = {
        "https://shop.example/groups": ["bosses", "service", "admin"],
        "resource_access": {"shop": {"roles": ["x"]}},
        "roles": ["root"],
    }
    async with running(mapped, oidc_issuer=fake.url, auth_audience="shop") as t:
        reply = await t.http.get("/who", headers={"Authorization": f"Bearer {fake.token(**claims)}"})
    assert reply.json()["roles"] == ["admin", "user", "y"]


def test_claims_of_odd_shapes() -> None:
    """Whatever an issuer has in the place of roles, texts are roles and nothing else is."""
    for odd in (None, 7, {"a": 1}, [1, {"a": 1}, None], {"b": ["x"]}, {"b": [1, "x", {"a": 1}, None]}):
        assert Claims(roles="a.b").identity({"sub": "ada", "a": odd}).roles in {(), ("x",)}
    assert Claims(roles="groups").identity({"sub": "ada", "groups": "a b"}).roles == ("a", "b")


def test_one_meaning_in_a_process() -> None:
    """Two apps that run together cannot disagree about claims."""
    one, two = App("one"), App("two")
    one.provide(Claims(roles="a"))
    two.provide(Claims(roles="b"))
    settings = Settings(oidc_issuer="https://id.example", auth_audience="shop")
    with pytest.raises(SetupError, match="different Claims"):
        enforcement([one.freeze(), two.freeze()], settings)


async def test_looking_into_a_token_of_the_issuer() -> None:
    """`token inspect` asks the issuer for its keys: its good token is good here, one that is over, forged or of a silent issuer is not."""

    async def inspected(token: str) -> tuple[int | None, str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "cliffracer", "token", "inspect", token, "--json",
            env={**os.environ, "OIDC_ISSUER": fake.url, "AUTH_AUDIENCE": "shop", "LOG_LEVEL": "ERROR"},
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, _ = await process.communicate()
        return process.returncode, json.loads(out)["reason"]

    with FakeIssuer() as fake:
        good = fake.token()
        assert await inspected(good) == (0, None)
        assert await inspected(fake.token(exp=1)) == (1, "expired")
        head, body, signature = good.split(".")
        assert await inspected(f"{head}.{body}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}") == (1, "a signature that is not ours")
        fake.up = False
        assert await inspected(good) == (1, "the issuer of tokens cannot be reached")
