"""Tokens of an OpenID Connect issuer: a real one on loopback, that rotates its keys, goes away, and lies."""

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey

from cliffracer import App, Identity, SetupError, provided, requires
from cliffracer.security.oidc import Issuer
from cliffracer.settings import Settings
from cliffracer.testing import running

app = App("shielded")


@app.get("/who")
@requires
async def who(*, identity: Identity = provided) -> dict[str, Any]:
    return {"subject": identity.subject, "roles": identity.roles, "permissions": identity.permissions}


class Fake:
    """An issuer whose keys and words a test sets."""

    def __init__(self) -> None:
        self.keys = {"one": RSAKey.generate_key(2048)}
        self.asked: list[str] = []
        self.issuer: str | None = None
        self.up = True
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                fake.asked.append(self.path)
                if not fake.up:
                    self.send_error(503)
                    return
                if self.path.startswith("/.well-known"):
                    found: Any = {"issuer": fake.issuer or fake.url, "jwks_uri": f"{fake.url}/jwks"}
                else:
                    found = {"keys": [{**key.as_dict(private=False), "kid": kid, "use": "sig"} for kid, key in fake.keys.items()]}
                body = json.dumps(found).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def token(self, kid: str = "one", **claims: Any) -> str:
        now = int(time.time())
        made = {"iss": self.url, "aud": "shop", "sub": "ada", "iat": now, "exp": now + 300, "scope": "a b", **claims}
        return jwt.encode({"alg": "RS256", "kid": kid}, made, self.keys[kid])


@pytest.fixture
def fake() -> Iterator[Fake]:
    """Run an issuer."""
    made = Fake()
    thread = threading.Thread(target=made.server.serve_forever, args=(0.05,))
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


async def status(t: Any, token: str) -> int:
    return (await t.http.get("/who", headers={"Authorization": f"Bearer {token}"})).status_code


async def test_tokens_of_the_issuer(fake: Fake) -> None:
    """Given its URL, its access tokens are good here, with their scopes and roles; what is for others, or no access token, is not."""
    async with running(app, oidc_issuer=fake.url, auth_audience="shop", auth_secret_key="q8Zt3vN0xW7sLk2pRm5yUe9aJh4cGf6d1") as t:
        good = await t.http.get("/who", headers={"Authorization": f"Bearer {fake.token(realm_access={'roles': ['admin']})}"})
        assert good.json() == {"subject": "ada", "roles": ["admin"], "permissions": ["a", "b"]}
        assert await status(t, t.token("bob")) == 200
        for wrong in ({"aud": "other"}, {"exp": 1}, {"nonce": "x"}, {"typ": "Refresh"}, {"iss": "https://elsewhere"}, {"sub": ""}):
            assert await status(t, fake.token(**wrong)) == 401, wrong
    assert len(fake.asked) == 2


async def test_rotation_and_unknown_keys(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new key is asked for once a minute at most, however many tokens name one that is not known."""
    clock = [1000.0]
    monkeypatch.setattr("cliffracer.security.oidc.time.monotonic", lambda: clock[0])
    async with running(app, oidc_issuer=fake.url, auth_audience="shop") as t:
        assert await status(t, fake.token()) == 200
        fake.keys["two"] = RSAKey.generate_key(2048)
        fake.keys["bad"] = RSAKey.generate_key(2048)
        tokens = [fake.token("bad") for _ in range(30)]
        fresh = fake.token("two")
        del fake.keys["bad"]
        assert {await status(t, token) for token in tokens} == {401}
        assert len(fake.asked) == 2
        clock[0] += 61
        assert await status(t, fresh) == 200
        assert {await status(t, token) for token in tokens} == {401}
        assert len(fake.asked) == 4


async def test_issuer_away(fake: Fake) -> None:
    """Keys that are known stay good while it is away; without any the answer is 503."""
    async with running(app, oidc_issuer=fake.url, auth_audience="shop") as t:
        assert await status(t, fake.token()) == 200
        fake.up = False
        assert await status(t, fake.token(sub="eve")) == 200
    async with running(app, oidc_issuer=fake.url, auth_audience="shop") as t:
        assert await status(t, fake.token()) == 503


async def test_lying_issuer(fake: Fake) -> None:
    """Who says that he is another issuer is not believed."""
    fake.issuer = "https://accounts.example.org"
    async with running(app, oidc_issuer=fake.url, auth_audience="shop") as t:
        assert await status(t, fake.token()) == 503


def test_settings() -> None:
    """Without TLS an issuer is refused, and so is one without an audience."""
    with pytest.raises(SetupError, match="no https URL"):
        Issuer.of(Settings(oidc_issuer="http://example.org", auth_audience="a"))
    with pytest.raises(SetupError, match="AUTH_AUDIENCE"):
        Issuer.of(Settings(oidc_issuer="https://example.org"))
