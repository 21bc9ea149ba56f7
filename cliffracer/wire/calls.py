r"""The headers of one call: caller, ids, time left; read and written in one pass.

On the wire (all optional): ``X-Correlation-ID``, ``traceparent``, ``Cliffracer-Timeout`` (milliseconds left, so that clocks
need not agree), ``Content-Type``, and for a stream ``Cliffracer-Stream`` (how many chunks the caller takes before it asks for
more). A chunk carries ``Cliffracer-Sequence``, the last message of a stream ``Cliffracer-Stream: end``.
One with ``Cliffracer-Stream: probe`` carries nothing.
"""

import re

TIMEOUT = "Cliffracer-Timeout"
MSGPACK = b"application/msgpack"
STREAM = "Cliffracer-Stream"
SEQUENCE = "Cliffracer-Sequence"
WINDOW = 32
MAX_WINDOW = 1024
_SAFE_ID = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._:/+=@~-]{0,127}")
_TRACE = re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_SPECIAL = re.compile(rb"\r\n[Cc](?:liffracer-Timeout: ([0-9]{1,10})(?=\r\n)|(?i:liffracer-timeout|liffracer-stream|ontent-type):)")
"""Finds a header that matters here; as a group the time left, as `write_call` writes it."""
_PLAIN: tuple[None, bool, int] = (None, False, 0)


def read_call(block: bytes | None) -> tuple[float | None, bool, int]:
    """Return (seconds left, MessagePack?, stream window or 0) of a request's headers.

    Malformed values, such as a time that is not a number, count as absent. Names are compared without case.
    """
    if block is None:
        return _PLAIN
    found = _SPECIAL.search(block)
    if found is None:
        return _PLAIN
    if found.lastindex and _SPECIAL.search(block, found.end()) is None:  # that alone, as in almost every call
        return int(found[1]) / 1000, False, 0
    timeout = None
    msgpack, window = False, 0
    for line in block.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        match name.lower():
            case b"cliffracer-timeout":
                value = value.strip()
                if timeout is None and value.isdigit() and len(value) <= 10:
                    timeout = int(value) / 1000
            case b"content-type":
                msgpack = value.strip().lower() in {MSGPACK, b"application/x-msgpack"}
            case b"cliffracer-stream":
                value = value.strip()
                window = min(int(value), MAX_WINDOW) if value.isdigit() and len(value) <= 6 else 0
    return timeout, msgpack, window


def read_trace(block: bytes) -> tuple[str | None, str | None]:
    """Return (correlation id, traceparent) of a message's headers, each None if it is absent or malformed.

    An id is 128 safe characters at most, a trace as W3C has it.
    """
    identity, parent = _value(block, b"\r\nX-Correlation-ID:"), _value(block, b"\r\ntraceparent:")
    return (
        identity.decode() if identity is not None and _SAFE_ID.fullmatch(identity) else None,
        parent.decode() if parent is not None and _TRACE.fullmatch(parent) else None,
    )


def read_way(block: bytes) -> str | None:
    """Return the provenance header of a message; None if it has none, as most."""
    if b"-Via:" not in block and b"-via:" not in block:
        return None
    found = _value(block, b"\r\nCliffracer-Via:")
    return None if found is None else found.decode("utf-8", "replace")


def _value(block: bytes, name: bytes) -> bytes | None:
    """Return a header's value: its name as we spell it is tried first, then in any case."""
    found = block.find(name)
    if found < 0:
        found = block.lower().find(name.lower())
        if found < 0:
            return None
    start = found + len(name)
    return block[start : block.find(b"\r\n", start)].strip()


def write_call(
    correlation: str,
    traceparent: str | None,
    timeout: float | None,
    token: str | None = None,
    via: str | None = None,
    *,
    msgpack: bool = False,
    window: int = 0,
) -> bytes:
    """Return the header block of a request; every value is one of ours or was checked when it came in."""
    if timeout is not None and traceparent is not None and token is None and not msgpack and not window:  # almost every call
        left = int(timeout * 1000) or 1
        way = "" if via is None else f"Cliffracer-Via: {via}\r\n"
        return f"NATS/1.0\r\nX-Correlation-ID: {correlation}\r\n{TIMEOUT}: {left}\r\ntraceparent: {traceparent}\r\n{way}\r\n".encode()
    lines = f"NATS/1.0\r\nX-Correlation-ID: {correlation}\r\n"
    if timeout is not None:
        lines += f"Cliffracer-Timeout: {max(1, int(timeout * 1000))}\r\n"
    if traceparent is not None:
        lines += f"traceparent: {traceparent}\r\n"
    if token is not None:
        lines += f"Authorization: Bearer {token}\r\n"
    if via is not None:
        lines += f"Cliffracer-Via: {via}\r\n"
    if msgpack:
        lines += "Content-Type: application/msgpack\r\n"
    if window:
        lines += f"{STREAM}: {window}\r\n"
    return (lines + "\r\n").encode()


MSGPACK_REPLY = b"NATS/1.0\r\nContent-Type: application/msgpack\r\n\r\n"


def chunk_block(number: int, *, msgpack: bool) -> bytes:
    """Return the header block of the ``number``-th chunk of a stream, the first being 1."""
    kind = "Content-Type: application/msgpack\r\n" if msgpack else ""
    return f"NATS/1.0\r\n{SEQUENCE}: {number}\r\n{kind}\r\n".encode()


def end_block(chunks: int) -> bytes:
    """Return the header block of the message that ends a stream of so many chunks."""
    return f"NATS/1.0\r\n{SEQUENCE}: {chunks}\r\n{STREAM}: end\r\n\r\n".encode()


PROBE_BLOCK = f"NATS/1.0\r\n{STREAM}: probe\r\n\r\n".encode()
"""The header block of a probe: it asks whether anybody listens, and says how many chunks were sent."""
GONE_BLOCK = f"NATS/1.0\r\n{STREAM}: gone\r\n\r\n".encode()
"""The header block of the answer to a message for a closed stream, from a process that is alive."""


def is_gone(block: bytes | None) -> bool:
    """Say whether a message means that nobody listens: from the process (`GONE_BLOCK`), or from the server if that is gone."""
    return block is not None and (block == GONE_BLOCK or block.startswith(b"NATS/1.0 503"))


def read_chunk(block: bytes | None) -> tuple[int, bool]:
    """Return (number, is it the end) of a message of a stream; number 0 if it is not part of one, -1 for a probe."""
    if block == PROBE_BLOCK:
        return -1, False
    number, end = 0, False
    for line in (block or b"").split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        lowered = name.lower()
        if lowered == b"cliffracer-sequence":
            text = value.strip()
            number = int(text) if text.isdigit() and len(text) <= 12 else 0
        elif lowered == b"cliffracer-stream":
            end = value.strip() == b"end"
    return number, end
