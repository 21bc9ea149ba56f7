"""NATS without a client library: a requester, a responder and a publisher that cost about 2 µs a message.

Requests stand ready as bytes, one per slot; the slot's number is the last token of its reply subject, so a reply is
matched by three digits at a known place. A reply that says something else than the receipt is an error.
"""

import asyncio
import time
from typing import Any
from urllib.parse import urlsplit

from benchmarks.load.result import Result
from benchmarks.payload import HEADERS, REPLY, REQUEST, encode, means_receipt

HELLO = {"verbose": False, "pedantic": False, "headers": True, "no_responders": True, "lang": "bench", "version": "1"}
BLOCK = b"NATS/1.0\r\n" + b"".join(f"{name}: {value}\r\n".encode() for name, value in HEADERS.items()) + b"\r\n"
GRACE = 10.0  # s without any reply: what is still out is lost


class Connection(asyncio.Protocol):
    """The protocol's lines, cut from the stream; what a message means is the subclass's."""

    def __init__(self) -> None:
        self.tail = b""
        self.transport: Any = None
        self.pongs: list[asyncio.Future[None]] = []

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    async def flush(self) -> None:
        """Return when the server has handled everything sent so far."""
        future = asyncio.get_running_loop().create_future()
        self.pongs.append(future)
        self.transport.write(b"PING\r\n")
        await asyncio.wait_for(future, GRACE)

    def data_received(self, data: bytes) -> None:
        data = self.tail + data
        position, size, find = 0, len(data), data.find
        while position < size:
            end = find(b"\r\n", position)
            if end < 0:
                break
            kind = data[position]
            if kind in (77, 72):  # MSG subject sid [reply] size, HMSG subject sid [reply] header-size size
                words = data[position:end].split()
                stop = end + 2 + int(words[-1])
                if stop + 2 > size:
                    break
                header = int(words[-2]) if kind == 72 else 0
                self.message(words, data[end + 2 : end + 2 + header], data[end + 2 + header : stop])
                position = stop + 2
            else:
                self._control(data[position:end])
                position = end + 2
        self.tail = data[position:]
        self.chunk_done()

    def _control(self, line: bytes) -> None:
        if line == b"PONG":
            self.pongs.pop(0).set_result(None)
        elif line == b"PING":
            self.transport.write(b"PONG\r\n")
        elif line.startswith(b"-ERR"):
            raise RuntimeError(line.decode())

    def message(self, words: list[bytes], header: bytes, payload: bytes) -> None:
        """Take one message."""

    def chunk_done(self) -> None:
        """Everything that came at once has been taken: time to write."""


async def connect(url: str, protocol: Connection) -> None:
    """Connect, and return when the server answers."""
    where = urlsplit(url)
    await asyncio.get_running_loop().create_connection(lambda: protocol, where.hostname, where.port)
    who = {"user": where.username, "pass": where.password} if where.password else {"auth_token": where.username} if where.username else {}
    protocol.transport.write(b"CONNECT %b\r\n" % encode(HELLO | who))
    await protocol.flush()


