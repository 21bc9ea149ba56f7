"""Signed tokens (JWT): issued and verified strictly, after RFC 8725 (best practices) and RFC 9068 (access tokens).

There is one `Tokens.verify`. The token decides nothing: the algorithm belongs to the key, and headers that carry keys, or URLs to
fetch them from, are refused.
"""

import json
import math
import re
import secrets
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

from joserfc.errors import JoseError

from cliffracer.declarations import names_of
from cliffracer.errors import SetupError
from cliffracer.security.keys import Key, signer

ACCESS = "at+jwt"
REFRESH = "rt+jwt"
ID = "id"
"""The ID token of OpenID Connect: tells a client who signed in, and gives no access."""
LEEWAY = 60.0
"""Seconds that clocks may differ: a token just issued elsewhere may not be valid here yet. It is not added at expiry."""
MAX_TOKEN = 8192
MAX_LIFE = 100 * 366 * 86400.0
"""Seconds that a token, or an API key, may be good: a hundred years. Clocks and calendars end at some time."""
_LATEST = 253_402_300_799  # the end of year 9999
_TEXT = 1024
_SHAPE = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")
_FOREIGN_TYPES = {ACCESS: frozenset({"jwt", "at+jwt", "application/at+jwt"}), ID: frozenset({"jwt"})}
_ID_TOKEN = frozenset({"nonce", "at_hash", "c_hash"})
_HEADER = frozenset({"alg", "typ", "kid"})
_IGNORED = frozenset({"x5t", "x5t#S256"})  # thumbprints, which foreign issuers add and nobody has to follow


