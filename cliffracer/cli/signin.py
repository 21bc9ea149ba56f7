"""Signs in at an issuer from a terminal: by another device (RFC 8628) where the issuer has that, else by a browser on this machine.

The browser comes back to a port of the loopback interface that is open for this one sign-in (RFC 8252, 7.3); code and PKCE as in
every other. Nothing is kept: the access token is for the one command.
"""

import asyncio
import secrets
import sys
import webbrowser
from collections.abc import Mapping
from contextlib import suppress
from hmac import compare_digest
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cliffracer.cli.output import say, strong
from cliffracer.errors import SetupError, Unauthenticated
from cliffracer.security.login import check_answer
from cliffracer.security.oauth import OAuth
from cliffracer.security.oidc import Issuer
from cliffracer.security.tokens import RefusedToken
from cliffracer.settings import Settings

_LASTS = 300.0
_LONGEST = 1800.0
_EVERY = 5.0
_MOST = 16 * 1024
_PAGE = "<!doctype html><meta charset=utf-8><title>cliffracer</title><p>{}</p>"


def access_token(settings: Settings, name: str, client: str | None, scope: str) -> str:
    """Return an access token of the settings' issuer for who signs in; ``client`` is who we are there, if not `OIDC_CLIENT_ID`."""
    if client is not None:
        settings = settings.changed("--client-id", oidc_client_id=client, oidc_client_secret=None)
    if settings.oidc_client_id is None:
        raise SetupError("Signing in by an issuer needs to know who we are there. Say --client-id, or set OIDC_CLIENT_ID.")
    oauth = OAuth.of(Issuer.of(settings), settings)
    more = {} if settings.auth_audience is None else {"audience": settings.auth_audience}  # some issuers ask for it, all others ignore it
    found: str = asyncio.run(_sign_in(oauth, name, scope, more))["access_token"]
    return found


async def _sign_in(oauth: OAuth, name: str, scope: str, more: Mapping[str, str]) -> Mapping[str, Any]:
    await oauth.issuer.learn()
    if isinstance(oauth.issuer.document.get("device_authorization_endpoint"), str):
        return await _by_device(oauth, scope, more)
    return await _by_browser(oauth, name, scope, more)


async def _by_device(oauth: OAuth, scope: str, more: Mapping[str, str]) -> Mapping[str, Any]:
    asked = await oauth.device(scope=scope, **more)
    place, code = _shown(asked["verification_uri"]), _shown(asked["user_code"])
    say(f"Open {strong(place)} and enter {strong(code)}", err=True)
    return await oauth.by_device(asked["device_code"], _seconds(asked, "interval", _EVERY), _seconds(asked, "expires_in", _LASTS))


async def _by_browser(oauth: OAuth, name: str, scope: str, more: Mapping[str, str]) -> Mapping[str, Any]:
    state, verifier = secrets.token_urlsafe(32), secrets.token_urlsafe(48)
    came: asyncio.Future[Mapping[str, str]] = asyncio.get_running_loop().create_future()
    server = await asyncio.start_server(lambda reader, writer: _answer(reader, writer, state, came), "127.0.0.1", 0, limit=_MOST)
    async with server:
        redirect = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/callback"
        place = await oauth.authorization_url(
            redirect=redirect, state=state, nonce=secrets.token_urlsafe(32), verifier=verifier, scope=scope, login_hint=name, **more
        )
        say(f"Open {strong(_shown(place))}", err=True)
        if sys.stdin.isatty():
            webbrowser.open(place)
        try:
            async with asyncio.timeout(_LASTS):
                said = await came
        except TimeoutError:
            raise Unauthenticated("the sign-in took too long") from None
    try:
        check_answer(oauth, said.get("code", ""), said.get("error", ""), said.get("iss", ""))
    except RefusedToken as refused:
        raise Unauthenticated(f"the sign-in failed: {refused.reason}") from None
    return await oauth.exchange(said["code"], redirect=redirect, verifier=verifier)


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, state: str, came: asyncio.Future[Mapping[str, str]]) -> None:
    """Take one request of a browser; only one that has our state ends the wait, so nobody else on this machine can."""
    status, words = "404 Not Found", "Nothing is here."
    with suppress(OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError):
        async with asyncio.timeout(5.0):
            head = await reader.readuntil(b"\r\n\r\n")
        target = urlsplit(head.split(b" ", 2)[1].decode("ascii")) if head.count(b" ") > 1 else urlsplit("")
        said = {key: values[0] for key, values in parse_qs(target.query).items()}
        if target.path == "/callback" and compare_digest(said.get("state", "").encode(), state.encode()):
            status, words = "200 OK", "You can close this page, and go back to the terminal."
            if not came.done():
                came.set_result(said)
    body = _PAGE.format(words).encode()
    head_of = f"HTTP/1.1 {status}\r\nContent-Type: text/html\r\nContent-Length: {len(body)}\r\nCache-Control: no-store\r\n"
    with suppress(OSError):
        writer.write(f"{head_of}Referrer-Policy: no-referrer\r\nConnection: close\r\n\r\n".encode() + body)
        await writer.drain()
    writer.close()


def _shown(text: str) -> str:
    """Return what an issuer wants shown, without what would act on a terminal."""
    return "".join(one for one in text[:2048] if one.isprintable())


def _seconds(found: Mapping[str, Any], name: str, otherwise: float) -> float:
    value = found.get(name)
    sound = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= _LONGEST
    return float(value) if sound and value is not None else otherwise
