"""Streams over HTTP: what an async generator yields, as Server-Sent Events or as NDJSON, whichever the client prefers.

An event is ``data: <json>`` and an empty line, a line of NDJSON is the JSON. The answer starts with the first item, or after
a second without one; until then a failure is an ordinary problem document. Afterwards it is the last event (``event: error``)
or the last line (``{"error": {"code", "message", "details"}}``). In silence a comment goes to event streams every 15 s, so that
proxies keep them open. A client that leaves cancels the handler; one that reads slowly slows it down.
"""

import asyncio
import contextlib
from collections.abc import Mapping, MutableMapping
from typing import Any

from cliffracer.checking import Declared
from cliffracer.declarations import Route
from cliffracer.errors import ServiceError
from cliffracer.handler import Handler
from cliffracer.invoke import invoke
from cliffracer.web.answers import CORRELATION, NOSNIFF, Refused, send_body
from cliffracer.web.calls import context_of, presentable
from cliffracer.web.endless import TURN, Endless
from cliffracer.web.faults import fault
from cliffracer.web.guard import CALL
from cliffracer.web.routes import RouteEndpoint
from cliffracer.wire.codecs import encode

FIRST = 1.0
SILENCE = 15.0
_SSE, _NDJSON = b"text/event-stream", b"application/x-ndjson"

_UNHELD = ((b"cache-control", b"no-store"), (b"x-accel-buffering", b"no"))
"""Headers that keep proxies from buffering a stream."""


class StreamEndpoint(RouteEndpoint):
    """One route whose handler yields."""

    def __init__(self, record: Route, declared: Declared, handler: Handler, *, max_body: int, endless: Endless) -> None:
        super().__init__(record, declared, handler, max_body=max_body)
        self._endless = endless

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        """Answer one request, item by item."""
        headers = dict(scope["headers"])
        context = context_of(self.handler, scope, headers)
        stream = Outgoing(send, self.status, context.correlation_id, events=prefers_events(headers.get(b"accept", b"")))
        handler = self.handler
        try:
            if let_in := handler.entry is None or await self.decided(handler.entry, context, scope):
                arguments, body = await self.arguments(scope, receive, headers, context)
            else:
                arguments, body = (), b""
            if let_in and scope["method"] == "HEAD":
                await send_body(send, self.status, b"", [stream.kind], context.correlation_id)
                return
            source = self.request(scope, receive, body)
            self._endless.add(context, handler.watch)
            handler.gate.admit(context.remaining())
            scope[CALL] = (handler.watch, context)
            async with stream.open():
                await invoke(handler, context, arguments, source, stream.deliver)
        except Exception as error:  # noqa: BLE001 - types of the user's run in decoders, and every request gets an answer
            if stream.started:
                await stream.fail(presentable(handler, context, error, counted=CALL in scope))
            else:
                await self.fail(error, scope, send, context)
        finally:
            self._endless.remove(context)


class Outgoing:
    """One stream on its way to a client."""

    def __init__(self, send: Any, status: int, correlation: str, *, events: bool) -> None:
        self._send = send
        self._status = status
        self._correlation = correlation
        self._events = events
        self._turn = asyncio.Lock()
        self._silent = True
        self._sent = 0
        self.started = False
        self.kind = (b"content-type", _SSE if events else _NDJSON)

    @contextlib.asynccontextmanager
    async def open(self) -> Any:
        """Keep the stream alive while the block runs, and end it properly."""
        alive = asyncio.create_task(self._keep_alive(), name="stream heartbeat")
        try:
            yield
        finally:
            alive.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await alive
        await self._write(b"", last=True)

    async def deliver(self, item: Any) -> None:
        """Send one item; returns when the client can take more."""
        payload = encode(item)
        self._silent = False
        self._sent += 1
        if not self._sent % TURN:
            await asyncio.sleep(0)
        await self._write(b"data: %b\n\n" % payload if self._events else payload + b"\n")

    async def fail(self, error: ServiceError | Refused) -> None:
        """Send a failure as the last item."""
        payload = fault(error)
        await self._write(b"event: error\ndata: %b\n\n" % payload if self._events else b'{"error":%b}\n' % payload, last=True)

    async def _write(self, data: bytes, *, last: bool = False) -> None:
        async with self._turn:
            if not self.started:
                self.started = True
                headers = [self.kind, NOSNIFF, *_UNHELD, (CORRELATION, self._correlation.encode())]
                await self._send({"type": "http.response.start", "status": self._status, "headers": headers})
            if data or last:
                await self._send({"type": "http.response.body", "body": data, "more_body": not last})

    async def _keep_alive(self) -> None:
        await asyncio.sleep(FIRST)
        if not self.started:
            await self._write(b": \n\n" if self._events else b"")
        while self._events:
            self._silent = True
            await asyncio.sleep(SILENCE)
            if self._silent and not self._turn.locked():
                await self._write(b": \n\n")


def prefers_events(accept: bytes) -> bool:
    """Say whether an ``Accept`` header wants ``text/event-stream`` at least as much as NDJSON."""
    wanted = _qualities(accept)
    events = wanted.get(_SSE, 0.0)
    return events > 0.0 and events >= wanted.get(_NDJSON, 0.0)


def _qualities(accept: bytes) -> Mapping[bytes, float]:
    found: dict[bytes, float] = {}
    for part in accept.split(b","):
        kind, *parameters = (piece.strip().lower() for piece in part.split(b";"))
        quality = next((piece[2:] for piece in parameters if piece.startswith(b"q=")), b"1")
        try:
            found[kind] = float(quality)
        except ValueError:
            found[kind] = 0.0
    return found
