"""Answers WebSockets: what a handler yields goes out as JSON frames, what the client sends comes in as decoded values.

The handshake is bound and admitted like a request, so that a refusal is an HTTP answer (a problem document) and no handler is
entered. Past middleware the socket is accepted, also for a handler that takes the `WebSocket` and drives it. It is closed with
1000 when the handler returns, 1008 when it refuses something, 1009 for a frame over the limit, 1011 for a defect, 1012 when the
service stops, 1013 for an overload or a client that reads too slowly; before that, an ``{"error": {...}}`` frame tells of a failure.
"""

import asyncio
import contextlib
from collections.abc import Callable, MutableMapping, Sequence
from typing import Any, get_args

from starlette.exceptions import HTTPException, WebSocketException
from starlette.websockets import WebSocketDisconnect

from cliffracer.assembly import Assembly
from cliffracer.checking import Declared
from cliffracer.context import Context
from cliffracer.declarations import Socket, refuse, where
from cliffracer.errors import Forbidden, InvalidInput, ServiceError
from cliffracer.handler import Handler
from cliffracer.invoke import invoke
from cliffracer.rooms import SOCKET
from cliffracer.settings import Settings
from cliffracer.shapes import claim
from cliffracer.signature import bare, dotted
from cliffracer.web.answers import Refused, correlation_of, problem
from cliffracer.web.binding import Binder
from cliffracer.web.calls import TIMEOUT, context_of, presentable
from cliffracer.web.endless import Endless
from cliffracer.web.frames import Turn
from cliffracer.web.router import APART, Router, check_kinds
from cliffracer.web.router import SOCKET as METHOD
from cliffracer.web.websocket import Closing, Gone, Incoming, Patience, ServedWebSocket
from cliffracer.wire.codecs import Decoder
from cliffracer.wire.origins import same_origin

_CODES = {401: 4401, 413: 1009, 429: 1013, 499: 1000, 500: 1011, 503: 1012, 504: 1013}
_REFUSAL = 1008
_SOCKET = "starlette.websockets.WebSocket"


class SocketEndpoint:
    """One WebSocket path as an ASGI application, from the handshake to the close."""

    def __init__(
        self,
        record: Socket,
        declared: Declared,
        handler: Handler,
        *,
        endless: Endless,
        patience: Patience,
        turn: Turn,
        origins: tuple[str, ...] = (),
    ) -> None:
        signature, shape = declared.signature, declared.shape
        assert signature is not None
        assert shape is not None  # both are there once the app is frozen
        self.record = record
        self.handler = handler
        self._endless = endless
        self._patience = patience
        self._turn = turn
        self._origins = frozenset(origins)
        self._binder = Binder(signature, shape)
        self._decode = None if shape.incoming is None else frame_decoder(shape.incoming.annotation)
        self._keeps = self._decode is not None or any(dotted(bare(p.annotation)) == _SOCKET for p in signature.needs)
        handler.mappings = {**_MAPPINGS, **handler.mappings}

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        """Serve one client."""
        handler = self.handler
        headers = dict(scope["headers"])
        headers.pop(TIMEOUT, None)  # the time-out of a client does not apply to a socket
        context = context_of(handler, scope, headers)
        socket = ServedWebSocket(scope, receive, send, context, patience=self._patience, turn=self._turn)
        context.store()[SOCKET] = socket
        pump: asyncio.Task[None] | None = None
        entered = False
        try:
            await socket.connect()
            check_origin(headers, self._origins)
            arguments: tuple[Any, ...] = ()
            if handler.entry is None or await handler.entry.decided(context, scope):
                incoming = () if self._decode is None else (Incoming(socket, self._decode),)
                arguments = self._binder.bind(scope.get("path_params"), scope, headers, b"", incoming=incoming)
            self._endless.add(context, handler.watch)
            handler.gate.admit(None)
            entered = True
            pump = asyncio.create_task(socket.pump(handler.watch, keep=self._keeps), name="socket reader")
            await self._finish(socket, await invoke(handler, context, arguments, socket, socket.deliver))
        except Exception as error:  # noqa: BLE001 - types of the user's run in decoders, and every client gets an answer
            await self._fail(socket, presentable(handler, context, error, counted=entered))
        finally:
            self._endless.remove(context)
            if pump is not None:
                pump.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await pump
            del context.store()[SOCKET]
            socket.let_go()

    async def _finish(self, socket: ServedWebSocket, result: Any) -> None:
        if isinstance(result, Closing):
            await socket.end(result)
        elif isinstance(result, Refused):
            await self._fail(socket, result)
        elif not socket.accepted:
            await self._fail(socket, Forbidden("the socket was not let in"))
        else:
            if result is not None:
                await socket.deliver(result)
            await socket.end(Closing(1000))

    async def _fail(self, socket: ServedWebSocket, error: ServiceError | Refused) -> None:
        try:
            if not socket.accepted:
                await socket.reject(*problem(error, self.handler.service))
                return
            await socket.tell(error)
            code = _CODES.get(error.status, _REFUSAL)
            await socket.end(Closing(code, error.title if isinstance(error, ServiceError) else error.detail[:100]))
        except (Gone, WebSocketDisconnect, OSError):  # the client left meanwhile
            return


