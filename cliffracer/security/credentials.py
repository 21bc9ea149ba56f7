"""Credentials, and where in a call they are found; nothing is verified here."""

import hashlib
import secrets
from collections.abc import Mapping
from typing import Literal

import msgspec

from cliffracer.settings import Discreet

_TICKET = "ticket_"
_LONGEST = 100


class Credential(Discreet, msgspec.Struct, frozen=True):
    """An access token or API key, or the cookie of a browser's session."""

    kind: Literal["bearer", "session"]
    text: str
    until: float = 0.0
    """When the ticket that stands for it expires."""

    def __repr__(self) -> str:
        return f"<Credential {self.kind}>"


def bearer(headers: Mapping[str, str], kind: str) -> str | None:
    """Return the token that came with a call: in ``Authorization``, or of a WebSocket's handshake in ``Sec-WebSocket-Protocol``.

    A browser cannot set headers of a WebSocket: ``new WebSocket(url, ["bearer", token])``.
    """
    value = headers.get("Authorization")
    if value is not None:
        scheme, _, token = value.strip().partition(" ")
        return token.strip() if scheme.lower() == "bearer" else None
    if kind == "websocket":
        offered = [one.strip() for one in headers.get("Sec-WebSocket-Protocol", "").split(",")]
        if len(offered) > 1 and offered[0] == "bearer":
            return offered[1]
    return None


API_KEY = "cr_"


def api_key(headers: Mapping[str, str], kind: str, token: str | None) -> str | None:
    """Return the API key that came with a call: in place of a token, or over HTTP in ``X-API-Key``, which a token overrides."""
    if token is not None:
        return token if token.startswith(API_KEY) else None
    found = headers.get("X-API-Key", "") if kind in {"http", "websocket"} else ""
    return found if found.startswith(API_KEY) else None


def new_ticket() -> str:
    """Return a text that nobody can guess."""
    return _TICKET + secrets.token_urlsafe(32)


def is_ticket(text: str) -> bool:
    """Say whether a text looks like a ticket of ours: ``ticket`` may also be a parameter of the handler."""
    return text.startswith(_TICKET) and len(text) <= _LONGEST


def key_of_ticket(ticket: str) -> str:
    """Return the key under which a ticket is kept, from which the ticket cannot be derived."""
    return hashlib.sha256(ticket.encode("utf-8", "surrogatepass")).hexdigest()
