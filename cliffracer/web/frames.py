"""The fast path for messages to WebSockets: framed once for all clients, and written to uvicorn's connection directly.

A server's frames are not masked (RFC 6455, 5.1), so without compression, which depends on what one client was sent before, a
message is the same bytes for all clients. ASGI's ``send`` costs as much as the kernel's work for a small message. If it is
uvicorn's own with nothing wrapped around it, the socket is open and the client keeps up, the frame is written here. In all other
cases `Outlet.write` returns False, and ASGI is used.
"""

import asyncio
import struct
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.server import ServerProtocol

TEXT, BINARY = 1, 2
UNSENT = 65_536
"""Bytes that may wait in the connection of one client; beyond that, sending waits."""
MANY = 512
"""Frames that are gathered at most before they are written."""
LARGE = 16_384
"""Bytes from which on a frame is written without waiting for others."""
_FINAL = 0x80
_NEEDED = frozenset({"conn", "handshake_complete", "initial_response", "transport"})
FITS = set(WebSocketsSansIOProtocol.__init__.__code__.co_names) >= _NEEDED
"""Whether uvicorn's connection has the attributes that are used here."""
_medium, _long = struct.Struct("!BBH").pack, struct.Struct("!BBQ").pack


class Connection(WebSocketsSansIOProtocol):
    """uvicorn's connection of a WebSocket, which ends its reader when it is lost: their cycle of references would stay in memory long."""

    def connection_lost(self, exc: Exception | None) -> None:
        """End: nothing can be read or sent any more."""
        super().connection_lost(exc)
        self.conn.parser.close()


def framed(opcode: int, payload: bytes) -> bytes:
    """Return a complete, unmasked message (RFC 6455, 5.2); UnicodeDecodeError for a text that is not UTF-8 (8.1)."""
    if opcode == TEXT and not payload.isascii():
        payload.decode()
    size = len(payload)
    if size < 126:
        return bytes((_FINAL | opcode, size)) + payload
    if size < 65_536:
        return _medium(_FINAL | opcode, 126, size) + payload
    return _long(_FINAL | opcode, 127, size) + payload


class _Last:
    """The last text with its frame: a broadcast sends the same to one client after the other. A pair, since loops may run in threads."""

    __slots__ = ("framed",)

    def __init__(self) -> None:
        self.framed = b"", b""


_last = _Last()


def text_frame(payload: bytes) -> bytes:
    """Return the frame of a text, made once for those who send the same one after the other, whoever has encoded it."""
    last, frame = _last.framed
    if payload != last or not frame:
        frame = framed(TEXT, payload)
        _last.framed = payload, frame
    return frame


class Turn:
    """Gathers what one turn of the loop sends to all clients, and writes it at the end of the turn.

    Each write wakes a client, which on the same machine is a process: writing in between the other work costs twice as much.
    """

    __slots__ = ("frames",)

    def __init__(self) -> None:
        self.frames: list[tuple[Outlet, bytes]] = []

    def begin(self) -> None:
        """See that what is gathered from now on is written when this turn ends."""
        asyncio.get_running_loop().call_soon(self.write)

    def write(self) -> None:
        """Write everything that has been gathered, except to clients that are closing or gone (RFC 6455, 5.5.1)."""
        frames, self.frames = self.frames, []
        for outlet, frame in frames:
            if outlet.open and not outlet.transport.is_closing():
                outlet.transport.write(frame)


class Outlet:
    """The fast path to one client. It only looks at the transport, which a write touches anyway: a thousand clients exceed CPU caches."""

    __slots__ = ("_turn", "open", "transport")

    def __init__(self, transport: asyncio.Transport, turn: Turn) -> None:
        self.transport = transport
        self.open = True
        """Until we have begun to close."""
        self._turn = turn

    def write(self, frame: bytes) -> bool:
        """Send a frame at the end of this turn of the loop; False if the client has too much to read already, or we are closing."""
        if not self.open or self.transport.get_write_buffer_size() > UNSENT:
            return False
        turn = self._turn
        frames = turn.frames
        if not frames:
            turn.begin()
        frames.append((self, frame))
        if len(frames) >= MANY or len(frame) > LARGE:
            turn.write()
        return True


def outlet_of(send: Any, turn: Turn) -> Outlet | None:
    """Return the fast path behind ASGI's ``send`` of an accepted socket; None if there is none."""
    protocol = getattr(send, "__self__", None)
    if type(protocol) is not Connection or not FITS:
        return None
    fits = type(protocol.conn) is ServerProtocol and not protocol.conn.extensions  # an extension may change every frame
    return Outlet(protocol.transport, turn) if fits and protocol.handshake_complete and protocol.initial_response is None else None


def is_lost(send: Any) -> bool:
    """Say whether the connection of a WebSocket is lost, even if ASGI has not reported it yet."""
    protocol = getattr(send, "__self__", None)
    return isinstance(protocol, Connection) and protocol.disconnected


def cut_off(send: Any, code: int, reason: str) -> None:
    """Close a WebSocket whose client does not read, without waiting until it does; the sweep of the server ends the rest."""
    protocol = getattr(send, "__self__", None)
    if isinstance(protocol, Connection) and not protocol.close_sent and not protocol.disconnected:
        protocol.conn.send_close(code, reason)
        protocol.transport.write(b"".join(protocol.conn.data_to_send()))
        protocol.close_sent = True
