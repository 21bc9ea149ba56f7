"""A TCP proxy that misbehaves on request: holds bytes back, refuses, resets, delays."""

import asyncio
import contextlib
import socket
import struct
from types import TracebackType
from typing import Self

_CHUNK = 65_536


class Proxy:
    """Between a client and ``port`` on loopback; ``mode`` is ``pass``, ``blackhole`` (nothing goes through), ``swallow`` or ``refuse``."""

    def __init__(self, port: int) -> None:
        self.target = port
        self.port = 0
        self.mode = "pass"
        self.latency = 0.0
        self.accepted = 0
        self._passing = asyncio.Event()
        self._passing.set()
        self._going = asyncio.Event()
        self._going.set()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        """Where clients connect to."""
        return f"nats://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        self.reset()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def blackhole(self) -> None:
        """Keep all connections open and let nothing through, as a partition does."""
        self.mode = "blackhole"
        self._passing.clear()

    def swallow(self) -> None:
        """Keep what clients send, and let through what they are sent, as a path does that is broken in one direction."""
        self.mode = "swallow"
        self._going.clear()

    def refuse(self) -> None:
        """Cut all connections and close each new one at once."""
        self.mode = "refuse"
        self._passing.set()
        self._going.set()
        self.reset()

    def heal(self) -> None:
        """Let everything through again, what was held back included."""
        self.mode = "pass"
        self._passing.set()
        self._going.set()

    def reset(self) -> None:
        """Cut all connections with RST."""
        for writer in list(self._writers):
            plain = writer.get_extra_info("socket")
            with contextlib.suppress(OSError, AttributeError):
                plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        self.accepted += 1
        try:
            await self._connect(reader, writer)
        except (OSError, RuntimeError, asyncio.CancelledError):  # the peer is gone (RuntimeError: on uvloop), or the test is over
            writer.transport.abort()
        finally:
            self._tasks.discard(task)
            self._writers.discard(writer)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.mode == "refuse":
            writer.transport.abort()
            return
        await self._passing.wait()
        there, back = await asyncio.open_connection("127.0.0.1", self.target)
        self._writers.add(back)
        try:
            await asyncio.gather(self._pump(reader, back, self._going), self._pump(there, writer))
        finally:
            self._writers.discard(back)
            back.transport.abort()
            writer.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, going: asyncio.Event | None = None) -> None:
        while data := await reader.read(_CHUNK):
            await self._passing.wait()
            if going is not None:
                await going.wait()
            if self.latency:
                await asyncio.sleep(self.latency)
            writer.write(data)
            await writer.drain()
        writer.close()
