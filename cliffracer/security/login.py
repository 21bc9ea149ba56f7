"""Sign-in of browsers at an issuer, opt-in: ``app.use(BrowserLogin())`` (OpenID Connect, authorization code flow with PKCE).

A page sends the browser to ``GET {prefix}/login?next=/where/it/was``; it comes back with our session in a cookie. Nothing is stored
meanwhile: the state parameter is signed and bound to a secret in a cookie of that browser, from which nonce and PKCE verifier are
derived. So nobody else can finish a sign-in, and several tabs can sign in at once.
"""

import hmac
import re
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from hmac import compare_digest
from typing import Annotated, Any, NamedTuple
from urllib.parse import urlencode

from loguru import logger
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from cliffracer.errors import SetupError, Unauthenticated, Unavailable
from cliffracer.markers import Query, provided, signs_in
from cliffracer.resilience.policies import length
from cliffracer.scope import Group
from cliffracer.security.authority import Authority
from cliffracer.security.browser import LASTS
from cliffracer.security.guards import public, requires
from cliffracer.security.identity import Identity
from cliffracer.security.oauth import OAuth
from cliffracer.security.tokens import RefusedToken
from cliffracer.settings import Settings

LOGIN = "login+jwt"
_COOKIE = "cliffracer_login"
_SECRET = re.compile(r"[A-Za-z0-9_-]{43}")
_MINUTES = 600.0
"""Seconds that a user may take at the issuer."""
_SHOWN = ("name", "email", "preferred_username")
_SEE_OTHER = 303
_PLACES = ("https://", "http://")


class BrowserLogin:
    """Routes under ``prefix``: ``login``, ``callback`` (to be registered at the issuer), ``logout``, ``me``.

    ``url`` is where browsers reach this app, if that is not what their requests say (``https://shop.example``); ``lasts`` how long
    a sign-in is good for; ``home`` where browsers go when nothing else is asked, a path or another
    host's page. With ``everywhere`` signing out goes on to the issuer's own sign-out. ``scope`` is what the issuer is asked for.
    """

    def __init__(
        self,
        *,
        prefix: str = "/oidc",
        scope: str = "openid profile email",
        lasts: float | str = LASTS,
        url: str = "",
        home: str = "/",
        everywhere: bool = False,
    ) -> None:
        if not isinstance(scope, str) or "openid" not in scope.split():
            raise SetupError(f"BrowserLogin(scope={scope!r}) asks for no sign-in. Begin it with openid, as in 'openid email'.")
        if url and not url.startswith(_PLACES):
            raise SetupError(f"BrowserLogin(url={url!r}) is no place to come back to. Write it as browsers do: https://shop.example.")
        if not (local(home, "") or home.startswith(_PLACES)):
            raise SetupError(f"BrowserLogin(home={home!r}) is no place to go to. Write a path, such as /orders, or a whole URL.")
        self.prefix = prefix
        self.scope = scope
        self.lasts = length("BrowserLogin(lasts=...)", lasts, some=True)
        self.url = url.rstrip("/")
        self.home = home
        self.everywhere = everywhere

    def group(self, _app: Any) -> Group:
        """Return the handlers, for `App.use`."""
        group = Group("oidc", prefix=self.prefix)
        _provide(group)
        _way_in(group, self)
        _signed_in(group, self)
        return group

    def base(self, request: Request) -> str:
        """Return the URL at which browsers reach this app."""
        return self.url or f"{request.url.scheme}://{request.url.netloc}"

    def back(self, request: Request) -> str:
        """Return the URL to which a sign-out at the issuer sends browsers back."""
        return self.home if self.home.startswith(_PLACES) else self.base(request) + self.home

    def callback(self, request: Request) -> str:
        """Return the URL to which the issuer sends browsers back."""
        return f"{self.base(request)}{request.url.path.rpartition('/')[0]}/callback"


def _provide(group: Group) -> None:
    @group.provide
    def client(*, authority: Authority = provided, settings: Settings = provided) -> OAuth:
        found = OAuth.of(authority.issuer, settings)
        if not authority.signs:
            raise SetupError("BrowserLogin signs the cookies of browsers, and no key of ours does that. Set AUTH_SECRET_KEY too.")
        return found


def _way_in(group: Group, login_of: BrowserLogin) -> None:
    @group.get("/login", status=_SEE_OTHER, tags=("oidc",))
    @public
    async def login(next: str = "", *, request: Request = provided, authority: Authority = provided, client: OAuth = provided) -> Response:
        """Send the browser to sign in at the issuer's; it comes back to ``next``, a path of this site."""
        secret = _secret(authority, request) or secrets.token_urlsafe(32)
        run = secrets.token_hex(16)
        kept = {"run": run, "next": local(next, login_of.home)}
        state = authority.tokens.issue(_bound(secret), ttl=_MINUTES, typ=LOGIN, claims=kept)
        begun = Begun.of(secret, kept)
        place = await client.authorization_url(
            redirect=login_of.callback(request), state=state, nonce=begun.nonce, verifier=begun.verifier, scope=login_of.scope
        )
        response = RedirectResponse(place, _SEE_OTHER)
        authority.browsers.remember(response, request.url.scheme, secret, _MINUTES, _COOKIE)
        return response

    @group.get("/callback", status=_SEE_OTHER, tags=("oidc",))
    @public
    @signs_in
    async def callback(
        code: str = "",
        state: str = "",
        error: str = "",
        issuer: Annotated[str, Query("iss")] = "",
        *,
        request: Request = provided,
        authority: Authority = provided,
        client: OAuth = provided,
    ) -> Response:
        """Take the browser back from the issuer, signed in."""
        try:
            begun = _begun(authority, request, state)
            check_answer(client, code, error, issuer)
            found = await client.exchange(code, redirect=login_of.callback(request), verifier=begun.verifier)
            who = await _who(client, found, begun.nonce)
        except RefusedToken as refused:
            logger.bind(reason=refused.reason).info("a sign-in was refused: {}", refused.reason)
            raise Unauthenticated("the sign-in failed; begin it again") from None
        response = RedirectResponse(begun.next, _SEE_OTHER)
        browsers, scheme = authority.browsers, request.url.scheme
        named = {name: who.claims[name] for name in _SHOWN if isinstance(who.claims.get(name), str)}
        text = browsers.begin(who.subject, lasts=login_of.lasts, roles=who.roles, permissions=who.permissions, claims=named)
        browsers.remember(response, scheme, text, login_of.lasts)
        return response


