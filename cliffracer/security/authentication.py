"""Authentication: who calls, by the token, cookie or ticket that came with a call, verified and put on its context."""

import contextlib
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs

from cliffracer.context import Context, stored_at
from cliffracer.errors import Forbidden, Unavailable
from cliffracer.security.authority import Authority
from cliffracer.security.credentials import Credential, api_key, bearer, is_ticket
from cliffracer.security.identity import Identity
from cliffracer.security.tokens import UnknownKey
from cliffracer.wire.origins import SAFE, is_foreign

_SESSION = "cliffracer.session"
_KEY = "cliffracer.key"
Scope = Mapping[str, Any] | None
"""The ASGI scope of a request or a socket; None for what came over NATS, which has no cookies."""


def authenticate_now(authority: Authority, context: Context, scope: Scope) -> Identity | None:
    """Return who calls, without I/O; None for a call without credentials, `RefusedToken` for bad ones, `Forbidden` for a forged request."""
    token = bearer(context.headers, context.kind)
    return _browsing(authority, context, scope) if token is None else _bearing(authority, context, token)


async def authenticate(authority: Authority, context: Context, scope: Scope) -> Identity | None:
    """Return who calls, where that may need I/O: an issuer, the bucket of tickets, the database for an API key.

    After an outage of NATS it waits until all revocations of that time are known.
    """
    revoked = authority.revoked
    if revoked is not None and revoked.behind and stored_at(context) is not None:
        await revoked.wait()
    issuer = authority.issuer
    token = bearer(context.headers, context.kind)
    if token is None and context.kind == "websocket" and scope is not None and is_ticket(ticket := _ticket(scope)):
        shown = await authority.redeem(ticket)
        if shown.kind == "session":
            return _session(authority, context, shown.text)
        token = shown.text
    if authority.keyring is not None and (key := api_key(context.headers, context.kind, token)) is not None:
        return await _by_key(authority, context, key)
    if token is None:
        return _browsing(authority, context, scope)
    if issuer is None:
        return _bearing(authority, context, token)
    if issuer.stale:
        with contextlib.suppress(Unavailable):
            await issuer.learn()
    try:
        return _bearing(authority, context, token)
    except UnknownKey:
        await issuer.learn(again=True)
    return _bearing(authority, context, token)


def presented(authority: Authority, context: Context, source: Any) -> Credential | None:
    """Return the credential of a request, so that a ticket can stand for it."""
    token = bearer(context.headers, context.kind) or api_key(context.headers, context.kind, None)
    if token is not None:
        return Credential("bearer", token)
    cookie = authority.browsers.cookie(context.headers, source.scope["scheme"])
    return None if cookie is None else Credential("session", cookie)


def renew(authority: Authority, context: Context) -> None:
    """Replace the token that long work of a browser's session, or of an API key, calls others with, when it is time."""
    identity = context.identity
    if context.state is None or identity is None:
        return
    if _SESSION in context.state:
        context.token = authority.browsers.onward(identity)
    if _KEY in context.state and authority.keyring is not None:
        context.token = authority.keyring.onward(identity)


def _bearing(authority: Authority, context: Context, token: str) -> Identity:
    identity = authority.identity(token, stored=stored_at(context))
    context.identity = identity
    context.token = token
    return identity


async def _by_key(authority: Authority, context: Context, key: str) -> Identity:
    assert authority.keyring is not None  # only then there is a key
    identity = await authority.key(key)
    context.identity = identity
    context.token = authority.keyring.onward(identity)
    context.store()[_KEY] = True
    return identity


def _browsing(authority: Authority, context: Context, scope: Scope) -> Identity | None:
    cookie = None if scope is None else _cookie(authority, context, scope)
    return None if cookie is None else _session(authority, context, cookie)


def _session(authority: Authority, context: Context, cookie: str) -> Identity:
    identity = authority.session(cookie)
    context.identity = identity
    context.token = authority.browsers.onward(identity)
    context.store()[_SESSION] = True
    return identity


def _ticket(scope: Mapping[str, Any]) -> str:
    query: bytes = scope["query_string"]
    return parse_qs(query.decode("latin-1")).get("ticket", [""])[-1]


def _cookie(authority: Authority, context: Context, scope: Mapping[str, Any]) -> str | None:
    """Return the cookie of a session; `Forbidden` if a page of another site may have had it sent (CSRF)."""
    headers = context.headers
    found = authority.browsers.cookie(headers, scope["scheme"])
    if found is None:
        return None
    changes = context.kind == "websocket" or scope["method"] not in SAFE
    if changes and is_foreign(headers, authority.origins, secure=authority.browsers.is_secure(scope["scheme"])):
        raise Forbidden("a page of another site may not do this with your session", reason="foreign_site")
    return found
