"""An OpenID Connect issuer on loopback: discovery, keys, authorization code with PKCE, client credentials; it lies when a test says so."""

import base64
import hashlib
import json
import secrets
import threading
import time
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import RSAKey

CLIENT, SECRET = "pages", "s3cret-of-the-client"


@cache
def rsa(name: str) -> RSAKey:
    """Return a key, the same for one name: making them takes long."""
    return RSAKey.generate_key(2048, parameters={"kid": name})


class FakeIssuer:
    """An issuer whose keys and words a test sets; whoever asks to sign in is ``claims`` and consents."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.keys = {"one": rsa("one")}
        self.up = True
        self.moved = ""
        """Where everything that it is asked for is said to be."""
        self.asked: list[str] = []
        self.document: dict[str, Any] = {}
        """What discovery says otherwise."""
        self.answer: dict[str, Any] = {}
        """What the answer to the browser says otherwise; None leaves it out."""
        self.reply: dict[str, Any] = {}
        """What the answer of the token endpoint says otherwise."""
        self.claims: dict[str, Any] = {"sub": "ada", "name": "Ada", "groups": ["shop-admins", "everybody"]}
        """Of ID tokens; None leaves one out."""
        self.id_token: str | None = None
        """Instead of the one that is made."""
        self.lasts = 300
        self.grants: list[dict[str, str]] = []
        self.requests: list[dict[str, str]] = []
        self.devices: dict[str, dict[str, Any]] = {}
        """What devices asked for, by the code that is shown; a test sets ``approved`` to True, or False to refuse."""
        self._codes: dict[str, dict[str, str]] = {}
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://{host}:{self.server.server_address[1]}"
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self._thread.join()
        self.server.server_close()

    def token(self, kid: str = "one", header: dict[str, Any] | None = None, **claims: Any) -> str:
        """Return an access token, or any other, signed with one of the keys; a header that is None is left out."""
        now = int(time.time())
        made = {"iss": self.url, "aud": "shop", "sub": "ada", "iat": now, "exp": now + self.lasts, "scope": "a b", **claims}
        said = {"alg": "RS256", "kid": kid, **(header or {})}
        return jwt.encode(*({k: v for k, v in part.items() if v is not None} for part in (said, made)), self.keys[kid])

    def discovery(self) -> dict[str, Any]:
        places = {name: f"{self.url}/{name.split('_')[0]}" for name in ("authorization_endpoint", "token_endpoint", "end_session_endpoint")}
        return {"issuer": self.url, "jwks_uri": f"{self.url}/jwks", **places, **self.document}

    def jwks(self) -> dict[str, Any]:
        return {"keys": [{**key.as_dict(private=False), "kid": kid, "use": "sig"} for kid, key in self.keys.items()]}

    def authorize(self, query: dict[str, str]) -> str:
        """Return where the browser is sent, signed in."""
        self.requests.append(query)
        assert query["response_type"] == "code"
        assert query["client_id"] == CLIENT
        assert query["code_challenge_method"] == "S256"
        code = secrets.token_urlsafe(16)
        self._codes[code] = query
        said = {"code": code, "state": query["state"], "iss": self.url, **self.answer}
        return f"{query['redirect_uri']}?{urlencode({k: v for k, v in said.items() if v is not None})}"

    def device(self, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        """Return status and answer of the place where devices ask (RFC 8628, 3.2)."""
        if form.get("client_id") != CLIENT:
            return 401, {"error": "invalid_client"}
        shown = secrets.token_hex(4).upper()
        self.devices[shown] = {"device_code": secrets.token_urlsafe(16), "approved": None, "asked": 0, "form": form}
        code = self.devices[shown]["device_code"]
        found = {"device_code": code, "user_code": shown, "verification_uri": f"{self.url}/enter", "expires_in": 60, "interval": 0.1}
        return 200, {**found, **self.reply}

    def by_device(self, code: str) -> tuple[int, dict[str, Any]]:
        """Return what a device is told that asks whether somebody has signed in."""
        found = next((one for one in self.devices.values() if one["device_code"] == code), None)
        if found is None:
            return 400, {"error": "expired_token"}
        found["asked"] += 1
        if found["approved"] is None:
            return 400, {"error": "authorization_pending"}
        if not found["approved"]:
            return 400, {"error": "access_denied"}
        return 200, {"access_token": self.token(scope=found["form"]["scope"]), "token_type": "Bearer", "expires_in": self.lasts}

    def grant(self, form: dict[str, str], authorization: str) -> tuple[int, dict[str, Any]]:
        """Return status and answer of the token endpoint."""
        self.grants.append(form)
        scheme, _, given = authorization.partition(" ")
        user, _, password = base64.b64decode(given).decode().partition(":") if scheme == "Basic" else (form.get("client_id", ""), "", "")
        if form["grant_type"] == "client_credentials":
            if (unquote(user), unquote(password)) != (CLIENT, SECRET):
                return 401, {"error": "invalid_client"}
            token = self.token(sub=CLIENT, roles=["service"], jti=secrets.token_hex(8))
            return 200, {"access_token": token, "token_type": "Bearer", "expires_in": self.lasts, **self.reply}
        if form["grant_type"] == "urn:ietf:params:oauth:grant-type:device_code":
            return self.by_device(form["device_code"])
        asked = self._codes.pop(form["code"], None)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(form.get("code_verifier", "").encode()).digest()).rstrip(b"=").decode()
        if asked is None or asked["code_challenge"] != challenge or asked["redirect_uri"] != form["redirect_uri"]:
            return 400, {"error": "invalid_grant"}
        named = {"aud": CLIENT, "scope": None, "nonce": asked["nonce"], **self.claims}
        id_token = self.id_token or self.token(next(iter(self.keys)), **named)
        return 200, {"access_token": "opaque", "token_type": "Bearer", "expires_in": 300, "id_token": id_token, **self.reply}


def _handler(issuer: FakeIssuer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            issuer.asked.append(parts.path)
            if not issuer.up:
                self.send_error(503)
            elif issuer.moved:
                self.send_response(302)
                self.send_header("Location", issuer.moved)
                self.end_headers()
            elif parts.path == "/authorization":
                self.send_response(303)
                self.send_header("Location", issuer.authorize({name: found[0] for name, found in parse_qs(parts.query).items()}))
                self.send_header("Content-Length", "0")
                self.end_headers()
            else:
                self._json(200, issuer.discovery() if parts.path.startswith("/.well-known") else issuer.jwks())

        def do_POST(self) -> None:
            issuer.asked.append(self.path)
            text = self.rfile.read(int(self.headers["Content-Length"])).decode()
            if not issuer.up:
                self.send_error(503)
                return
            form = {name: found[0] for name, found in parse_qs(text).items()}
            if self.path == "/device":
                self._json(*issuer.device(form))
                return
            self._json(*issuer.grant(form, self.headers.get("Authorization", "")))

        def _json(self, status: int, found: Any) -> None:
            body = found if isinstance(found, bytes) else json.dumps(found).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    return Handler
