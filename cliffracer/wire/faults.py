"""Converts a `ServiceError` to an RPC reply (ADR-32 error headers, a body in the request's format), and back."""

from collections.abc import Callable
from typing import Any

import msgspec

from cliffracer.errors import Internal, ServiceError, rebuild
from cliffracer.wire.calls import MSGPACK
from cliffracer.wire.headers import CONTENT_TYPE, ERROR_CODE, ERROR_TEXT, Headers, encode_headers


class _Body(msgspec.Struct):
    code: int = 500
    message: str = ""
    details: dict[str, Any] = {}


_JSON, _MSGPACK = "application/json", MSGPACK.decode()
_decode, _decode_msgpack = msgspec.json.Decoder(_Body).decode, msgspec.msgpack.Decoder(_Body).decode


def encode_fault(error: ServiceError, *, msgpack: bool = False) -> tuple[bytes, bytes]:
    """Return (header block, body) of an error reply; a detail that cannot be encoded is left out."""
    encode = msgspec.msgpack.encode if msgpack else msgspec.json.encode
    try:
        body = encode(_Body(error.code, error.message, error.details))
    except Exception:  # noqa: BLE001  # whatever a detail of the user's own raises: a reply is due
        body = encode(_Body(error.code, _printable(error.message), sendable(error.details, encode)))
    text = _printable(error.message)[:200] or error.title
    block = encode_headers({ERROR_CODE: str(error.code), ERROR_TEXT: text, CONTENT_TYPE: _MSGPACK if msgpack else _JSON})
    return block, body


def decode_fault(headers: Headers, body: bytes) -> ServiceError:
    """Return the error in a reply from any sender; for replies with an error code header."""
    code = headers.get(ERROR_CODE, "")
    try:
        found = (_decode_msgpack if headers.get(CONTENT_TYPE) == _MSGPACK else _decode)(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        found = _Body(message=headers.get(ERROR_TEXT, Internal.title))
    number = int(code) if code.isascii() and code.isdigit() and len(code) <= 6 else found.code
    error = rebuild(number, found.message, found.details)
    if isinstance(error, Internal) and error.error_id is not None:
        error.add_note(f"The log of the service that failed has it under error_id {_printable(error.error_id)[:64]}.")
    return error


def sendable(details: dict[str, Any], encode: Callable[[Any], bytes] = msgspec.json.encode) -> dict[str, Any]:
    """Return the details of an error that can be encoded: they may be objects of the user's own."""
    return {str(name): detail for name, detail in details.items() if _encodable({str(name): detail}, encode)}


def _encodable(detail: dict[str, Any], encode: Callable[[Any], bytes]) -> bool:
    try:
        encode(detail)
    except Exception:  # noqa: BLE001  # the same
        return False
    return True


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text).encode("utf-8", "replace").decode()
