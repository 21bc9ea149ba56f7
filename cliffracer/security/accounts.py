"""Accounts, opt-in: ``app.use(Accounts())`` adds sign-in, refresh, sign-out and ``/auth/me`` to an app."""

import importlib
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from cliffracer.declarations import names_of
from cliffracer.errors import Forbidden
from cliffracer.markers import provided, signs_in
from cliffracer.resilience.policies import length
from cliffracer.resilience.rates import network_of
from cliffracer.scope import Group
from cliffracer.security.authority import Authority
from cliffracer.security.browser import LASTS
from cliffracer.security.guards import public, requires
from cliffracer.security.identity import Identity
from cliffracer.security.passwords import Passwords
from cliffracer.security.sessions import Account, ResetAsked, Sessions, Signed, make_tables
from cliffracer.settings import Discreet, Settings
from cliffracer.wire.origins import is_foreign


class Credentials(Discreet, msgspec.Struct):
    """Who signs in; ``email`` is an alias of ``username``."""

    password: str
    username: str = ""
    email: str = ""

    @property
    def name(self) -> str:
        """The name, whichever of the two was given."""
        return self.username or self.email

    def __repr__(self) -> str:
        return f"<Credentials {self.name}>"


class Accounts:
    """Routes under ``prefix``: ``login``, ``refresh``, ``logout``, ``me``, ``password``, ``reset``; and ``register`` if everybody may.

    Users, sessions and attempts are in PostgreSQL, in tables of their own; who registers gets ``roles``. With ``cookies`` there is
    ``session`` too, for pages: it signs in by a cookie that no script can read, for as long as ``lasts`` (twelve hours).
    """

    def __init__(
        self,
        *,
        prefix: str = "/auth",
        register: bool = False,
        roles: str | tuple[str, ...] = (),
        cookies: bool = False,
        lasts: float | str = LASTS,
    ) -> None:
        self._prefix = prefix
        self._register = register
        self._roles = names_of(roles)
        self._cookies = cookies
        self._lasts = length("Accounts(lasts=...)", lasts, some=True)

    def group(self, app: Any) -> Group:
        """Return the handlers, for `App.use`."""
        group = Group("accounts", prefix=self._prefix, emits=[ResetAsked])
        _provide(group)
        _sign_in(group)
        _signed_in(group)
        _reset(group, app)
        if self._cookies:
            _session(group, self._lasts)
        if self._register:
            _register(group, self._roles)
        return group


def _provide(group: Group) -> None:
    database: Any = importlib.import_module("cliffracer.database.database").Database  # by name: a peer, needed by who has accounts only

    @group.provide
    async def sessions(
        *, db: database = provided, authority: Authority = provided, settings: Settings = provided
    ) -> AsyncIterator[Sessions]:
        await make_tables(db, create=settings.env != "production")
        passwords = Passwords()
        try:
            yield Sessions(db, authority, settings, passwords)
        finally:
            passwords.close()


def _sign_in(group: Group) -> None:
    @group.post("/login", tags=("accounts",))
    @public
    async def login(credentials: Credentials, *, request: Request = provided, sessions: Sessions = provided) -> Signed:
        """Sign in: an access token for some minutes, and a refresh token for the next."""
        return await sessions.sign_in(credentials.name, credentials.password, address_of(request))

    @group.post("/refresh", tags=("accounts",))
    @public
    async def refresh(refresh_token: str, *, sessions: Sessions = provided) -> Signed:
        """Return new tokens; the refresh token that is given is used up."""
        return await sessions.refresh(refresh_token)


def _session(group: Group, lasts: float) -> None:
    @group.post("/session", status=204, tags=("accounts",))
    @public
    @signs_in
    async def session(
        credentials: Credentials, *, request: Request = provided, sessions: Sessions = provided, authority: Authority = provided
    ) -> Response:
        """Sign in by a cookie, from a page of ours."""
        if is_foreign(request.headers, authority.origins, secure=authority.browsers.is_secure(request.url.scheme)):
            raise Forbidden("a page of another site may not sign you in", reason="foreign_site")
        text = await sessions.sign_in_browser(credentials.name, credentials.password, address_of(request), lasts)
        response = Response(status_code=204)
        authority.browsers.remember(response, request.url.scheme, text, lasts)
        return response


def _signed_in(group: Group) -> None:
    @group.post("/logout", status=204, tags=("accounts",))
    @requires
    async def logout(
        *, request: Request = provided, identity: Identity = provided, sessions: Sessions = provided, authority: Authority = provided
    ) -> Response:
        """Sign out: the token, all others of its session, and its cookie, are refused everywhere within a second."""
        await sessions.end(authority.session_of(identity), identity.claims["exp"])
        response = Response(status_code=204)
        authority.browsers.forget(response, request.url.scheme)
        return response

    @group.get("/me", tags=("accounts",))
    @requires
    async def me(*, identity: Identity = provided) -> dict[str, Any]:
        """Return who is signed in."""
        return {
            "id": identity.subject,
            "username": identity.claims.get("username", identity.subject),
            "roles": identity.roles,
            "permissions": identity.permissions,
        }

    @group.post("/password", tags=("accounts",))
    @requires
    async def password(
        old: str, new: str, *, identity: Identity = provided, sessions: Sessions = provided, authority: Authority = provided
    ) -> None:
        """Change the password; every session ends."""
        await sessions.set_password(_account_of(identity, authority), old, new)


def _reset(group: Group, app: Any) -> None:
    @group.post("/reset", status=202, tags=("accounts",))
    @public
    async def reset(username: str, *, request: Request = provided, sessions: Sessions = provided) -> None:
        """Ask for a new password: `ResetAsked` is emitted, for whoever sends mail; the answer does not say whether anybody is called so."""
        asked = await sessions.ask_reset(username, address_of(request))
        await app.emit(asked)

    @group.post("/reset/confirm", tags=("accounts",))
    @public
    async def confirm_reset(token: str, password: str, *, sessions: Sessions = provided) -> None:
        """Set a new password by the token of `ResetAsked`, which is good once; every session ends."""
        await sessions.reset(token, password)


def _register(group: Group, roles: tuple[str, ...]) -> None:
    @group.post("/register", status=201, tags=("accounts",))
    @public
    async def register(credentials: Credentials, *, request: Request = provided, sessions: Sessions = provided) -> Account:
        """Make an account."""
        return await sessions.register(credentials.name, credentials.password, address_of(request), roles)


def _account_of(identity: Identity, authority: Authority) -> UUID:
    """Return the id of the caller's account; `Forbidden` for a caller known by an issuer or an API key, who has none here."""
    try:
        account = UUID(identity.subject)
    except ValueError:
        account = None
    if account is None or identity.claims.get("iss") != authority.tokens.issuer:
        raise Forbidden("there is no account of this identity")
    return account


def address_of(request: Request) -> str:
    """Return the address whose attempts are counted."""
    return network_of(request.client.host if request.client else "")  # a socket of this machine has none
