"""Every token of the corpus is refused on every door, with one answer that tells nothing, and none is logged."""

import asyncio
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import websockets
from loguru import logger
from websockets.exceptions import InvalidHandshake, InvalidStatus

from cliffracer import App, requires
from cliffracer.security.authority import Authority, tokens_of
from cliffracer.security.keys import keys_of
from cliffracer.security.tokens import RefusedToken, Tokens
from cliffracer.settings import Settings
from cliffracer.testing import running
from tests.security.corpus import KEY, attacks, forgeries, unb64
from tests.support.keys import private_pem, public_pem
from tests.support.waiting import eventually

app = App("safe")
entered: list[str] = []


@app.rpc
@app.get("/item")
@app.websocket("/ws")
@app.on("safe.asked")
@app.on("safe.told", durable=False)
@requires
async def item(name: str = "") -> str:
    entered.append(name)
    return name


PEM = private_pem("RS256")
PUBLIC = public_pem(PEM)


def _good() -> str:
    return tokens_of(Settings(auth_secret_key=KEY)).issue("ada", ttl=600, roles=["user"])


CORPUS = dict(attacks(_good(), PUBLIC))
KEYS = {"auth_secret_key": KEY, "auth_keys": PEM}
"""What doors take in these tests: a secret, and a key whose public half is known to attackers."""


def _forged() -> dict[str, str]:
    """Return what is made without the private key, and tokens that are good elsewhere."""
    (mine,), (attacker,) = keys_of(Settings(auth_keys=PEM)), keys_of(Settings(auth_keys=private_pem("RS256")))
    secret = keys_of(Settings(auth_secret_key=KEY))
    good = Tokens([mine], issuer="cliffracer", audience="cliffracer").issue("ada", ttl=600)
    found = dict(forgeries(good, [mine.key.as_pem(private=False), mine.key.as_der(private=False)], attacker.sign))
    for name, tokens in {
        "RS256": Tokens([mine], issuer="x", audience="cliffracer"), "HS256": Tokens(secret, issuer="cliffracer", audience="x"),
    }.items():  # fmt: skip
        found[f"another service's, {name}"] = tokens.issue("ada", ttl=600)
    for typ in ("rt+jwt", "session+jwt", "login+jwt"):
        found[f"ours for another use, {typ}"] = tokens_of(Settings(auth_secret_key=KEY)).issue("ada", ttl=600, typ=typ)
    return found


DOORS = CORPUS | _forged()


def test_the_corpus_bites() -> None:
    """There are many attacks, and what they are made from is good."""
    assert len(CORPUS) >= 150
    tokens_of(Settings(auth_secret_key=KEY)).verify(_good())


@contextmanager
def logged() -> Iterator[list[str]]:
    """Give all that is logged in the block."""
    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(str(message)), level="TRACE")
    try:
        yield lines
    finally:
        logger.remove(sink)


def tells_nothing(lines: list[str]) -> None:
    """Look for tokens and keys in what was logged."""
    text = "".join(lines)
    assert text
    assert not any(token in text for token in DOORS.values() if len(token) > 40)
    assert KEY not in text
    assert "eyJ" not in text


@pytest.mark.parametrize("keys", ["secret", "both"])
def test_verify_refuses(keys: str) -> None:
    """One `verify` refuses all of them by `RefusedToken` and nothing else, also beside an RSA key whose public half is known."""
    settings = Settings(auth_secret_key=KEY, **({"auth_keys": PEM} if keys == "both" else {}))
    tokens = tokens_of(settings)
    taken = []
    for name, token in CORPUS.items():
        try:
            tokens.verify(token)
        except RefusedToken:
            continue
        taken.append(name)
    assert taken == []


def test_public_key_is_no_secret() -> None:
    """A service that holds only the public RSA key takes no token that was made by an HMAC with it."""
    tokens = tokens_of(Settings(auth_keys=PUBLIC))
    for token in CORPUS.values():
        with pytest.raises(RefusedToken):
            tokens.verify(token)


@pytest.mark.parametrize("kind", ["EdDSA", "ES256", "RS256"])
def test_forgeries(kind: str) -> None:
    """Without the private key nothing makes or changes a token, whatever is known of the public one."""
    mine, other = private_pem(kind), private_pem(kind)
    tokens, (attacker,) = tokens_of(Settings(auth_keys=mine)), keys_of(Settings(auth_keys=other))
    good = tokens.issue("ada", ttl=600, roles=["user"])
    public = tokens.keys[0].public()
    pem = tokens.keys[0].key.as_pem(private=False)
    written = [pem, pem.strip(), tokens.keys[0].key.as_der(private=False), json.dumps(public).encode()]
    written += [unb64(public[part]) for part in ("x", "n") if part in public]
    found = dict(forgeries(good, written, attacker.sign))
    assert len(found) > 30
    taken = []
    for name, token in found.items():
        try:
            tokens.verify(token)
        except RefusedToken:
            continue
        taken.append(name)
    assert taken == []
    assert tokens.verify(good)["sub"] == "ada"


def test_tokens_are_for_one_service_and_one_use() -> None:
    """A token of another issuer or audience, and a refresh token, are no access tokens."""
    keys = keys_of(Settings(auth_secret_key=KEY))
    ours = Tokens(keys, issuer="a", audience="b")
    for made in (
        Tokens(keys, issuer="x", audience="b").issue("ada", ttl=60),
        Tokens(keys, issuer="a", audience="x").issue("ada", ttl=60),
        ours.issue("ada", ttl=60, typ="rt+jwt"),
    ):
        with pytest.raises(RefusedToken):
            ours.verify(made)
    with pytest.raises(RefusedToken):
        ours.verify(ours.issue("ada", ttl=60), typ="rt+jwt")


