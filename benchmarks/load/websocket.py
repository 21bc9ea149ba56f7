"""A crowd of WebSocket clients on raw sockets: they connect once, and count what is broadcast to them."""

import asyncio
import contextlib
import time
from typing import Any

from benchmarks.load.nats import Connection
from benchmarks.load.result import Result
from benchmarks.payload import REQUEST

PATIENCE = 10.0
TEXT, BINARY = 1, 2


class Watcher(asyncio.Protocol):
    """One client: counts the messages it gets, RFC 6455 frames from a server."""

    def __init__(self, audience: "Audience") -> None:
        self.audience = audience
        self.transport: Any = None
        self.buffer = b""
        self.open = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.write(self.audience.handshake)

    def data_received(self, data: bytes) -> None:
        data = self.buffer + data
        if not self.open.done():
            head, blank, data = data.partition(b"\r\n\r\n")
            if not blank:
                self.buffer = head
                return
            self.open.set_result(head[9:12] == b"101")
        position = 0
        while len(data) - position >= 2:
            size, start = data[position + 1], position + 2
            if size == 126:
                size, start = int.from_bytes(data[position + 2 : position + 4]), position + 4
            if len(data) < start + size:
                break
            if data[position] & 15 in (TEXT, BINARY):
                self.audience.heard(data[start : start + size])
            position = start + size
        self.buffer = data[position:]

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.open.done():
            self.open.set_result(False)
        self.audience.lost += 1


class Audience:
    """All clients of one server."""

    def __init__(self, port: int, path: str) -> None:
        self.port = port
        self.handshake = (
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        ).encode()
        self.size = self.count = self.wrong = self.lost = 0
        self.payload = b""
        self.everyone = asyncio.Event()
        self.watchers: list[Watcher] = []

    async def gather(self, size: int) -> None:
        """Connect everyone, fifty at a time."""
        loop = asyncio.get_running_loop()
        for start in range(0, size, 50):
            watchers = [Watcher(self) for _ in range(min(50, size - start))]
            for watcher in watchers:
                await loop.create_connection(lambda watcher=watcher: watcher, "127.0.0.1", self.port)
            if not all(await asyncio.wait_for(asyncio.gather(*(watcher.open for watcher in watchers)), PATIENCE)):
                raise ConnectionError("the server refused a WebSocket")
            self.watchers += watchers
        self.size = size

    def heard(self, payload: bytes) -> None:
        self.payload = self.payload or payload
        self.wrong += payload != self.payload
        self.count += 1
        if self.count >= self.size:
            self.everyone.set()

    async def settle(self, publisher: Connection, subject: str) -> None:
        """Return when a message has reached everyone: subscriptions may take a moment to be made."""
        until = time.perf_counter() + PATIENCE
        while time.perf_counter() < until:
            await asyncio.sleep(0.5)  # stragglers of the last try
            result = await self.watch(publisher, subject, 0.0)
            if not result.errors:
                return
        raise ConnectionError(f"a message never reached all of {self.size}: {result.reason}")

    async def watch(self, publisher: Connection, subject: str, seconds: float) -> Result:
        """Publish one message after the other for some seconds, each when everyone has the last."""
        frame = f"PUB {subject} {len(REQUEST)}\r\n".encode() + REQUEST + b"\r\n"
        latencies: list[float] = []
        began = time.perf_counter()
        while not latencies or time.perf_counter() - began < seconds:
            self.count = 0
            self.everyone.clear()
            sent = time.perf_counter()
            publisher.transport.write(frame)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.everyone.wait(), 2.0)
            latencies.append(time.perf_counter() - sent)
            if self.count != self.size or self.wrong or self.lost:
                reason = f"{self.count} of {self.size} heard it, {self.wrong} heard something else, {self.lost} were cut off"
                return Result(len(latencies), time.perf_counter() - began, 1, reason)
        return Result.of(latencies, time.perf_counter() - began)
