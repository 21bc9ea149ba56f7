"""A nats-py client for one connection: it connects and authenticates, and never decides on its own what happens after a loss.

nats-py's reconnection is switched off, because it gives up for ever on an expired token or a rotated password, hangs on a peer
that is gone with bytes in flight, and ends when a callback raises; `Link` makes a new client instead. The overrides of private
methods below only make things better where they exist: without them a loss is noticed later, by `is_closed` and by pings.
"""

import asyncio
import contextlib
import re
import socket
import struct
from collections.abc import Callable, Iterable
from types import FunctionType
from typing import Any, cast

import nats.errors
from loguru import logger
from nats.aio.client import Client
from nats.protocol import parser

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_PERMISSION = "permissions violation"
_TASKS = ("_reading_task", "_ping_interval_task", "_flusher_task")
_PENDING = 256 * 1024  # bytes that nats-py may gather before it waits for the socket
_TOLD = 100  # different refusals of one connection that are logged

# nats-py's parser with a blank that is only a blank: its \s also takes VT and FF, which a peer may put into a subject, and then the
# peer chooses the subscription that its message goes to; and a CR in one is no end of the world.
_STRICT = {
    "MSG_RE": re.compile(rb"\AMSG ([^ \n]+) (\d+) (([^ \n]+) )?(\d+)\r\n"),
    "HMSG_RE": re.compile(rb"\AHMSG ([^ \n]+) (\d+) (([^ \n]+) )?(\d+) (\d+)\r\n"),
}


class StrictParser(parser.Parser):
    """nats-py's parser, the same code with other expressions."""

    parse = FunctionType(parser.Parser.parse.__code__, {**vars(parser), **_STRICT}, "parse", parser.Parser.parse.__defaults__)


