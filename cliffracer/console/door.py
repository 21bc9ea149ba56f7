"""Who may come in: whoever has the one-time address that the terminal printed, by a browser on this machine, and no other site's page.

The address has a token that is good once; a session cookie takes its place. Every request must name this machine as its host (no
DNS rebinding); what changes something must come from a script of ours (no CSRF), and is refused where the console only reads (`ReadOnly`).
"""

import secrets
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any
from urllib.parse import parse_qs

from cliffracer.console.assets import NAMED
from cliffracer.console.readonly import ReadOnly
from cliffracer.errors import Forbidden, ServiceError, Unauthenticated
from cliffracer.web.answers import correlation_of, send_body, send_problem
from cliffracer.web.assets import Asset, protective
from cliffracer.web.local import check_host, check_near, check_page
from cliffracer.wire.cookies import parse_cookies

_SESSIONS = 16
"""Browsers that are in at once; the oldest leaves for one more."""
_OPEN = frozenset({"/static/base.css", "/static/closed.css", "/static/mark.svg"})
_ENTER = (  # with an icon, or browsers ask for /favicon.ico
    b'<!doctype html><html lang="en"><meta charset="utf-8"><link rel="icon" href="static/mark.svg" type="image/svg+xml">'
    b'<meta http-equiv="refresh" content="0;url=./"><title>Console</title>'
)


class Door:
    """An ASGI application around the console's; ``told`` is called with each new address, the old one being used up."""

    def __init__(self, inner: Any, port: int, read_only: ReadOnly, told: Callable[[str], None] = lambda _: None) -> None:
        self._inner = inner
        self._port = port
        self.read_only = read_only
        self._told = told
        self._token = secrets.token_urlsafe(32)
        self._cookie = f"cliffracer_console_{port}"  # ports share cookies
        self._sessions: dict[str, None] = {}
        self._hosts = {f"{name}:{port}".encode() for name in ("127.0.0.1", "localhost", "[::1]")}

    @property
    def address(self) -> str:
        """Where to come in, once."""
        return f"http://127.0.0.1:{self._port}/?token={self._token}"

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        """Let a request in, or say why not."""
        if scope["type"] != "http":
            return
        headers = dict(scope["headers"])
        try:
            self._check(scope, headers)
            if (given := _token(scope)) is not None:
                await self._enter(given, scope, send)
                return
            if scope["path"] not in _OPEN:
                self._recognise(headers)
            if scope["method"] not in {"GET", "HEAD"} and (reason := await self.read_only.reason()):
                raise Forbidden(f"the console only reads: {reason}")
        except Unauthenticated as error:
            await self._closed(error, scope, receive, send)
        except ServiceError as error:
            await send_problem(send, error, correlation_of(scope))
        else:
            await self._inner(scope, receive, send)

    def _check(self, scope: Mapping[str, Any], headers: Mapping[bytes, bytes]) -> None:
        check_near(scope)
        check_host(headers)
        if headers.get(b"host", b"").lower() not in self._hosts:
            raise Forbidden("this is only answered under the address that was printed")
        if scope["method"] not in {"GET", "HEAD"}:
            check_page(headers)

    async def _enter(self, given: str, scope: Mapping[str, Any], send: Any) -> None:
        if not secrets.compare_digest(given.encode(), self._token.encode()):
            raise Unauthenticated("that address was used already, or is of another console")
        self._token = secrets.token_urlsafe(32)
        session = secrets.token_urlsafe(32)
        self._sessions[session] = None
        if len(self._sessions) > _SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        cookie = f"{self._cookie}={session}; Path=/; HttpOnly; SameSite=Strict"
        page = [(b"content-type", b"text/html; charset=utf-8"), (b"cache-control", b"no-store"), (b"set-cookie", cookie.encode())]
        await send_body(send, 200, _ENTER, [*page, *protective()], correlation_of(scope))
        self._told(self.address)

    def _recognise(self, headers: Mapping[bytes, bytes]) -> None:
        found = parse_cookies(headers.get(b"cookie", b"").decode("latin-1"))
        if found.get(self._cookie) not in self._sessions:
            raise Unauthenticated("open the address that `cliffracer console` printed")

    async def _closed(self, error: Unauthenticated, scope: Mapping[str, Any], receive: Any, send: Any) -> None:
        """Show people a page, and tell programs."""
        if scope["path"] == "/":
            await Asset.of(NAMED["closed.html"], status=401)(scope, receive, send)
        else:
            await send_problem(send, error, correlation_of(scope), realm="console")


def _token(scope: Mapping[str, Any]) -> str | None:
    """Return the token of somebody who comes in."""
    if scope["path"] != "/" or scope["method"] != "GET":
        return None
    return next(iter(parse_qs(scope["query_string"].decode("latin-1")).get("token", ())), None)
