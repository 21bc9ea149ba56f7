"""Answers that no handler made: problem documents (RFC 9457) and small built-in pages, all with the correlation id."""

import math
import re
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

import msgspec

from cliffracer.context import new_id
from cliffracer.errors import Forbidden, Overloaded, ServiceError, Unauthenticated
from cliffracer.wire.faults import sendable
from cliffracer.wire.headers import correlation_from

Scope = Mapping[str, Any]
Headers = list[tuple[bytes, bytes]]

JSON = (b"content-type", b"application/json")
PROBLEM = (b"content-type", b"application/problem+json")
CORRELATION = b"x-correlation-id"
NOSNIFF = (b"x-content-type-options", b"nosniff")
"""Keeps browsers from guessing another content type."""
_RESERVED = frozenset({"type", "title", "status", "detail", "code", "instance"})
_REALM = "cliffracer"
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+(?: [\x21\x23-\x5b\x5d-\x7e]+)*")


class Refused(Exception):
    """A request that is refused with a status that no `ServiceError` has: 405, 415, 431."""

    def __init__(self, status: int, detail: str, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        super().__init__(detail)
        self.status = self.status_code = status  # Starlette's name: metrics read it
        self.detail = detail
        self.headers = list(headers)


def correlation_of(scope: Scope) -> str:
    """Return the correlation id of a request: the client's if it is valid, else a new one."""
    for name, value in scope["headers"]:
        if name == CORRELATION:
            return correlation_from(value.decode("latin-1")) or new_id()
    return new_id()


def phrase(status: int) -> str:
    """Return the reason phrase of an HTTP status, such as ``Not Found``."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"


def document(status: int, title: str, detail: str, code: int, details: Mapping[str, Any]) -> bytes:
    """Return a problem document; a detail that cannot be encoded is left out."""
    members = {"type": "about:blank", "title": title, "status": status, "detail": detail, "code": code}
    more = {name: value for name, value in details.items() if name not in _RESERVED}
    try:
        return msgspec.json.encode({**members, **more})
    except Exception:  # noqa: BLE001 - details are the user's own objects; an answer is due whatever they raise
        return msgspec.json.encode({**members, "detail": detail.encode("utf-8", "replace").decode(), **sendable(more)})


def problem(error: ServiceError | Refused, realm: str = _REALM) -> tuple[int, bytes, Headers]:
    """Return status, document and headers of a failure; ``realm`` is for the challenge of a 401."""
    if isinstance(error, Refused):
        headers = [PROBLEM, *error.headers]
        if error.status == 401 and all(name.lower() != b"www-authenticate" for name, _ in headers):
            headers.append((b"www-authenticate", challenge(realm)))
        return error.status, document(error.status, phrase(error.status), error.detail, error.status, {}), headers
    headers = [PROBLEM]
    if isinstance(error, Overloaded):
        headers.append((b"retry-after", str(max(1, math.ceil(error.retry_after))).encode()))
    reason = error.details.get("reason")
    if isinstance(error, Unauthenticated):
        headers.append((b"www-authenticate", challenge(realm, "invalid_token" if reason == "invalid_token" else "")))
    elif isinstance(error, Forbidden) and reason == "insufficient_scope":
        headers.append((b"www-authenticate", challenge(realm, reason, error.details.get("scope"))))
    return error.status, document(error.status, error.title, error.message, error.code, error.details), headers


def challenge(realm: str, error: str = "", scope: object = None) -> bytes:
    """Return the ``WWW-Authenticate`` challenge, with the error for who has tried (RFC 6750, 3; RFC 9110, 11.6.1).

    ``scope`` are the permissions that are needed, if a challenge can hold them.
    """
    said = "Bearer realm=" + _quoted(realm)
    if error:
        said += ", error=" + _quoted(error)
    if isinstance(scope, str) and _SCOPE.fullmatch(scope):
        said += ", scope=" + _quoted(scope)
    return said.encode()


def _quoted(text: str) -> str:
    """Return a quoted-string (RFC 9110, 5.6.4); what no header may hold is left out."""
    return '"' + "".join("\\" + one if one in '"\\' else one for one in text if one.isascii() and one.isprintable()) + '"'


async def send_problem(send: Any, error: ServiceError | Refused, correlation: str, realm: str = _REALM) -> None:
    """Answer with a problem document."""
    status, body, headers = problem(error, realm)
    await send_body(send, status, body, headers, correlation)


async def send_body(send: Any, status: int, body: bytes, headers: Headers, correlation: str) -> None:
    """Answer with a complete body."""
    length = [] if status in {204, 304} else [(b"content-length", b"%d" % len(body))]
    await send(
        {"type": "http.response.start", "status": status, "headers": [*headers, NOSNIFF, *length, (CORRELATION, correlation.encode())]}
    )
    await send({"type": "http.response.body", "body": body})
