"""Reads the body of a request up to a limit; refuses content types other than JSON."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from cliffracer.errors import TooLarge
from cliffracer.web.answers import Refused

Receive = Callable[[], Awaitable[Any]]
_FORMS = frozenset({b"application/x-www-form-urlencoded", b"multipart/form-data"})
_IDENTITY = (b"", b"identity")


class Disconnected(Exception):
    """The client is gone; there is nobody to answer."""


def check_json(kind: bytes) -> None:
    """Raise `Refused` (415) unless the content type is JSON, or absent.

    A page of another site can make a browser send plain text without a CORS preflight, but not JSON; so no other content type is
    read as JSON.
    """
    if kind and not is_json(kind):
        raise Refused(415, "the body must be JSON: send it with Content-Type: application/json")


def check_encoding(headers: Mapping[bytes, bytes]) -> None:
    """Raise `Refused` (415) for a compressed body, which may unpack to any size."""
    if headers.get(b"content-encoding", b"").strip().lower() not in _IDENTITY:
        raise Refused(415, "a compressed body is not taken: send it without Content-Encoding")


def is_form(kind: bytes) -> bool:
    """Say whether a content type is that of an HTML form."""
    return kind.partition(b";")[0].strip().lower() in _FORMS


def is_json(kind: bytes) -> bool:
    """Say whether a content type is ``application/json`` or ``application/<something>+json``, whatever its parameters."""
    essence = kind.partition(b";")[0].strip().lower()
    return essence == b"application/json" or (essence.startswith(b"application/") and essence.endswith(b"+json"))


async def read_body(receive: Receive, limit: int) -> bytes:
    """Return the body of a request; `TooLarge` beyond the limit, `Disconnected` if its end never comes."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        body += message.get("body", b"")
        if len(body) > limit:
            raise too_large(limit)
        if not message.get("more_body", False):
            return bytes(body)


def too_large(limit: int) -> TooLarge:
    """Return the error for a body beyond the limit."""
    return TooLarge(f"the body is over the limit of {limit} bytes", limit=limit)
