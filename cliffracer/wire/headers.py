r"""NATS message headers: encoded, looked up without a full parse, parsed leniently (ADR-4).

A block is ``NATS/1.0[ status[ text]]\r\n`` then ``Name: value\r\n`` lines and an empty line. Names are
compared without case, as HTTP does; the value of a repeated name is its first.
"""

import re
from collections.abc import Iterator, Mapping

from cliffracer.errors import Unsendable

CORRELATION = "X-Correlation-ID"
TIMEOUT = "Cliffracer-Timeout"
AUTHORIZATION = "Authorization"
CONTENT_TYPE = "Content-Type"
ERROR_CODE = "Nats-Service-Error-Code"
ERROR_TEXT = "Nats-Service-Error"
MESSAGE_ID = "Nats-Msg-Id"
IF_LAST = "Nats-Expected-Last-Subject-Sequence"
VIA = "Cliffracer-Via"

VERSION = b"NATS/1.0"
_BLANKS = b" \t"  # those of Unicode belong to the value
MAX_HEADERS = 16_384  # bytes of one block, in and out
_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,128}")  # RFC 9110 token
_VALUE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")
_KNOWN = 1000
_names: set[str] = set()  # names that have passed the check before
_SAFE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/+=@~-]{0,127}")
_TOKEN = re.compile(r"[\x21-\x7e]{1,8192}")
_TRACE = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


def encode_headers(headers: Mapping[str, str]) -> bytes:
    """Return the block to put before a payload; `Unsendable` for a name or value that would break out of its line."""
    if not (headers.keys() <= _names and "".join(headers.values()).isprintable()):  # almost all are, and that costs little
        _check(headers)
    block = "".join(["NATS/1.0\r\n", *[f"{name}: {value}\r\n" for name, value in headers.items()], "\r\n"]).encode()
    if len(block) > MAX_HEADERS:
        raise Unsendable(f"headers take {len(block)} bytes; {MAX_HEADERS} is the limit")
    return block


def _check(headers: Mapping[str, str]) -> None:
    for name, value in headers.items():
        if not _NAME.fullmatch(name):
            raise Unsendable(f"{name[:80]!r} is no header name: letters, digits and !#$%&'*+-.^_`|~")
        if not _VALUE.fullmatch(value):
            raise Unsendable(f"the value of header {name} has a control character or a line break")
        if len(_names) < _KNOWN:
            _names.add(name)


def status_of(block: bytes | None) -> int:
    """Return the status of a message that NATS itself sent (503: no responders, 404, 408, 409, 100); 0 for any other.

    A server's status is on the first line of the block. A peer can write one too, so it is only trusted on subjects where the
    server answers.
    """
    if block is None or len(block) < 12 or block[8:9] != b" ":
        return 0
    digits = block[9:12]
    return int(digits) if digits.isdigit() else 0


class Headers(Mapping[str, str]):
    """The headers of one message, parsed when first asked for; ``block`` may be anything that came from the wire."""

    __slots__ = ("_parsed", "block")

    def __init__(self, block: bytes | None) -> None:
        self.block = block
        self._parsed: dict[str, tuple[str, str]] | None = None

    def _all(self) -> dict[str, tuple[str, str]]:
        if self._parsed is None:
            parsed: dict[str, tuple[str, str]] = {}
            self._parsed = parsed
            for line in (self.block or b"").split(b"\r\n")[1:]:
                name, colon, value = line.partition(b":")
                if colon:
                    text = name.strip(_BLANKS).decode("utf-8", "replace")
                    parsed.setdefault(text.lower(), (text, value.strip(_BLANKS).decode("utf-8", "replace")))
        return self._parsed

    def __getitem__(self, name: str) -> str:
        return self._all()[name.lower()][1]

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self._all().values())

    def __len__(self) -> int:
        return len(self._all())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._all()

    def __repr__(self) -> str:
        return f"<Headers {', '.join(self)}>"  # values may be secrets


def checked_token(token: str | None) -> str | None:
    """Return a token that may go into a header; `Unsendable` for one with spaces, line breaks or other than ASCII in it."""
    if token is not None and not _TOKEN.fullmatch(token):
        raise Unsendable("that is no token: it has characters that no header holds, or more than 8192 of them")
    return token


def correlation_from(value: str | None) -> str | None:
    """Return a caller's correlation id if it is one that may go into logs and headers (128 safe characters), else None."""
    return value if value is not None and _SAFE_ID.fullmatch(value) else None


def timeout_from(value: str | None) -> float | None:
    """Return the seconds that ``Cliffracer-Timeout`` (whole milliseconds) leaves; None if absent or not a number."""
    if value is None or not value.isascii() or not value.isdigit() or len(value) > 10:
        return None
    return int(value) / 1000


def number_from(value: str | None) -> int:
    """Return the whole number in a header; 0 if it is absent, or not a number of at most 20 digits."""
    return int(value) if value is not None and value.isascii() and value.isdigit() and len(value) <= 20 else 0


def traceparent_from(value: str | None) -> str | None:
    """Return a W3C trace context if it is well-formed, else None."""
    return value if value is not None and _TRACE.fullmatch(value) else None
