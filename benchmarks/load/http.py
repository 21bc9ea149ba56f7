"""HTTP/1.1 without a client library: some connections that stay open, one request at a time on each."""

import asyncio
import time
from typing import Any

from benchmarks.load.result import Result
from benchmarks.payload import REQUEST, means_receipt

PATIENCE = 10.0


class Caller(asyncio.Protocol):
    """One connection: asks again as soon as it is answered."""

    def __init__(self, crowd: "Crowd") -> None:
        self.crowd = crowd
        self.transport: Any = None
        self.sent = 0.0
        self.answer = b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def ask(self) -> None:
        self.sent = time.perf_counter()
        self.transport.write(self.crowd.request)

    def data_received(self, data: bytes) -> None:
        if self.answer:
            data = self.answer + data
        head, blank, body = data.partition(b"\r\n\r\n")
        if not blank or len(body) < length_of(head):
            self.answer = data
            return
        self.answer = b""
        self.crowd.answered(self, head, body)

    def connection_lost(self, exc: Exception | None) -> None:
        self.crowd.lost(exc)


def length_of(head: bytes) -> int:
    """Return the content length that a response head announces."""
    place = head.lower().find(b"content-length:")
    return int(head[place + 15 :].split(b"\r\n", 1)[0]) if place >= 0 else 0


class Crowd:
    """All connections together."""

    def __init__(self, port: int, method: str, path: str) -> None:
        head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAccept: application/json\r\n"
        body = REQUEST if method == "POST" else b""
        if body:
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        self.request = head.encode() + b"\r\n" + body
        self.port = port
        self.latencies: list[float] = []
        self.errors = 0
        self.reason = ""
        self.expected = b""
        self.flying = 0
        self.until = 0.0
        self.over = asyncio.get_running_loop().create_future()

    async def run(self, connections: int, seconds: float) -> Result:
        """Ask on every connection for some seconds and return what came of it."""
        loop = asyncio.get_running_loop()
        opened = [await loop.create_connection(lambda: Caller(self), "127.0.0.1", self.port) for _ in range(connections)]
        began = time.perf_counter()
        self.until, self.flying = began + seconds, connections
        for _, caller in opened:
            caller.ask()
        done, _ = await asyncio.wait([self.over], timeout=seconds + PATIENCE)
        ended = time.perf_counter()
        if not done:
            self.fail(f"{self.flying} requests were never answered")
        self.over.cancel()
        for transport, _ in opened:
            transport.close()
        return Result.of(self.latencies, ended - began, self.errors, self.reason)

    def answered(self, caller: Caller, head: bytes, body: bytes) -> None:
        now = time.perf_counter()
        self.expected = self.expected or (body if means_receipt(body) else b"")
        if body != self.expected or head[9:12] not in (b"200", b"201"):
            self.fail((head[:40] + b" ... " + body[:160]).decode(errors="replace"))
        self.latencies.append(now - caller.sent)
        if now < self.until:
            caller.ask()
            return
        self.flying -= 1
        if self.flying == 0 and not self.over.done():
            self.over.set_result(None)

    def lost(self, exc: Exception | None) -> None:
        if not self.over.done():
            self.fail(f"connection closed by the server: {exc}")
            self.over.set_result(None)

    def fail(self, reason: str) -> None:
        self.errors += 1
        self.reason = self.reason or reason