def _signed_in(group: Group, login_of: BrowserLogin) -> None:
    @group.post("/logout", status=_SEE_OTHER, tags=("oidc",))
    @requires
    async def logout(
        *, request: Request = provided, identity: Identity = provided, authority: Authority = provided, client: OAuth = provided
    ) -> Response:
        """Sign out: the cookie is refused everywhere within a second."""
        await authority.revoke(authority.session_of(identity), identity.claims["exp"] + 60)
        place = await _way_out(client, login_of.back(request)) if login_of.everywhere else None
        response = RedirectResponse(place or login_of.home, _SEE_OTHER)
        authority.browsers.forget(response, request.url.scheme)
        return response

    @group.get("/me", tags=("oidc",))
    @requires
    async def me(*, identity: Identity = provided) -> dict[str, Any]:
        """Return who is signed in."""
        named = {name: identity.claims[name] for name in _SHOWN if name in identity.claims}
        return {"id": identity.subject, **named, "roles": identity.roles, "permissions": identity.permissions}


def local(place: str, home: str) -> str:
    """Return a path of this site; ``home`` for anything that a browser might take for another site."""
    safe = place.startswith("/") and not place.startswith(("//", "/\\")) and place.isprintable() and place.isascii() and "\\" not in place
    return place if safe and len(place) <= 1024 else home


async def _way_out(client: OAuth, back: str) -> str | None:
    """Return the URL of the issuer's own sign-out; None if it has none, or is away (RP-Initiated Logout 1.0)."""
    try:
        place = await client.issuer.endpoint("end_session_endpoint")
    except Unavailable:
        return None
    asked = urlencode({"client_id": client.client_id, "post_logout_redirect_uri": back})
    return f"{place}{'&' if '?' in place else '?'}{asked}"


class Begun(NamedTuple):
    """A sign-in that was begun."""

    nonce: str
    verifier: str
    next: str

    @classmethod
    def of(cls, secret: str, kept: Mapping[str, Any]) -> "Begun":
        """Return what belongs to the state of a browser with this secret."""
        nonce, verifier = (_derived(secret, f"{use} {kept['run']}") for use in ("nonce", "verifier"))
        return cls(nonce, verifier, kept["next"])


def _begun(authority: Authority, request: Request, state: str) -> Begun:
    """Return the sign-in that this browser began with this state; `RefusedToken` if there is none."""
    secret = _secret(authority, request)
    if secret is None:
        raise RefusedToken("a sign-in that this browser did not begin")
    kept = authority.tokens.verify(state, typ=LOGIN)
    if not compare_digest(kept["sub"], _bound(secret)):
        raise RefusedToken("another browser's state")
    return Begun.of(secret, kept)


def _secret(authority: Authority, request: Request) -> str | None:
    found = authority.browsers.cookie(request.headers, request.url.scheme, _COOKIE)
    return found if found is not None and _SECRET.fullmatch(found) else None


def _bound(secret: str) -> str:
    return _derived(secret, "state")


def _derived(secret: str, use: str) -> str:
    """Return 43 characters derived from the secret: the least that a PKCE verifier has (RFC 7636, 4.1)."""
    return urlsafe_b64encode(hmac.digest(secret.encode(), use.encode(), "sha256")).rstrip(b"=").decode()


def check_answer(client: OAuth, code: str, error: str, issuer: str) -> None:
    """Check that the issuer's answer to a browser has a code and is from that issuer; else raise `RefusedToken`."""
    promised = client.issuer.document.get("authorization_response_iss_parameter_supported") is True
    if (issuer or promised) and issuer != client.issuer.url:
        raise RefusedToken("an answer of another issuer")  # RFC 9207
    if error:
        raise RefusedToken(f"the issuer says {error[:100]!r}")
    if not code:
        raise RefusedToken("no code")


async def _who(client: OAuth, found: Any, nonce: str) -> Identity:
    """Return who signed in; roles may be in the ID token, or in the access token if that is for us."""
    issuer = client.issuer
    token = found.get("id_token")
    if not isinstance(token, str):
        raise RefusedToken("no ID token")
    claims = await issuer.signed_in(token, nonce)
    named = issuer.claims.identity(claims)
    try:
        access = issuer.claims.identity(issuer.tokens.verify(found["access_token"]))
    except RefusedToken:
        return named  # its audience may be somebody else
    if access.subject != named.subject:
        raise RefusedToken("tokens of two subjects")
    roles, permissions = dict.fromkeys(named.roles + access.roles), dict.fromkeys(named.permissions + access.permissions)
    return Identity(named.subject, tuple(roles), tuple(permissions), claims)
