"""Reading: the protocol that takes the socket over from nats-py once it has connected and authenticated."""

import asyncio
import json
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any

from cliffracer.errors import Unavailable
from cliffracer.messaging.transport.guard import GuardedClient
from cliffracer.messaging.transport.interface import Receive
from cliffracer.messaging.transport.parser import Parser, ProtocolError
from cliffracer.messaging.transport.writer import MANY, Writer

_BRIEF = 0.00005  # seconds: a chunk that comes so soon was there already, and the server has not waited for what the last one caused
_LATELY = 0.05  # seconds
_MISSED = 2  # beats without a byte, after which the server is taken for dead
_UNANSWERED = 6  # beats that a PING waits for its answer while other bytes come: those may be many that were on their way before it


class Reader(asyncio.Protocol):
    """One connection: chunks go to the parser, what they caused to be published is written in one go, pings watch the server.

    ``flowing(bool)`` says whether the server takes what we write; ``informed(info)`` is told what it says of itself.
    """

    def __init__(
        self,
        client: GuardedClient,
        transport: asyncio.Transport,
        routes: dict[bytes, Receive],
        *,
        failed: Callable[[bytes, Exception], None],
        flowing: Callable[[bool], None],
        informed: Callable[[dict[str, Any]], None],
        ping: float,
    ) -> None:
        self.writer = Writer(transport)
        self._client = client
        self._transport = transport
        self._parser = Parser(routes, self._control, failed)
        self._flowing = flowing
        self._informed = informed
        self._former = transport.get_protocol()
        self._loop = asyncio.get_running_loop()
        self._over: asyncio.Future[None] = self._loop.create_future()
        self._pings: deque[asyncio.Future[None] | None] = deque()
        self._asked = 0.0  # when the first of these was sent
        self._yielded = False
        self._paused = False
        self._heard = True
        self._handled = 0.0  # when the last chunk was
        self._silent = 0
        self._stuck = 0
        self._unanswered = 0
        self._ping = ping
        self._beat = self._loop.call_later(ping, self._on_beat)

    def data_received(self, data: bytes) -> None:
        """Handle one chunk, or as much of it as is fair."""
        self._heard = True
        writer = self.writer
        if monotonic() - self._handled < _BRIEF:
            writer.most = MANY
        writer.due = True  # what is published meanwhile goes out below
        try:
            more = self._parser.feed(data)
        except (ProtocolError, ValueError, IndexError) as error:
            self._client.end(f"the server does not speak NATS: {error}")
            return
        writer.write()
        self._handled = monotonic()
        if more and not self._yielded and not self._transport.is_closing():
            self._yielded = True
            self._transport.pause_reading()  # the rest waits in the kernel: memory stays bounded
            self._loop.call_soon(self._resume)

    def eof_received(self) -> None:
        """Let the transport close itself."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell everybody."""
        self._beat.cancel()
        self._former.connection_lost(None)  # nats-py waits for it when it closes
        while self._pings:
            waiting = self._pings.popleft()
            if waiting is not None and not waiting.done():
                waiting.set_exception(Unavailable("NATS went away before it confirmed", reason="away"))
        if not self._over.done():
            self._over.set_result(None)
        self._client.end(str(exc) if exc else "the server closed the connection")

    def pause_writing(self) -> None:
        """Hold what is published until the server takes it again."""
        self._paused = True
        self._flowing(False)

    def resume_writing(self) -> None:
        """Go on writing."""
        self._paused = False
        self._flowing(True)

    @property
    def silent(self) -> float:
        """Seconds in which the server has not said a word although it was asked; 0 if it was not, or has answered."""
        return monotonic() - max(self._asked, self._handled) if self._pings else 0.0

    def probe(self) -> None:
        """Ask for a sign of life, if there was none of late."""
        if not self._pings and monotonic() - self._handled > _LATELY:
            self._ask(None)

    def round_trip(self) -> asyncio.Future[None]:
        """Return what is done when the server has handled everything written before; `Unavailable` when the connection ends first."""
        done: asyncio.Future[None] = self._loop.create_future()
        self._ask(done)
        return done

    async def hang_up(self) -> None:
        """Write what has been gathered and return when the connection is closed."""
        self._client.hush()
        self.writer.write()
        self._transport.close()
        await self._over

    def _ask(self, done: asyncio.Future[None] | None) -> None:
        if not self._pings:
            self._asked = monotonic()
        self._pings.append(done)
        self.writer.put(b"PING\r\n")

    def _resume(self) -> None:
        if self._transport.is_closing():
            return
        self.writer.due = True
        try:
            more = self._parser.resume()
        except (ProtocolError, ValueError, IndexError) as error:
            self._client.end(f"the server does not speak NATS: {error}")
            return
        self.writer.write()
        self._handled = monotonic()
        if more:
            self._loop.call_soon(self._resume)
        else:
            self._yielded = False
            self._transport.resume_reading()

    def _control(self, line: bytes) -> None:
        if line.startswith(b"PING"):
            self.writer.parts.append(b"PONG\r\n")  # a chunk is being handled: it is written at its end
        elif line.startswith(b"PONG"):
            waiting = self._pings.popleft() if self._pings else None
            if waiting is not None and not waiting.done():
                waiting.set_result(None)
        elif line.startswith(b"-ERR"):
            self._client.said(line[4:].decode("utf-8", "replace").strip(" '"))
        elif line.startswith(b"INFO"):
            self._informed(json.loads(line[4:]))
        elif not line.startswith(b"+OK"):
            raise ProtocolError(f"unknown operation {line[:20]!r}")

    def _on_beat(self) -> None:
        self._beat = self._loop.call_later(self._ping, self._on_beat)
        self._silent = 0 if self._heard else self._silent + 1
        self._stuck = self._stuck + 1 if self._paused else 0
        self._heard = False
        asked = None in self._pings
        self._unanswered = 0 if not asked or self._yielded else self._unanswered + 1
        if max(self._silent, self._stuck) > _MISSED:
            self._client.end(f"the server is silent for {(_MISSED + 1) * self._ping:g} s")
        elif self._unanswered >= _UNANSWERED:
            self._client.end(f"nothing that we send arrives at the server, for {_UNANSWERED * self._ping:g} s")
        elif self._silent or not asked:
            self._ask(None)