class GuardedClient(Client):
    """One connection to one server; `lost` is told once when it is over."""

    def __init__(self, address: str, hostname: str | None, lost: Callable[["GuardedClient", str], None]) -> None:
        super().__init__()
        self.address = address
        self.hostname = hostname
        """What its certificate is for, if not for the host in the address."""
        self.demands_tls = False
        self.refused: Callable[[str], None] = lambda _: None
        """Told what the server does not permit."""
        self.leaving: Callable[[], None] = lambda: None
        """Told when the server announces that it goes away."""
        self.discovered: Callable[[Iterable[str]], None] = lambda _: None
        """Told of other servers of the cluster, ``host:port``."""
        self.why = ""
        """How the connection ended."""
        self.dropped = 0
        """Messages that nats-py could not read."""
        self._ps = StrictParser(self)
        self._refusals: set[str] = set()
        self._told = False
        self._dialing = True
        self._lost = lost
        self._last_words = ""

    async def open(self, address: str, *, ping: float, **options: Any) -> None:
        """Connect and authenticate, in one attempt; raises what went wrong."""
        self.demands_tls = "tls" in options or address.startswith(("tls://", "wss://"))
        if self.hostname is not None:
            options["tls_hostname"] = self.hostname
        await self.connect(
            [address],
            allow_reconnect=False,
            error_cb=self._report,
            closed_cb=self._closed,
            discovered_server_cb=self._discovered,
            lame_duck_mode_cb=self._announced,
            max_outstanding_pings=2,
            ping_interval=ping,  # type: ignore[arg-type]  # it sleeps that long, parts of a second too
            pending_size=_PENDING,
            **options,
        )
        self._dialing = False
        if self.demands_tls and not self.encrypted:
            raise ConnectionAbortedError("it does not offer TLS")

    @property
    def server(self) -> dict[str, Any]:
        """What the server said of itself; nats-py has no public name for it."""
        return dict(self._server_info)

    @property
    def encrypted(self) -> bool:
        """Whether this connection is inside TLS."""
        writer = self._writer()
        return writer is not None and writer.get_extra_info("ssl_object") is not None

    @property
    def owed(self) -> int:
        """Bytes that were written and that the kernel has not taken yet."""
        writer = self._writer()
        return 0 if writer is None else writer.transport.get_write_buffer_size()

    async def flush(self, timeout: int = 10) -> None:
        """Make a round trip after all that was published: nats-py writes its PING ahead of what it has not written yet."""
        while self.pending_data_size and self.is_connected:  # noqa: ASYNC110 - nats-py has no event for it
            await asyncio.sleep(0.001)
        await super().flush(timeout)

    def end(self, why: str) -> None:
        """Say that this connection is over; the first reason counts, and a server's last words explain best."""
        if not self._told:
            self._told = True
            self.why = self._last_words or why
            self._lost(self, self.why)

    @property
    def over(self) -> bool:
        """Whether `end` or `hush` was called."""
        return self._told

    def hush(self) -> None:
        """Have nothing more said of this connection."""
        self._told = True

    def abort(self) -> None:
        """Drop the connection with all that is still in its buffers, those of the kernel included: late is worse than never."""
        self._told = True
        self._stop_tasks()
        writer = self._writer()
        if writer is None:
            return
        plain = writer.get_extra_info("socket")
        if plain is not None and not writer.transport.is_closing():  # a closed one may be another connection's by now
            with contextlib.suppress(OSError, NotImplementedError):  # closed already, or not a socket
                plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        writer.transport.abort()

    def said(self, text: str) -> None:
        """Take an error of the server: a refused subject, or why it is about to end the connection."""
        if _PERMISSION in text.lower():
            if text not in self._refusals and len(self._refusals) < _TOLD:  # one line each, not one per message
                self._refusals.add(text)
                logger.warning("NATS refuses: {text}", text=text)
            self.refused(text)
        else:
            self._last_words = text

    @property
    def transport(self) -> asyncio.Transport | None:
        """The socket, if all that `hand_over` needs is where it used to be."""
        writer = self._writer()
        tasks = [getattr(self, name, None) for name in _TASKS]
        reader = getattr(getattr(self, "_transport", None), "_io_reader", None)
        if writer is None or not isinstance(reader, asyncio.StreamReader) or not all(isinstance(task, asyncio.Task) for task in tasks):
            return None
        return cast("asyncio.Transport", writer.transport)

    async def hand_over(self, protocol: asyncio.Protocol) -> bytes:
        """Give the socket to another protocol, and return what has been read from it already; nats-py does nothing more with it."""
        transport, reader = self.transport, getattr(self._transport, "_io_reader", None)
        assert transport is not None
        assert reader is not None
        self._stop_tasks()
        transport.set_protocol(protocol)
        reader.feed_eof()
        early: bytes = await reader.read()
        return early

    async def bury(self) -> None:
        """End what is left of it: the socket, if it is still open, and its tasks. Bounded."""
        self.abort()
        try:
            async with asyncio.timeout(1):
                await self.close()
        except Exception as error:  # noqa: BLE001 - it is over whatever it says, and it may say anything
            logger.debug("an old NATS connection ended with {error!r}", error=error)
        self._stop_tasks()

    def _stop_tasks(self) -> None:
        for name in _TASKS:
            task = getattr(self, name, None)
            if isinstance(task, asyncio.Task) and task is not asyncio.current_task():  # one of them may be what found it dead
                task.cancel()

    def _writer(self) -> asyncio.StreamWriter | None:
        return getattr(getattr(self, "_transport", None), "_io_writer", None)

    async def _report(self, error: Exception) -> None:
        if self._dialing:
            raise error  # nats-py would try again for ever
        if isinstance(error, nats.errors.SlowConsumerError):
            self._drop(error.subject.encode(), "the subscription's buffer is full")
        elif isinstance(error, nats.errors.Error) and not self._last_words:
            self.said(str(error).removeprefix("nats: "))

    def _drop(self, subject: bytes, why: str) -> None:
        self.dropped += 1
        if self.dropped & (self.dropped - 1) == 0:  # the 1st, 2nd, 4th, 8th...: a flood of them must not become one of lines
            logger.warning("message {count} on {subject!r} is dropped: {reason}", count=self.dropped, subject=subject, reason=why)

    async def _closed(self) -> None:
        self.end("connection closed")

    async def _discovered(self) -> None:
        self.discovered([server.netloc for server in self.discovered_servers])

    async def _announced(self) -> None:
        self.leaving()

    # From here on: private methods of nats-py.

    def _connect_command(self) -> bytes:
        info = self._server_info
        if self.demands_tls and not info.get("tls_required") and not self.encrypted:
            raise ConnectionAbortedError("it does not offer TLS")  # before the credentials are sent
        return super()._connect_command()

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        try:
            await super()._process_msg(sid, subject, reply, data, headers)
        except (UnicodeError, IndexError, ValueError):  # not UTF-8, or a header block without a line: a peer's, and no reason to stop
            self._drop(subject, "nats-py cannot read it")

    async def _process_op_err(self, e: Exception) -> None:
        self.end(str(e).removeprefix("nats: ") or type(e).__name__)

    async def _process_err(self, err_msg: str) -> None:
        self.said(err_msg.strip("'"))
