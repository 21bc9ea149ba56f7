"""Every token of the corpus is refused on every door, with one answer that tells nothing, and none is logged."""

import asyncio
import socket
import subprocess
from typing import Any

import pytest
import websockets
from loguru import logger
from websockets.exceptions import InvalidHandshake

from cliffracer import App, requires
from cliffracer.security.authority import Authority, tokens_of
from cliffracer.security.keys import keys_of
from cliffracer.security.tokens import RefusedToken, Tokens
from cliffracer.settings import Settings
from cliffracer.testing import running
from tests.security.corpus import KEY, attacks
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


PEM = subprocess.run(
    ["openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"], capture_output=True, text=True, check=True
).stdout
PUBLIC = subprocess.run(["openssl", "pkey", "-pubout"], input=PEM, capture_output=True, text=True, check=True).stdout


def _good() -> str:
    return tokens_of(Settings(auth_secret_key=KEY)).issue("ada", ttl=600, roles=["user"])


CORPUS = dict(attacks(_good(), PUBLIC))


def test_the_corpus_bites() -> None:
    """There are many attacks, and what they are made from is good."""
    assert len(CORPUS) >= 150
    tokens_of(Settings(auth_secret_key=KEY)).verify(_good())


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
    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(str(message)), level="TRACE")
    asked: list[Any] = []
    real = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **more: asked.append(args[:2]) or real(*args, **more))
    entered.clear()
    answers = set()
    async with running(app, auth_secret_key=KEY) as t:
        ours = t.url.rpartition(":")[2]
        await t.http.get("/item")
        asked.clear()
        for name, token in CORPUS.items():
            if not token or len(token) > 100_000 or not token.isprintable() or token != token.strip():
                continue  # no HTTP client sends it
            reply = await t.http.get("/item", headers={"Authorization": f"Bearer {token}"})
            assert reply.status_code == (401 if len(token) < 8000 else reply.status_code), name
            if reply.status_code == 401:
                answers.add((reply.text, reply.headers["www-authenticate"]))
        assert [place for place in asked if str(place[1]) != ours] == []
    logger.remove(sink)
    assert entered == []
    assert len({challenge for _, challenge in answers}) == 1
    assert len({text for text, _ in answers}) == 1
    text = "".join(lines)
    assert not any(token in text for token in CORPUS.values() if len(token) > 40)
    assert KEY not in text


async def test_nats() -> None:
    """Over NATS each RPC is answered by 401, and no event or one-way call is handled."""
    entered.clear()
    async with running(app, auth_secret_key=KEY) as t:
        prefix = f"{t.settings.namespace}."
        for name, token in CORPUS.items():
            if len(token) > 12_000:
                continue  # more than a header block may have
            block = f"NATS/1.0\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
            reply = await t.up.bus.request(f"{prefix}safe.item".encode(), b'{"name": "rpc"}', block, timeout=5.0)
            assert b'"code":401' in reply.payload, name
            for subject in ("events.safe.told", "events.safe.asked"):
                t.up.bus.publish(f"{prefix}{subject}".encode(), b'"event"', block)
        await t.up.bus.flush()
        with t.acting("ada"):
            await t.emit("safe.asked", "last")
            await eventually(lambda: "last" in entered, within=30)
    assert set(entered) == {"last"}


async def test_sockets() -> None:
    """No handshake succeeds, by header or subprotocol."""
    entered.clear()
    async with running(app, auth_secret_key=KEY) as t:
        place = t.url.replace("http", "ws") + "/ws"

        async def knock(token: str) -> None:
            with pytest.raises((InvalidHandshake, ValueError, OSError)):
                await websockets.connect(place, additional_headers={"Authorization": f"Bearer {token}"})
            if token and all(part.isalnum() or part in "-_." for part in token):
                with pytest.raises((InvalidHandshake, ValueError, OSError)):
                    await websockets.connect(place, subprotocols=["bearer", token])

        tokens = [token for token in CORPUS.values() if len(token) < 8000 and token.isprintable()]
        for start in range(0, len(tokens), 20):
            await asyncio.gather(*(knock(token) for token in tokens[start : start + 20]))
    assert entered == []
