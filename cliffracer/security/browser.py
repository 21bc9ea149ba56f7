"""The session cookie of a browser: signed, unreadable for scripts, of no use to other sites.

The cookie holds a token of its own type, which is not accepted as an access token, nor an access token as a cookie. Calls on its
behalf carry access tokens that live for minutes, made from it while it is good.
"""

import secrets
import time
from collections.abc import Iterable, Mapping
from typing import Any

from cliffracer.security.identity import Identity, identity_of
from cliffracer.security.keys import signer
from cliffracer.security.revocations import Revocations
from cliffracer.security.tokens import RefusedToken, Tokens
from cliffracer.wire.cookies import SESSION as COOKIE
from cliffracer.wire.cookies import parse_cookies

SESSION = "session+jwt"
LASTS = 12 * 3600.0
"""Seconds that a browser's session lasts by default."""
ONWARD = 300.0
"""Seconds that a token for onward calls lives; it is replaced after half of that."""
_REMEMBERED = 4096
_LARGEST = 4096  # bytes of a cookie, with its name: a browser drops a larger one without a word (RFC 6265bis, 5.6)


class Browsers:
    """Begins and recognises sessions in cookies, and makes tokens for calls on their behalf."""

    def __init__(self, tokens: Tokens, revocations: Revocations, *, secure: bool) -> None:
        self._tokens = tokens
        self._revocations = revocations
        self._known: dict[str, tuple[Identity, float]] = {}
        self._onward: dict[str, tuple[str, float]] = {}
        self.secure = secure
        """Whether cookies are always for TLS only, as in production: behind a proxy a request looks like plain HTTP here."""

    def begin(
        self,
        subject: str,
        *,
        lasts: float,
        session: str | None = None,
        roles: Iterable[str] = (),
        permissions: Iterable[str] = (),
        claims: Mapping[str, Any] | None = None,
    ) -> str:
        """Return the cookie's text for a new session; ``session`` is its id, made up if it is not given."""
        named = {**(claims or {}), "sid": session or secrets.token_hex(16)}
        return self._tokens.issue(subject, ttl=lasts, typ=SESSION, roles=roles, permissions=permissions, claims=named)

    def identity(self, text: str) -> Identity:
        """Return whose session a cookie is; `RefusedToken` for one that is not good (any more)."""
        found = self._known.get(text)
        if found is None or found[1] <= time.time():
            claims = self._tokens.verify(text, typ=SESSION)
            while len(self._known) >= _REMEMBERED:
                del self._known[next(iter(self._known))]
            found = self._known[text] = (identity_of(claims), float(claims["exp"]))
        if self._revocations.holds(found[0].claims):
            raise RefusedToken("revoked")
        return found[0]

    def onward(self, identity: Identity) -> str | None:
        """Return an access token for calls on behalf of a session; None without a key that signs one.

        It never outlives the session.
        """
        if signer(self._tokens.keys) is None:
            return None
        session, now = identity.claims["sid"], time.time()
        known = self._onward.get(session)
        if known is None or known[1] < now:
            while len(self._onward) >= _REMEMBERED:
                del self._onward[next(iter(self._onward))]
            kept = {name: value for name, value in identity.claims.items() if name not in {"roles", "permissions"}}
            lasts = min(ONWARD, identity.claims["exp"] - now)
            token = self._tokens.issue(identity.subject, ttl=lasts, roles=identity.roles, permissions=identity.permissions, claims=kept)
            known = self._onward[session] = (token, now + lasts / 2)
        return known[0]

    def cookie(self, headers: Mapping[str, str], scheme: str, name: str = COOKIE) -> str | None:
        """Return the value of our cookie in a request."""
        found = headers.get("Cookie")
        return None if found is None or name not in found else parse_cookies(found).get(self._named(name, scheme))

    def remember(self, response: Any, scheme: str, text: str, lasts: float, name: str = COOKIE) -> None:
        """Set our cookie on a response (Starlette's); ``lasts=0`` removes it. ValueError for one that no browser would keep."""
        secure, named = self.is_secure(scheme), self._named(name, scheme)
        if len(named) + len(text) > _LARGEST:
            raise ValueError(
                f"that session takes {len(text)} bytes, and browsers keep a cookie of {_LARGEST}: give it fewer roles and permissions; "
                "those of an issuer are chosen by Claims(names=...)"
            )
        response.set_cookie(named, text, max_age=int(lasts), path="/", secure=secure, httponly=True, samesite="lax")
        response.headers["Cache-Control"] = "no-store"

    def forget(self, response: Any, scheme: str, name: str = COOKIE) -> None:
        """Remove our cookie by a response."""
        self.remember(response, scheme, "", 0, name)

    def is_secure(self, scheme: str) -> bool:
        """Say whether the browser sees TLS."""
        return self.secure or scheme in {"https", "wss"}

    def _named(self, name: str, scheme: str) -> str:
        """Return the name of a cookie: over TLS with a prefix that no other host and no plain HTTP can set (RFC 6265bis, 4.1.3.2)."""
        return f"__Host-{name}" if self.is_secure(scheme) else name
