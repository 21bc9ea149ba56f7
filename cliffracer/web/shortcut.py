"""The fast path between an endpoint and uvicorn's connection: a complete body taken, a complete answer written, in one step each.

ASGI's ``receive`` and two ``send`` cost more than everything that an endpoint does (measured: a quarter of a small request). If
they are uvicorn's own, bound to its request cycle with nothing wrapped around them, the same is done here directly. In all other
cases (middleware, another server, a changed uvicorn) these functions return None or False, and ASGI is used.
"""

from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

_NEEDED = frozenset(
    {
        "body", "chunked_encoding", "default_headers", "disconnected", "expected_content_length", "flow", "keep_alive", "message_event",
        "more_body", "on_response", "response_complete", "response_started", "scope", "transport", "waiting_for_100_continue",
    }
)  # fmt: skip
FITS = set(RequestResponseCycle.__init__.__code__.co_names) >= _NEEDED
"""Whether uvicorn's cycle has the attributes that are used here."""


class _Defaults:
    """The current default headers as bytes; uvicorn makes a new list of them once a second."""

    __slots__ = ("encoded", "headers")

    def __init__(self) -> None:
        self.headers: list[tuple[bytes, bytes]] | None = None
        self.encoded = b""

    def of(self, headers: list[tuple[bytes, bytes]]) -> bytes:
        if headers is not self.headers:
            self.headers = headers
            self.encoded = b"".join(b"%b: %b\r\n" % header for header in headers)
        return self.encoded


_defaults = _Defaults()


def received(receive: Any, most: int) -> bytes | None:
    """Return the body of a request if all of it has arrived, within the limit; None if it has to be received."""
    cycle = getattr(receive, "__self__", None)
    if type(cycle) is not RequestResponseCycle or cycle.more_body or cycle.disconnected or len(cycle.body) > most or not FITS:
        return None
    cycle.flow.resume_reading()  # or it would not be noticed that the client leaves
    body = bytes(cycle.body)
    cycle.body = bytearray()  # and `receive`, called again, waits for the disconnect
    cycle.message_event.clear()
    return body


def answered(send: Any, status: int, headers: bytes, body: bytes) -> bool:
    """Write an answer, with headers as on the wire; False if that is not possible here: then nothing was written."""
    cycle = getattr(send, "__self__", None)
    if type(cycle) is not RequestResponseCycle or cycle.response_started or cycle.disconnected or cycle.flow.write_paused or not FITS:
        return False
    defaults = _defaults.of(cycle.default_headers)
    cycle.response_started = True
    cycle.waiting_for_100_continue = False
    if not cycle.keep_alive or len(cycle.default_headers) > 1:
        defaults = _closing(cycle, defaults)
    cycle.chunked_encoding = False
    cycle.transport.write(STATUS_LINE[status] + defaults + headers + (body if cycle.scope["method"] != "HEAD" else b""))
    cycle.response_complete = True
    cycle.message_event.set()
    if not cycle.keep_alive:
        cycle.transport.close()
    cycle.on_response()
    return True


def _closing(cycle: Any, defaults: bytes) -> bytes:
    """Return the default headers, with ``Connection: close`` if the connection is to be closed after the answer."""
    if b"\r\nconnection: close" in b"\r\n" + defaults:
        cycle.keep_alive = False
    return defaults if cycle.keep_alive or b"connection: close" in defaults else defaults + b"connection: close\r\n"
