"""Sends Starlette's responses and exceptions as its users expect, with our correlation id and problem documents."""

import re
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from typing import Any

from loguru import logger
from starlette.exceptions import HTTPException
from starlette.responses import Response

from cliffracer.context import new_id
from cliffracer.errors import Internal
from cliffracer.web.answers import CORRELATION, NOSNIFF, Refused, problem, send_problem

_NO_NAME = re.compile(rb"[^!#$%&'*+\-.^_`|~0-9A-Za-z]")
_NO_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


def exception_answer(realm: str, error: HTTPException) -> Response:
    """Return the answer for Starlette's `HTTPException`: its status and headers, as a problem document."""
    status, body, headers = problem(Refused(error.status_code, str(error.detail)), realm)
    if status < 200 or status in {204, 304}:
        return Response(status_code=status, headers=error.headers)
    response = Response(body, status_code=status, headers=error.headers)
    response.raw_headers.extend(header for header in headers if header[0].decode() not in response.headers)
    return response


async def send_response(
    response: Response, scope: MutableMapping[str, Any], receive: Any, send: Any, correlation: str, *, failed: Callable[..., object]
) -> None:
    """Send a `Response` that a handler returned; one with a header that contains a line break is answered as a defect.

    ``failed`` is called with what is sent instead and the exception, if any: the call itself has succeeded.
    """
    start: MutableMapping[str, Any] | None = None
    refused = False

    async def checked(message: MutableMapping[str, Any]) -> None:
        nonlocal start, refused
        if message["type"] == "http.response.start":
            start = message
            refused = await _refused(message.get("headers", ()), send, correlation, failed)
            if not refused:
                headers = [(name, value) for name, value in message.get("headers", ()) if name != CORRELATION]
                await send({**message, "headers": [*headers, *protecting(headers, scope), (CORRELATION, correlation.encode())]})
        elif not refused:
            await send(message)

    try:
        await response(scope, receive, checked)
    except Exception as error:  # noqa: BLE001 - a body iterator or a background task of the user's may raise anything
        instead = Internal(error_id=new_id())
        if not refused:
            failed(instead, error)
        logger.opt(exception=error).bind(error_id=instead.error_id).error("the response of {} failed", scope.get("path"))
        if start is None:
            await send_problem(send, instead, correlation)
        elif not refused and not getattr(response, "background", None):
            raise ConnectionResetError("a response broke off") from None  # the client must not take it for complete


def protecting(headers: Iterable[tuple[bytes, bytes]], scope: Mapping[str, Any]) -> list[tuple[bytes, bytes]]:
    """Return the headers that protect a browser, unless an answer sets them itself (OWASP, HTTP headers).

    Other sites cannot frame a page unless it allows them to: ``Content-Security-Policy: frame-ancestors ...``.
    """
    given = dict(headers)
    wanted = [NOSNIFF]
    if given.get(b"content-type", b"").startswith(b"text/html"):
        wanted.append((b"referrer-policy", b"strict-origin-when-cross-origin"))
        if b"frame-ancestors" not in given.get(b"content-security-policy", b""):
            wanted.append((b"x-frame-options", b"DENY"))
    if scope.get("scheme") == "https":
        wanted.append((b"strict-transport-security", b"max-age=31536000"))
    return [header for header in wanted if header[0] not in given]


async def _refused(headers: Any, send: Any, correlation: str, failed: Callable[..., object]) -> bool:
    bad = [name for name, value in headers if not name or _NO_NAME.search(name) or _NO_VALUE.search(value)]
    if bad:
        instead = Internal(error_id=new_id())
        failed(instead)
        logger.bind(error_id=instead.error_id).error("a response header has a control character or a line break: {!r}", bad[0][:80])
        await send_problem(send, instead, correlation)
    return bool(bad)
