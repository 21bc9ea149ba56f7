"""Errors inside streams and sockets, where the status line has been sent long ago: the same three members as over NATS."""

import msgspec

from cliffracer.errors import ServiceError
from cliffracer.web.answers import Refused
from cliffracer.wire.faults import sendable


def fault(error: ServiceError | Refused) -> bytes:
    """Return ``{"code", "message", "details"}``; a detail that cannot be encoded is left out."""
    if isinstance(error, Refused):
        return msgspec.json.encode({"code": error.status, "message": error.detail, "details": {}})
    try:
        return msgspec.json.encode({"code": error.code, "message": error.message, "details": error.details})
    except Exception:  # noqa: BLE001 - details are the user's own objects; the failure is to be told whatever they raise
        message = error.message.encode("utf-8", "replace").decode()
        return msgspec.json.encode({"code": error.code, "message": message, "details": sendable(error.details)})
