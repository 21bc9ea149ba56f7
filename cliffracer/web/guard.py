"""Refuses requests that uvicorn would accept: ones that arrive too slowly, are too large, or are ambiguous.

`HttpToolsProtocol` has no deadline for receiving a request, no limit on headers, body, trailers or chunk extensions, takes
requests without a Host or with two, and lets a handler run on when its client is gone (all measured). The subclass here closes
that, adding two frames per request; one sweep per second looks at all connections, so that no request pays for a timer.
It depends on methods and attributes of uvicorn's class, which `fits` checks; with a uvicorn that has changed them, requests are
served unguarded, with a warning.
"""

import asyncio
import re
from contextvars import Context, copy_context
from typing import Any

from loguru import logger
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from cliffracer.context import new_id
from cliffracer.errors import ServiceError
from cliffracer.settings import Settings
from cliffracer.web.acceptor import Acceptor
from cliffracer.web.answers import CORRELATION, Refused, correlation_of, problem
from cliffracer.web.bodies import too_large

CALL = "cliffracer.call"
"""Key in the ASGI scope for the running call, (watch, context), so that the server can end it when the client is gone."""
LEFT = "cliffracer.left"
"""Key in the scope that says that the client was gone before there was a call."""
MAX_HEAD = 64 * 1024
MAX_LINE = 16 * 1024
MAX_HEADERS = 100
MAX_URL = 8 * 1024
LINGER = 2.0
"""Seconds in which a refused client that still sends is read from: closing at once would discard the answer."""
_QUEUED = 16
"""Requests that wait behind the one that is being answered while we still read on, and so notice that their client leaves."""
_PER_BYTE = 16  # of framing per byte of a chunked body: more is an attack by chunk extensions or trailers
_H2C = re.compile(rb"\r\nupgrade:[ \t]*h2c[ \t]*(?=\r\n|\Z)", re.IGNORECASE)
_HOOKS = (
    "_start_asgi_task", "_unset_keepalive_if_required", "connection_lost", "data_received", "handle_websocket_upgrade", "on_body",
    "on_headers_complete", "on_response_complete", "send_400_response", "shutdown",
)  # fmt: skip


