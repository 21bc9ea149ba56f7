"""One WebSocket connection as its handler sees it: frames in and out; clients that do not read are cut off."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from starlette.types import Message
from starlette.websockets import WebSocket, WebSocketState

from cliffracer.context import Context
from cliffracer.errors import InvalidInput, ServiceError
from cliffracer.resilience.deadlines import Watch
from cliffracer.web.answers import CORRELATION, Headers, Refused
from cliffracer.web.endless import TURN
from cliffracer.web.faults import fault
from cliffracer.web.frames import BINARY, Outlet, Turn, cut_off, framed, is_lost, outlet_of, text_frame
from cliffracer.wire.shared import encoded

BUFFER = 32
"""Frames that may wait for a handler; then reading from the client stops."""
GRACE = 1.0
"""Seconds that a handler which takes frames has to finish once its client is gone; any other is cancelled at once."""
_LOOK = 5.0


class Gone(Exception):
    """The client is gone, so there is nobody to send to."""


class Closing(NamedTuple):
    """How a socket is to be closed."""

    code: int
    reason: str = ""


class ServedWebSocket(WebSocket[Any]):
    """The `WebSocket` that a handler may take, accepted already; its own methods work as Starlette's."""

    __slots__ = (
        "_frames",
        "_from_client",
        "_left",
        "_news",
        "_outlet",
        "_patience",
        "_sent",
        "_space",
        "_to_client",
        "_turn",
        "context",
        "slow",
    )

    def __init__(self, scope: Any, receive: Any, send: Any, context: Context, *, patience: "Patience", turn: Turn) -> None:
        super().__init__(scope, self.next_frame, self._patiently)
        self.context = context
        self.slow = False
        self._sent = 0
        self._from_client = receive
        self._to_client = send
        self._outlet: Outlet | None = None
        self._patience = patience
        self._turn = turn
        self._frames: deque[Message] = deque()
        self._news = asyncio.Event()
        self._space = asyncio.Event()
        self._left: Message | None = None

    @property
    def accepted(self) -> bool:
        """Whether the handshake is over."""
        return self.application_state is not WebSocketState.CONNECTING

    @property
    def gone(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._left is not None or self.slow or self.application_state is WebSocketState.DISCONNECTED

    # -- the handshake and the end ---------------------------------------------------------------------------------

    async def connect(self) -> None:
        """Take the client's request to connect."""
        await self._from_client()
        self.client_state = WebSocketState.CONNECTED

    async def open(self) -> None:
        """Accept the client."""
        offered = self.scope.get("subprotocols") or ()
        chosen = "bearer" if "bearer" in offered[:1] else None  # a browser sends its token as ["bearer", token]
        await super().accept(chosen, headers=[(CORRELATION, self.context.correlation_id.encode())])
        self._outlet = outlet_of(self._to_client, self._turn)

    async def accept(self, subprotocol: str | None = None, headers: Iterable[tuple[bytes, bytes]] | None = None) -> None:
        """Do nothing: the socket is accepted before the handler is called."""
        if subprotocol is not None or headers:
            raise RuntimeError("the socket is accepted already, so no subprotocol or header can be chosen here")

    async def reject(self, status: int, body: bytes, headers: Headers) -> None:
        """Answer the handshake with an HTTP response."""
        if "websocket.http.response" in self.scope.get("extensions", {}):
            length = (b"content-length", b"%d" % len(body))
            correlation = (CORRELATION, self.context.correlation_id.encode())
            await self.send({"type": "websocket.http.response.start", "status": status, "headers": [*headers, length, correlation]})
            await self.send({"type": "websocket.http.response.body", "body": body})
        else:
            await self.send({"type": "websocket.close", "code": 1008})

    async def end(self, closing: Closing) -> None:
        """Close the socket, unless it is closed."""
        if self.slow:
            cut_off(self._to_client, 1013, "the client reads too slowly")
        elif not self.gone:
            await self.send({"type": "websocket.close", "code": closing.code, "reason": closing.reason})

    def too_slow(self) -> None:
        """End the handler and cut the client off: it reads more slowly than it is sent to."""
        self.slow = True
        if self._outlet is not None:
            self._outlet.open = False
        if self.context.task is not None and self.context.ended is None:
            self.context.ended = "cancelled"
            self.context.task.cancel()

    def let_go(self) -> None:
        """Drop the references to the connection and to itself once the handler has ended: a cycle would stay in memory for long.

        Whoever still has the socket finds that the client is gone.
        """
        self._receive, self._send = _left, _lost
        self._from_client, self._to_client = _left, _lost
        self._outlet = None

    # -- frames out ------------------------------------------------------------------------------------------------

    async def deliver(self, item: Any) -> None:
        """Send one item: bytes as a binary frame, anything else as JSON text. Once the client is gone it is dropped."""
        self._sent += 1
        if not self._sent % TURN:
            await asyncio.sleep(0)
        binary = type(item) is bytes
        payload = item if binary else encoded(item)
        outlet = self._outlet
        if outlet is not None and outlet.write(framed(BINARY, payload) if binary else text_frame(payload)):
            return
        if not self.gone:
            text = {"bytes": payload} if binary else {"text": payload.decode()}
            await self._put({"type": "websocket.send", **text})

    def put(self, payload: bytes) -> bool:
        """Send JSON at once; False if that is to be awaited. Once the client is gone it is dropped."""
        return (self._outlet is not None and self._outlet.write(text_frame(payload))) or self.gone

    async def tell(self, error: ServiceError | Refused) -> None:
        """Send an error frame."""
        if not self.gone:
            await self._put({"type": "websocket.send", "text": f'{{"error":{fault(error).decode()}}}'})

    async def _put(self, message: Message) -> None:
        try:
            await self._patiently(message)
        except OSError:
            raise Gone from None

    async def _patiently(self, message: Message) -> None:
        waiting = self._patience.waiting
        waiting[self] = time.monotonic()
        if not self._patience.armed:
            self._patience.arm()
        self._turn.write()  # or this frame would overtake gathered ones
        if self._outlet is not None and message["type"] == "websocket.close":
            self._outlet.open = False
        try:
            await self._to_client(message)
        finally:
            waiting.pop(self, None)  # the handler and a room may send at once

    # -- frames in -------------------------------------------------------------------------------------------------

    async def pump(self, watch: Watch, *, keep: bool) -> None:
        """Read what the client sends until it leaves, for the handler (``keep``) or to discard it; then end the handler."""
        while True:
            message = await self._from_client()
            if message["type"] != "websocket.receive":
                break
            if keep:
                self._frames.append(message)
                self._news.set()
                if len(self._frames) >= BUFFER and not await self._has_space():
                    break
        self._left = message if message["type"] == "websocket.disconnect" else {"type": "websocket.disconnect", "code": 1006}
        self._news.set()
        if keep:
            await asyncio.sleep(GRACE)
        watch.end(self.context, "cancelled")

    async def _has_space(self) -> bool:
        while len(self._frames) >= BUFFER:
            self._space.clear()
            try:
                async with asyncio.timeout(_LOOK):
                    await self._space.wait()
            except TimeoutError:
                if is_lost(self._to_client):  # which ASGI does not report while we do not read
                    return False
        return True

    async def next_frame(self) -> Message:
        """Return the next frame, or the disconnect; Starlette's methods use it as ``receive``."""
        while not self._frames and self._left is None:
            self._news.clear()
            await self._news.wait()
        if not self._frames:
            assert self._left is not None  # the only other reason to be here
            return self._left
        self._space.set()
        return self._frames.popleft()


async def _left() -> Message:
    return {"type": "websocket.disconnect", "code": 1006}


async def _lost(_message: Message) -> None:
    raise OSError


class Incoming:
    """What a client sends, decoded, until it leaves; a frame that does not fit is answered by an error frame and skipped."""

    def __init__(self, socket: ServedWebSocket, decode: Callable[[Message], Any]) -> None:
        self._socket = socket
        self._decode = decode

    def __aiter__(self) -> "Incoming":
        return self

    async def __anext__(self) -> Any:
        while (message := await self._socket.next_frame())["type"] == "websocket.receive":
            try:
                return self._decode(message)
            except InvalidInput as error:
                await self._socket.tell(error)
        raise StopAsyncIteration


class Patience:
    """Ends sockets whose client does not read, with one check per second of those with pending sends."""

    def __init__(self, most: float) -> None:
        self.most = most
        self.waiting: dict[ServedWebSocket, float] = {}
        self.armed = False

    def arm(self) -> None:
        """Check the pending sends until there are none."""
        self.armed = True
        asyncio.get_running_loop().call_later(min(1.0, self.most / 4), self._look)

    def _look(self) -> None:
        self.armed = False
        late = time.monotonic() - self.most
        for socket in [socket for socket, began in self.waiting.items() if began < late]:
            socket.too_slow()
        if self.waiting:
            self.arm()
