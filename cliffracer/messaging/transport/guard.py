"""A nats-py client for one connection: it connects and authenticates, and never decides on its own what happens after a loss.

nats-py's reconnection is switched off, because it gives up for ever on an expired token or a rotated password, hangs on a peer
that is gone with bytes in flight, and ends when a callback raises; `Link` makes a new client instead. The overrides of private
methods below only make things better where they exist: without them a loss is noticed later, by `is_closed` and by pings.
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from typing import Any

import nats.errors
from loguru import logger
from nats.aio.client import Client

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_PERMISSION = "permissions violation"


class GuardedClient(Client):
    """One connection to one server; `lost` is told once when it is over."""

    def __init__(self, address: str, lost: Callable[["GuardedClient", str], None]) -> None:
        super().__init__()
        self.address = address
        self.demands_tls = False
        self.refused: Callable[[str], None] = lambda _: None
        """Told what the server does not permit."""
        self.leaving: Callable[[], None] = lambda: None
        """Told when the server announces that it goes away."""
        self.dropped = 0
        self._told = False
        self._dialing = True
        self._lost = lost
        self._last_words = ""

    async def open(self, address: str, **options: Any) -> None:
        """Connect and authenticate, in one attempt; raises what went wrong."""
        await self.connect(
            [address],
            allow_reconnect=False,
            error_cb=self._report,
            closed_cb=self._closed,
            lame_duck_mode_cb=self._announced,
            max_outstanding_pings=2,
            ping_interval=5,
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

    async def flush(self, timeout: int = 10) -> None:
        """Make a round trip after all that was published: nats-py writes its PING ahead of what it has not written yet."""
        while self.pending_data_size and self.is_connected:  # noqa: ASYNC110 - nats-py has no event for it
            await asyncio.sleep(0.001)
        await super().flush(timeout)

    def end(self, why: str) -> None:
        """Say that this connection is over; the first reason counts, and a server's last words explain best."""
        if not self._told:
            self._told = True
            self._lost(self, self._last_words or why)

    def hush(self) -> None:
        """Have nothing more said of this connection."""
        self._told = True

    def abort(self) -> None:
        """Drop the connection with all that is still in its buffers, those of the kernel included: late is worse than never."""
        self._told = True
        writer = self._writer()
        if writer is None:
            return
        plain = writer.get_extra_info("socket")
        if plain is not None:
            with contextlib.suppress(OSError, NotImplementedError):  # closed already, or not a socket
                plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        writer.transport.abort()

    def said(self, text: str) -> None:
        """Take an error of the server: a refused subject, or why it is about to end the connection."""
        if _PERMISSION in text.lower():
            logger.warning("NATS refuses: {text}", text=text)
            self.refused(text)
        else:
            self._last_words = text

    def _writer(self) -> asyncio.StreamWriter | None:
        return getattr(getattr(self, "_transport", None), "_io_writer", None)

    async def _report(self, error: Exception) -> None:
        if self._dialing:
            raise error  # nats-py would try again for ever
        if isinstance(error, nats.errors.SlowConsumerError):
            self.dropped += 1
        elif isinstance(error, nats.errors.Error):
            self.said(str(error).removeprefix("nats: "))

    async def _closed(self) -> None:
        self.end("connection closed")

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
            self.dropped += 1
            logger.warning("a message on {subject!r} cannot be read and is dropped", subject=subject)

    async def _process_op_err(self, e: Exception) -> None:
        self.end(str(e).removeprefix("nats: ") or type(e).__name__)

    async def _process_err(self, err_msg: str) -> None:
        self.said(err_msg.strip("'"))