class GuardedProtocol(HttpToolsProtocol):
    """One connection, whose requests are bounded in size and strict in form."""

    max_body = 0
    acceptor: Acceptor
    task: asyncio.Task[None] | None = None
    _begun: RequestResponseCycle | None = None
    """The latest request that has begun. ``cycle`` is the latest that has arrived: it may wait behind this one."""
    _outside: Context
    _received = 0  # bytes of body of this request
    _fed = 0  # bytes of this request, while it is incomplete
    _incoming = 0
    _over = False
    _fault: Refused | ServiceError | None = None

    def data_received(self, data: bytes) -> None:
        """Take received bytes, unless this connection was refused."""
        if self._over:
            return
        before = self.scope
        cycle = self.cycle
        if b"h2c" in data and (cycle is None or cycle.scope is not before or not cycle.more_body):  # a head, no body
            data = _without_upgrade(data)
        self._incoming = len(data)
        super().data_received(data)
        cycle = self.cycle
        if (cycle is None or cycle.more_body or cycle.scope is not self.scope) and not self._over:
            self._count(before)

    def on_headers_complete(self) -> None:
        """Start the request if its head is in order."""
        self._received = 0
        self._fault = self._wrong_with_head()
        if self._fault is not None:
            raise ValueError  # makes the parser stop, and uvicorn call `send_400_response`
        super().on_headers_complete()
        if self.pipeline and len(self.pipeline) <= _QUEUED:
            self.flow.resume_reading()

    def on_body(self, body: bytes) -> None:
        """Take a part of the body, up to the limit."""
        self._received += len(body)
        if self._received > self.max_body:
            self._fault = too_large(self.max_body)
            raise ValueError
        super().on_body(body)

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over, and drop the parser: the two refer to each other, and would keep the socket's memory."""
        if self._begun is not None and not self._begun.response_complete:
            self.refuse(Refused(400, "a WebSocket begins after the answer to what was asked before"))  # which would come between its frames
            return
        super().handle_websocket_upgrade()
        self.parser: Any = None

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's text says less
        """Refuse the request: the parser could not read it, or one of the checks here failed."""
        self.refuse(self._fault or Refused(400, "this is no HTTP/1.1 request that can be read"))

    def connection_lost(self, exc: Exception | None) -> None:
        """End the call of a client that is gone."""
        self._end_call()
        self._hold()
        super().connection_lost(exc)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """Begin; later work for this connection runs with the context variables of now."""
        self._outside = copy_context()
        super().connection_made(transport)
        self.acceptor.accepted()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Start a request. Its task is held here: a set with a done-callback would cost more than the task."""
        if self.task is not None:
            self._hold()
        self._begun = cycle
        self.task = self.loop.create_task(cycle.run_asgi(app))

    def _hold(self) -> None:
        """Keep a task that outlives its request or its connection, so that a stop waits for it."""
        if self.task is not None and not self.task.done():
            self.tasks.add(self.task)
            self.task.add_done_callback(self.tasks.discard)

    def on_response_complete(self) -> None:
        """Go on with the next waiting request; `Sweep` ends idle connections, without a timer for each."""
        self.server_state.total_requests += 1
        if self.pipeline or self.flow.read_paused:
            self._outside.run(super().on_response_complete)  # not inside the request that ends
            self.server_state.total_requests -= 1
            self._unset_keepalive_if_required()

    def phase(self) -> str:
        """Return what the connection waits for: a new ``request``, its ``head`` or ``body``; empty while we are answering."""
        cycle: Any = self.cycle
        scope: Any = self.scope
        if scope is None or cycle is None or cycle.scope is not scope:
            return "head"
        if cycle.more_body:
            return "" if self.flow.read_paused or self.pipeline else "body"
        return "request" if cycle.response_complete else ""

    def expire(self, phase: str) -> None:
        """End a connection that waited too long."""
        scope: Any = self.scope
        if phase == "request" or (self.cycle is not None and self.cycle.scope is scope and self.cycle.response_complete):
            self.transport.close()  # no answer is due; one that was sent before the end of the body may have left it in this state
        elif scope is None or self._over:
            self.transport.abort()
        else:
            self.refuse(Refused(408, "the request did not arrive in time"))

    def refuse(self, fault: Refused | ServiceError) -> None:
        """Answer with a problem document and close; what the client still sends is discarded for a moment."""
        self._over = True
        cycle = self._begun
        if cycle is not None and cycle.response_started and not cycle.response_complete:
            self.transport.abort()  # an answer is half sent: the client must see that it is broken off
            return
        self._end_call()
        status, body, headers = problem(fault)
        correlation = correlation_of(self.scope) if self.scope else new_id()
        out = [*self.server_state.default_headers, *headers, (CORRELATION, correlation.encode()), (b"content-length", b"%d" % len(body))]
        head = b"".join(b"%b: %b\r\n" % header for header in out if header[0] != b"connection")
        self._unset_keepalive_if_required()
        self.flow.resume_reading()
        self.transport.write(STATUS_LINE[status] + head + b"connection: close\r\n\r\n" + body)
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(LINGER, self.transport.close)

    def _wrong_with_head(self) -> Refused | ServiceError | None:
        headers = self.headers
        known = dict(headers)
        if len(self.url) > MAX_URL:
            return Refused(414, f"the URL is over the limit of {MAX_URL} bytes")
        if len(headers) > MAX_HEADERS:
            return Refused(431, f"there are over {MAX_HEADERS} headers")
        if self._fed + self._incoming > MAX_LINE and _too_long(headers):
            return Refused(431, f"the headers are over the limit of {MAX_HEAD} bytes, or one of {MAX_LINE}")
        if (b"host" not in known and self.parser.get_http_version() == "1.1") or (
            len(known) < len(headers) and [name for name, _ in headers].count(b"host") > 1
        ):
            return Refused(400, "a request has one Host header")
        if self.parser.get_http_version() not in {"1.1", "1.0"}:
            return Refused(400, "HTTP/1.1 is spoken here")
        length = known.get(b"content-length")
        return too_large(self.max_body) if length is not None and int(length) > self.max_body else None

    def _count(self, before: object) -> None:
        """Limit what is neither a complete head nor body: an endless header, chunk extensions, trailers."""
        begun = self.scope is not before  # in this chunk, most of which may be an earlier request
        self._fed = min(self._incoming, MAX_HEAD) if begun else self._fed + self._incoming
        received = self._received if self.cycle is not None and self.cycle.scope is self.scope else 0
        if self._fed - received > MAX_HEAD + _PER_BYTE * received or len(self.headers or ()) > MAX_HEADERS:
            self.refuse(Refused(431, f"the headers are over the limit of {MAX_HEAD} bytes or {MAX_HEADERS} fields"))

    def _end_call(self) -> None:
        cycle = self._begun
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()
            scope: Any = cycle.scope
            if CALL in scope:
                watch, context = scope[CALL]
                watch.end(context, "cancelled")
            else:
                scope[LEFT] = True


def _too_long(headers: list[tuple[bytes, bytes]]) -> bool:
    sizes = [len(name) + len(value) for name, value in headers]
    return sum(sizes) > MAX_HEAD or max(sizes, default=0) > MAX_LINE


def _without_upgrade(data: bytes) -> bytes:
    """Return the beginning of a request without its upgrade to HTTP/2, after which the parser would lose the body.

    Java's client offers that with each first request. A server may ignore it (RFC 9110, 7.8).
    """
    end = data.find(b"\r\n\r\n")
    return _H2C.sub(b"", data[:end]) + data[end:] if end >= 0 else data


def protocol(settings: Settings, acceptor: Acceptor) -> type[Any] | str:
    """Return the factory of uvicorn's protocol for each connection."""
    if fits():
        return type("GuardedProtocol", (GuardedProtocol,), {"max_body": settings.http_max_body, "acceptor": acceptor})
    logger.warning("this version of uvicorn cannot be guarded: requests are not bounded in time and size, nor ended with their client")
    return "httptools"


def fits() -> bool:
    """Say whether uvicorn's class has the methods that are overridden here."""
    return all(callable(getattr(HttpToolsProtocol, hook, None)) for hook in _HOOKS)
