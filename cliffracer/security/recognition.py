"""Who calls: the token, cookie or ticket that came with a call, verified, and put on its context."""

import contextlib
from typing import Any

from cliffracer.context import STORED, Context
from cliffracer.errors import Forbidden, Unavailable
from cliffracer.invoke import Call
from cliffracer.security.authority import Authority
from cliffracer.security.credentials import Credential, api_key, bearer, is_ticket
from cliffracer.security.identity import Identity
from cliffracer.security.tokens import UnknownKey
from cliffracer.wire.origins import SAFE, is_foreign

_SESSION = "cliffracer.session"
_KEY = "cliffracer.key"
_BROWSERS = frozenset({"http", "websocket"})


def recognise(authority: Authority, call: Call) -> Identity | None:
    """Return who calls; None for a call that shows nothing, `RefusedToken` for what is not good, `Forbidden` for a forged request."""
    context = call.context
    token = bearer(context.headers, context.kind)
    if token is not None:
        return _bearing(authority, context, token)
    if context.kind not in _BROWSERS:
        return None
    cookie = _cookie(authority, call)
    return None if cookie is None else _session(authority, context, cookie)


async def recognised(authority: Authority, call: Call) -> Identity | None:
    """Do the same where somebody may have to be asked first: an issuer, the replicas for a ticket, the database for an API key."""
    context, issuer = call.context, authority.issuer
    token = bearer(context.headers, context.kind)
    if token is None and context.kind == "websocket" and is_ticket(ticket := call.source.query_params.get("ticket", "")):
        shown = await authority.redeem(ticket)
        if shown.kind == "session":
            return _session(authority, context, shown.text)
        token = shown.text
    if authority.keyring is not None and (key := api_key(context.headers, context.kind, token)) is not None:
        return await _by_key(authority, context, key)
    if token is None:
        return recognise(authority, call)
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
    """Return what a request was made with, so that a ticket can stand for it."""
    token = bearer(context.headers, context.kind) or api_key(context.headers, context.kind, None)
    if token is not None:
        return Credential("bearer", token)
    cookie = authority.browsers.cookie(context.headers, source.scope["scheme"])
    return None if cookie is None else Credential("session", cookie)


def renew(authority: Authority, context: Context) -> None:
    """Give lasting work of a browser's session, or of an API key, a new token to call others with, when it is time."""
    if context.state is not None and _SESSION in context.state:
        context.token = authority.browsers.onward(context.identity)
    if context.state is not None and _KEY in context.state and authority.keyring is not None:
        context.token = authority.keyring.onward(context.identity)


def _bearing(authority: Authority, context: Context, token: str) -> Identity:
    stored = None if context.state is None else context.state.get(STORED)
    identity = authority.identity(token, stored=stored)
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


def _session(authority: Authority, context: Context, cookie: str) -> Identity:
    identity = authority.session(cookie)
    context.identity = identity
    context.token = authority.browsers.onward(identity)
    context.store()[_SESSION] = True
    return identity


def _cookie(authority: Authority, call: Call) -> str | None:
    """Return the cookie of a session; `Forbidden` if a page of another site may have had it sent (CSRF)."""
    headers, source = call.context.headers, call.source
    found = authority.browsers.cookie(headers, source.scope["scheme"])
    if found is None:
        return None
    changes = call.context.kind == "websocket" or source.method not in SAFE
    if changes and is_foreign(headers, authority.origins):
        raise Forbidden("a page of another site may not do this with your session", reason="foreign_site")
    return found
