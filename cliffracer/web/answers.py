"""Answers that no handler made: problem documents (RFC 9457) and small built-in pages, all with the correlation id."""

import math
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

import msgspec

from cliffracer.context import new_id
from cliffracer.errors import Forbidden, Overloaded, ServiceError, Unauthenticated
from cliffracer.wire.headers import correlation_from

Scope = Mapping[str, Any]
Headers = list[tuple[bytes, bytes]]

JSON = (b"content-type", b"application/json")
PROBLEM = (b"content-type", b"application/problem+json")
CORRELATION = b"x-correlation-id"
NOSNIFF = (b"x-content-type-options", b"nosniff")
"""What is sent is what it says it is: browsers are not to guess."""
_RESERVED = frozenset({"type", "title", "status", "detail", "code", "instance"})


class Refused(Exception):
    """A request that HTTP itself refuses with a status that is none of a `ServiceError`: 405, 415, 431."""

    def __init__(self, status: int, detail: str, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = list(headers)


def correlation_of(scope: Scope) -> str:
    """Return the correlation id of a request: its own if it may be used, else a new one."""
    for name, value in scope["headers"]:
        if name == CORRELATION:
            return correlation_from(value.decode("latin-1")) or new_id()
    return new_id()


def phrase(status: int) -> str:
    """Return the words of an HTTP status, ``Not Found``."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"


def document(status: int, title: str, detail: str, code: int, details: Mapping[str, Any]) -> bytes:
    """Return a problem document; details that cannot be encoded are left out."""
    members = {"type": "about:blank", "title": title, "status": status, "detail": detail, "code": code}
    try:
        return msgspec.json.encode({**members, **{name: value for name, value in details.items() if name not in _RESERVED}})
    except Exception:  # noqa: BLE001 - details are the user's own objects; an answer is due whatever they raise
        return msgspec.json.encode({**members, "detail": detail.encode("utf-8", "replace").decode()})


def problem(error: ServiceError | Refused) -> tuple[int, bytes, Headers]:
    """Return status, document and headers of a failure."""
    if isinstance(error, Refused):
        return error.status, document(error.status, phrase(error.status), error.detail, error.status, {}), [PROBLEM, *error.headers]
    headers = [PROBLEM]
    if isinstance(error, Overloaded):
        headers.append((b"retry-after", str(max(1, math.ceil(error.retry_after))).encode()))
    if isinstance(error, Unauthenticated | Forbidden) and (challenge := _challenge(error)):
        headers.append((b"www-authenticate", challenge))
    return error.status, document(error.status, error.title, error.message, error.code, error.details), headers


def _challenge(error: ServiceError) -> bytes:
    """Return how to do better (RFC 6750, 3): a reason is only given to who tried."""
    reason = error.details.get("reason")
    if reason in {"invalid_token", "insufficient_scope"}:
        return f'Bearer error="{reason}"'.encode()
    return b"Bearer" if isinstance(error, Unauthenticated) else b""


async def send_problem(send: Any, error: ServiceError | Refused, correlation: str) -> None:
    """Answer with a problem document."""
    status, body, headers = problem(error)
    await send_body(send, status, body, headers, correlation)


async def send_body(send: Any, status: int, body: bytes, headers: Headers, correlation: str) -> None:
    """Answer with a body that is there already."""
    length = [] if status in {204, 304} else [(b"content-length", b"%d" % len(body))]
    await send(
        {"type": "http.response.start", "status": status, "headers": [*headers, NOSNIFF, *length, (CORRELATION, correlation.encode())]}
    )
    await send({"type": "http.response.body", "body": body})