def add_sockets(router: Router, assemblies: Sequence[Assembly], settings: Settings, endless: Endless) -> None:
    """Add the sockets that apps declare; `SetupError` if two have the same path."""
    seen: dict[str, Socket] = {}
    patience, turn = Patience(settings.http_timeout), Turn()
    for assembly in assemblies:
        for record, declared, handler in assembly.of(Socket):
            check_kinds(record)
            other = seen.setdefault(claim(record.path), record)
            if other is not record:
                raise refuse(record.function, f"WebSocket {record.path} is declared already, by {where(other.function)}", APART)
            endpoint = SocketEndpoint(
                record, declared, handler, endless=endless, patience=patience, turn=turn, origins=settings.cors_origins
            )
            router.add(METHOD, record.path, endpoint)


async def refuse_socket(scope: MutableMapping[str, Any], receive: Any, send: Any, error: ServiceError) -> None:
    """Refuse a handshake for which there is no handler."""
    socket = ServedWebSocket(scope, receive, send, Context(found_id=correlation_of(scope)), patience=Patience(0), turn=Turn())
    await socket.connect()
    await socket.reject(*problem(error))


def frame_decoder(annotation: Any) -> Callable[[Any], Any]:
    """Return the decoder of a received message to T of ``AsyncIterator[T]``.

    Frames are JSON, in text or binary. For ``str``, a text frame that is not a JSON string is taken as it is; for ``bytes``, binary
    frames are.
    """
    kind = (get_args(bare(annotation)) or (Any,))[0]
    decoder: Decoder[Any] = Decoder(kind)

    def decode(message: Any) -> Any:
        text, data = message.get("text"), message.get("bytes")
        if kind is bytes and data is not None:
            return data
        try:
            return decoder.decode(text.encode() if text is not None else data)
        except InvalidInput:
            if kind is str and text is not None:
                return text
            raise

    return decode


def check_origin(headers: Any, allowed: frozenset[str]) -> None:
    """Raise `Forbidden` for a page of another site: browsers let any page open a socket, cookies included (RFC 6455, 10.2)."""
    origin = headers.get(b"origin", b"").decode("latin-1")
    if not origin or "*" in allowed or origin in allowed:
        return
    if not same_origin(origin, headers.get(b"host", b"").decode("latin-1")):
        raise Forbidden("a page of another site may not open this socket: cors_origins lists those that may")


def _refused(error: HTTPException) -> Refused:
    return Refused(error.status_code, str(error.detail), [(n.lower().encode(), v.encode()) for n, v in (error.headers or {}).items()])


def _closing(error: WebSocketException) -> Closing:
    return Closing(error.code, error.reason)


def _left(_: Exception) -> None:
    return None


_MAPPINGS: dict[type[Exception], Callable[..., Any]] = {
    HTTPException: _refused,
    WebSocketException: _closing,
    WebSocketDisconnect: _left,
    Gone: _left,
}
