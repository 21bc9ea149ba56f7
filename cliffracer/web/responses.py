"""Starlette's responses and exceptions, answered as its users expect, with our correlation id and problem documents."""

import re
from collections.abc import MutableMapping
from typing import Any

from loguru import logger
from starlette.exceptions import HTTPException
from starlette.responses import Response

from cliffracer.context import new_id
from cliffracer.errors import Internal
from cliffracer.web.answers import CORRELATION, Refused, problem, send_problem

_NO_NAME = re.compile(rb"[^!#$%&'*+\-.^_`|~0-9A-Za-z]")
_NO_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


def exception_answer(error: HTTPException) -> Response:
    """Return what a handler that raises Starlette's `HTTPException` answers: its status and headers, as a problem document."""
    status, body, headers = problem(Refused(error.status_code, str(error.detail)))
    if status < 200 or status in {204, 304}:
        return Response(status_code=status, headers=error.headers)
    response = Response(body, status_code=status, headers=error.headers)
    if "content-type" not in response.headers:
        response.raw_headers.extend(headers)
    return response


async def send_response(response: Response, scope: MutableMapping[str, Any], receive: Any, send: Any, correlation: str) -> None:
    """Send a `Response` that a handler returned; one with a header that would break out of its line is answered as a defect."""
    start: MutableMapping[str, Any] | None = None
    refused = False

    async def checked(message: MutableMapping[str, Any]) -> None:
        nonlocal start, refused
        if message["type"] == "http.response.start":
            start = message
            refused = await _refused(message.get("headers", ()), send, correlation)
            if not refused:
                headers = [(name, value) for name, value in message.get("headers", ()) if name != CORRELATION]
                await send({**message, "headers": [*headers, (CORRELATION, correlation.encode())]})
        elif not refused:
            await send(message)

    try:
        await response(scope, receive, checked)
    except Exception as error:  # noqa: BLE001 - a body iterator or a background task of the user's may raise anything
        failed = Internal(error_id=new_id())
        logger.opt(exception=error).bind(error_id=failed.error_id).error("the response of {} failed", scope.get("path"))
        if start is None:
            await send_problem(send, failed, correlation)
        elif not refused and not getattr(response, "background", None):
            raise ConnectionResetError("a response broke off") from None  # the client must not take it for whole


async def _refused(headers: Any, send: Any, correlation: str) -> bool:
    bad = [name for name, value in headers if not name or _NO_NAME.search(name) or _NO_VALUE.search(value)]
    if bad:
        failed = Internal(error_id=new_id())
        logger.bind(error_id=failed.error_id).error("a response header has a control character or a line break: {!r}", bad[0][:80])
        await send_problem(send, failed, correlation)
    return bool(bad)