class RefusedToken(Exception):
    """A token that does not verify; ``reason`` is for the log, not for the caller."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class UnknownKey(RefusedToken):
    """A token with an unknown key: the issuer may have a new one since its keys were fetched."""


class Tokens:
    """Issues and verifies the tokens of one issuer for one audience."""

    def __init__(self, keys: Iterable[Key], *, issuer: str, audience: str, leeway: float = LEEWAY, foreign: bool = False) -> None:
        self.keys = list(keys)
        self.foreign = foreign
        """Whether the tokens are an issuer's, which may lack ``typ`` and ``jti``; then the claims must show that it is an access token."""
        self.issuer = issuer
        self.audience = audience
        self.leeway = leeway

    def issue(
        self,
        subject: str,
        *,
        ttl: float,
        roles: str | Iterable[str] = (),
        permissions: str | Iterable[str] = (),
        typ: str = ACCESS,
        claims: Mapping[str, Any] | None = None,
        since: float | None = None,
    ) -> str:
        """Return a token signed by the first key that can, valid for ``ttl`` seconds from now or ``since``; `SetupError` without one.

        ValueError for what would make a token that no service takes: no subject, more than fits, or a life of more than a hundred years.
        """
        key = signer(self.keys)
        if key is None:
            raise SetupError("No key signs tokens here. Set AUTH_SECRET_KEY, or a private key in AUTH_KEYS.")
        if not subject or len(subject) > _TEXT:
            raise ValueError("a token needs a subject of 1 to 1024 characters")
        if ttl > MAX_LIFE:
            raise ValueError("a token is good for a hundred years at most")
        now = int(time.time())
        begins = now if since is None else int(since)
        body: dict[str, Any] = {
            **(claims or {}),
            "iss": self.issuer,
            "aud": self.audience,
            "sub": subject,
            "client_id": self.issuer,
            "iat": now,
            "nbf": begins,
            "exp": begins + max(1, math.ceil(ttl)),
            "jti": secrets.token_hex(16),
        }
        body |= {kind: named for kind, given in (("roles", roles), ("permissions", permissions)) if (named := names_of(given))}
        head = _encoded({"alg": key.alg, "typ": typ, "kid": key.kid})
        signed = f"{head}.{_encoded(body)}"
        token = f"{signed}.{_base64(key.sign(signed.encode()))}"
        if len(token) > MAX_TOKEN:
            raise ValueError(f"that token has {len(token)} characters, and {MAX_TOKEN} are taken: give it fewer roles and permissions")
        return token

    def verify(self, token: str, *, typ: str = ACCESS, now: float | None = None) -> dict[str, Any]:
        """Return the claims of a token that is ours, intact and valid at ``now``; `RefusedToken` for any other."""
        claims = self._signed(token, typ)
        self._check_claims(claims, typ, time.time() if now is None else now)
        return claims

    def _signed(self, token: str, typ: str) -> dict[str, Any]:
        """Return the claims of a token with a good signature; nothing unsigned is looked at any further."""
        shape = _SHAPE.fullmatch(token) if len(token) <= MAX_TOKEN else None
        if shape is None:
            raise RefusedToken("no compact JWS")
        header = _object(shape[1])
        if not header.keys() <= _HEADER | _IGNORED:
            raise RefusedToken("a header that is not allowed")
        stated = header.get("typ")
        if not self.foreign and (not isinstance(stated, str) or stated.lower().removeprefix("application/") != typ):
            raise RefusedToken("another type of token")
        if self.foreign and stated is not None and (not isinstance(stated, str) or stated.lower() not in _FOREIGN_TYPES[typ]):
            raise RefusedToken("another type of token")
        key = self._key(header)
        signature = _bytes(shape[3])
        try:
            good = key.verifies(token[: shape.start(3) - 1].encode(), signature)
        except (JoseError, ValueError, TypeError):  # not even a signature of that algorithm
            good = False
        if not good:
            raise RefusedToken("a signature that is not ours")
        return _object(shape[2])

    def _key(self, header: Mapping[str, Any]) -> Key:
        alg, kid = header.get("alg"), header.get("kid")
        if not isinstance(alg, str):
            raise RefusedToken("no algorithm")
        fitting = [key for key in self.keys if alg in key.names]
        if "kid" in header:
            fitting = [key for key in fitting if isinstance(kid, str) and key.kid == kid]
        if not fitting and self.foreign:
            raise UnknownKey("a key that is not known yet")
        if len(fitting) != 1:  # without a kid it must be unambiguous
            raise RefusedToken("a key or algorithm that is not ours")
        return fitting[0]

    def _check_claims(self, claims: Mapping[str, Any], typ: str, now: float) -> None:
        if claims.get("iss") != self.issuer:
            raise RefusedToken("another issuer")
        if self.audience not in _several(claims.get("aud")):
            raise RefusedToken("another audience")
        if _time(claims, "exp") <= now:
            raise RefusedToken("expired")
        if max(_time(claims, name) for name in ("iat", "nbf") if name in claims or name == "iat") > now + self.leeway:
            raise RefusedToken("not valid yet")
        wrong = claims.get("typ") in {"ID", "Refresh"} or claims.get("token_use") == "id"
        if self.foreign and typ == ACCESS and (wrong or _ID_TOKEN & claims.keys()):
            raise RefusedToken("no access token")
        for name in ("sub",) if self.foreign else ("sub", "jti"):
            if not isinstance(claims.get(name), str) or not 0 < len(claims[name]) <= _TEXT:
                raise RefusedToken(f"no {name}")
        for name, good in _SHAPES.items():
            if name in claims and not good(claims[name]):
                raise RefusedToken(f"{name} of another shape")


def unverified(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the unverified header and claims of a token; `RefusedToken` if they cannot be read."""
    shape = _SHAPE.fullmatch(token) if len(token) <= MAX_TOKEN else None
    if shape is None:
        raise RefusedToken("no compact JWS")
    return _object(shape[1]), _object(shape[2])


def _time(claims: Mapping[str, Any], name: Literal["exp", "iat", "nbf"]) -> float:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _LATEST:
        raise RefusedToken(f"no {name} that is a time")
    return float(value)


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _several(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else value if _texts(value) else []


_SHAPES: dict[str, Callable[[Any], bool]] = {
    "roles": _texts,
    "permissions": _texts,
    "scope": lambda value: isinstance(value, str),
    "sid": lambda value: isinstance(value, str),
    "jti": lambda value: isinstance(value, str),
}


def _encoded(value: Mapping[str, Any]) -> str:
    return _base64(json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode())


def _base64(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    """Return the bytes of base64url text in its canonical form only."""
    try:
        data = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        raise RefusedToken("no base64url") from None
    if _base64(data) != text:
        raise RefusedToken("base64url that is not canonical")
    return data


def _object(text: str) -> dict[str, Any]:
    """Return a JSON object; duplicate names, NaN, and anything that is not an object are refused."""
    try:
        value = json.loads(_bytes(text).decode(), object_pairs_hook=_unique, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise RefusedToken("no JSON object") from None
    if not isinstance(value, dict):
        raise RefusedToken("no JSON object")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice")
    return found


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no JSON")