def test_times() -> None:
    """A token ends at its exp, to the second; nbf and iat may be a minute ahead of our clock and no more."""
    tokens = Tokens(keys_of(Settings(auth_secret_key=KEY)), issuer="a", audience="b")
    made = tokens.issue("ada", ttl=600)
    issued = tokens.verify(made)["iat"]
    for now, good in ((issued - 61, False), (issued - 59, True), (issued + 599, True), (issued + 600, False)):
        try:
            tokens.verify(made, now=now)
        except RefusedToken:
            assert not good, now
        else:
            assert good, now


def test_memory_is_bounded_and_heeds_revocation() -> None:
    """A remembered token is refused from the moment it is revoked; only so many are remembered."""
    tokens = tokens_of(Settings(auth_secret_key=KEY))
    authority = Authority(tokens)
    made = tokens.issue("ada", ttl=600)
    identity = authority.identity(made)
    assert authority.identity(made) is identity
    authority.revocations.revoke(identity.claims["jti"], 2e10)
    with pytest.raises(RefusedToken, match="revoked"):
        authority.identity(made)
    for number in range(4200):
        authority.identity(tokens.issue(f"u{number}", ttl=600))
    assert len(authority._known) <= 4096


async def test_http(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over HTTP each is a 401 with the same body; nothing is fetched from where a token points."""
    asked: list[Any] = []
    real = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **more: asked.append(args[:2]) or real(*args, **more))
    entered.clear()
    answers = set()
    with logged() as lines:
        async with running(app, **KEYS) as t:
            ours = t.url.rpartition(":")[2]
            await t.http.get("/item")
            asked.clear()
            sendable = {k: v for k, v in DOORS.items() if v and len(v) < 100_000 and v.isprintable() and v == v.strip()}
            good = tokens_of(Settings(**KEYS)).issue("ada", ttl=600)
            assert (await t.http.get("/item", headers={"Authorization": f"Bearer {good}"})).status_code == 200
            entered.clear()

            async def ask(name: str, token: str) -> None:
                cookie = f"cliffracer_session={token}"
                ways = [
                    {"Authorization": f"Bearer {token}"},
                    *([{"Cookie": cookie}] if "ours for another use, session" not in name else []),
                ]
                for headers in ways if not set(token) & set('; "\\,') else ways[:1]:
                    reply = await t.http.get("/item", headers=headers)
                    assert reply.status_code == (401 if len(token) < 8000 else reply.status_code), name
                    if reply.status_code == 401:
                        answers.add((reply.text, reply.headers["www-authenticate"]))

            names = list(sendable)
            for start in range(0, len(names), 50):
                await asyncio.gather(*(ask(name, sendable[name]) for name in names[start : start + 50]))
            assert [place for place in asked if str(place[1]) != ours] == []
    assert entered == []
    assert len(answers) == 1
    tells_nothing(lines)


async def test_nats() -> None:
    """Over NATS each RPC is answered by the same 401, no event or one-way call is handled, and no token or key is logged."""
    entered.clear()
    answers = set()
    with logged() as lines:
        async with running(app, **KEYS) as t:
            prefix = f"{t.settings.namespace}."
            with t.acting("ada"):
                await app.service("safe").send.item(name="first sent")
                await eventually(lambda: "first sent" in entered, within=30)
            for name, token in DOORS.items():
                if len(token) > 12_000:
                    continue  # more than a header block may have
                block = f"NATS/1.0\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
                reply = await t.up.bus.request(f"{prefix}safe.item".encode(), b'{"name": "rpc"}', block, timeout=5.0)
                assert b'"code":401' in reply.payload, name
                answers.add((reply.block, reply.payload))
                for subject, payload in (
                    ("events.safe.told", b'"event"'),
                    ("events.safe.asked", b'"event"'),
                    ("send.safe.item", b'["sent"]'),
                ):
                    t.up.bus.publish(f"{prefix}{subject}".encode(), payload, block)
            await t.up.bus.flush()
            with t.acting("ada"):
                await t.emit("safe.asked", "last")
                await app.service("safe").send.item(name="last sent")
                await eventually(lambda: {"last", "last sent"} <= set(entered), within=30)
    assert set(entered) == {"first sent", "last", "last sent"}
    assert len(answers) == 1
    tells_nothing(lines)


async def test_sockets() -> None:
    """No handshake succeeds, by header or subprotocol; each gets the same answer, and no token or key is logged."""
    entered.clear()
    answers: list[tuple[int, bytes]] = []
    with logged() as lines:
        async with running(app, **KEYS) as t:
            place = t.url.replace("http", "ws") + "/ws"

            async def knock(token: str) -> None:
                with pytest.raises((InvalidHandshake, ValueError, OSError)) as refused:
                    await websockets.connect(place, additional_headers={"Authorization": f"Bearer {token}"})
                told(refused.value)
                if token and all(part.isalnum() or part in "-_." for part in token):
                    with pytest.raises((InvalidHandshake, ValueError, OSError)) as refused:
                        await websockets.connect(place, subprotocols=["bearer", token])
                    told(refused.value)

            def told(refused: BaseException) -> None:
                if isinstance(refused, InvalidStatus) and refused.response.status_code != 400:  # what HTTP itself cannot read
                    answers.append((refused.response.status_code, bytes(refused.response.body)))

            tokens = [token for token in DOORS.values() if len(token) < 8000 and token.isprintable() and token.strip()]
            for start in range(0, len(tokens), 20):
                await asyncio.gather(*(knock(token) for token in tokens[start : start + 20]))
    assert entered == []
    assert len(answers) > 200
    assert {status for status, _ in answers} == {401}
    assert len(set(answers)) == 1
    tells_nothing(lines)