class Requester(Connection):
    """A closed loop: as many requests in flight as there are slots, each answered before its slot asks again."""

    def __init__(self, subject: str, inflight: int, *, headers: bool) -> None:
        super().__init__()
        self.inbox = f"_INBOX.bench{time.monotonic_ns():x}."
        self.frames = [self._frame(subject, f"{self.inbox}{slot:03d}", headers=headers) for slot in range(inflight)]
        self.sent = [0.0] * inflight
        self.latencies: list[float] = []
        self.errors = 0
        self.reason = ""
        self.expected = b""
        self.out: list[bytes] = []
        self.flying = 0
        self.until = self.wanted = 0.0
        self.heard = 0.0
        self.over = asyncio.get_running_loop().create_future()

    @staticmethod
    def _frame(subject: str, reply: str, *, headers: bool) -> bytes:
        if headers:
            return f"HPUB {subject} {reply} {len(BLOCK)} {len(BLOCK) + len(REQUEST)}\r\n".encode() + BLOCK + REQUEST + b"\r\n"
        return f"PUB {subject} {reply} {len(REQUEST)}\r\n".encode() + REQUEST + b"\r\n"

    async def run(self, seconds: float, calls: int = 0) -> Result:
        """Ask for some seconds, or for a number of calls, and return what came of it."""
        self.transport.write(f"SUB {self.inbox}* 1\r\n".encode())
        await self.flush()
        began = self.heard = time.perf_counter()
        self.until, self.wanted = began + seconds, calls or float("inf")
        self.sent = [began] * len(self.sent)
        self.flying = len(self.frames)
        self.transport.write(b"".join(self.frames))
        while not self.over.done():
            await asyncio.wait([self.over], timeout=1.0)
            if time.perf_counter() - self.heard > GRACE:
                self.errors += self.flying
                self.reason = self.reason or f"{self.flying} calls were never answered"
                break
        return Result.of(self.latencies, self.heard - began, self.errors, self.reason)

    def message(self, words: list[bytes], header: bytes, payload: bytes) -> None:
        slot = int(words[1][-3:])
        if (payload != self.expected or not payload) and not self._right(payload):
            self.errors += 1
            self.reason = self.reason or (header + payload)[:200].decode(errors="replace")
        now = time.perf_counter()
        self.latencies.append(now - self.sent[slot])
        if now < self.until and len(self.latencies) + self.flying <= self.wanted:
            self.sent[slot] = now
            self.out.append(self.frames[slot])
        else:
            self.flying -= 1
            if self.flying == 0:
                self.over.set_result(None)

    def _right(self, payload: bytes) -> bool:
        """Read the first answer as JSON, since layout is the contestant's own; the others have to be the same bytes."""
        if self.expected or not means_receipt(payload):
            return False
        self.expected = payload
        return True

    def chunk_done(self) -> None:
        self.heard = time.perf_counter()
        if self.out:
            self.transport.write(b"".join(self.out))
            self.out.clear()


class Responder(Connection):
    """Answers every request on a subject with the one receipt."""

    def __init__(self) -> None:
        super().__init__()
        self.out: list[bytes] = []
        self.answer = b" %d\r\n%b\r\n" % (len(REPLY), REPLY)

    def message(self, words: list[bytes], header: bytes, payload: bytes) -> None:
        self.out.append(b"PUB " + words[3] + self.answer)

    def chunk_done(self) -> None:
        if self.out:
            self.transport.write(b"".join(self.out))
            self.out.clear()


class Publisher(Connection):
    """Publishes ahead of a consumer, never by more than a window; the consumer tells its count every 500 messages."""

    def __init__(self, subject: str, progress: str, *, window: int) -> None:
        super().__init__()
        self.frame = f"PUB {subject} {len(REQUEST)}\r\n".encode() + REQUEST + b"\r\n"
        self.progress = progress
        self.window = window
        self.base: int | None = None
        self.seen = 0
        self.moved = asyncio.Event()

    async def run(self, count: int) -> Result:
        """Publish a number of messages (of 500) and return when the consumer has seen the last."""
        self.transport.write(f"SUB {self.progress} 1\r\n".encode())
        await self.flush()
        began, sent = time.perf_counter(), 0
        while self.seen < count:
            room = min(count, self.seen + self.window) - sent
            if room > 0:
                self.transport.write(self.frame * room)
                sent += room
            self.moved.clear()
            try:
                await asyncio.wait_for(self.moved.wait(), GRACE)
            except TimeoutError:
                return Result(self.seen, time.perf_counter() - began, count - self.seen, f"{count - self.seen} messages never arrived")
        return Result(count, time.perf_counter() - began)

    def message(self, words: list[bytes], header: bytes, payload: bytes) -> None:
        number = int(payload)
        if self.base is None:
            self.base = number - 500
        self.seen = number - self.base
        self.moved.set()
