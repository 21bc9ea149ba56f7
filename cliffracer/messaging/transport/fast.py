"""The fast transport: safe and cheap in one design.

nats-py connects, authenticates and does TLS (`GuardedClient`, `Dialer`); `Link` decides about reconnection. The socket is then
taken over: a `Reader` feeds the `Parser`, which calls receivers by subscription id; a `Writer` gathers frames and writes once or
twice per loop turn or chunk; a `Mux` matches replies. No task, queue, future or object per message but those that somebody asked for.

What is guarded against, and where: a peer's subject or header block that is no UTF-8 or no headers (everything stays bytes here);
VT and FF in subjects (`Parser`); messages and subjects for which the server would cut the connection (`ReconnectingBus.check`); a
server that hangs (pings, `Writer` limits, `GuardedClient.abort`); running late what nobody waits for (`Held`, `Mux`); a burst that
starves everything else (the parser's time slice, then `pause_reading`, so a flood waits in the kernel and in the server); receivers
and listeners that raise. Drain is UNSUB, then a round trip: everything before the answer has been received by then.
"""

import asyncio
from math import inf
from time import monotonic
from typing import Any

from nats.aio.client import __version__

from cliffracer.errors import Unavailable
from cliffracer.messaging.transport.guard import GuardedClient
from cliffracer.messaging.transport.interface import Receive
from cliffracer.messaging.transport.link import Unfit
from cliffracer.messaging.transport.reader import Reader
from cliffracer.messaging.transport.reconnecting import MAX_CONTROL, PATIENCE, SILENT, Interest, ReconnectingBus, fits
from cliffracer.messaging.transport.writer import LARGE, Writer

_SMALL = 2048  # bytes from which on the size of a payload does not stand ready as text
_SIZES = [b" %d\r\n" % size for size in range(_SMALL)]
_LENGTHS: list[bytes] = []  # the same of headers, from the first request on: who makes none has 0.1 MB less
_ASKED = 1000  # subjects whose requests stand ready up to the token


class FastBus(ReconnectingBus):
    """A `Bus` that reads and writes the socket itself."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._routes: dict[bytes, Receive] = {}
        self._heads: dict[bytes, bytes] = {}  # how a request begins, by its subject, which has been checked
        self._reader: Reader | None = None
        self._writer: Writer

    def publish(
        self,
        subject: bytes,
        payload: bytes,
        block: bytes | None = None,
        reply: bytes = b"",
        *,
        deadline: float | None = None,
    ) -> None:
        size = len(payload) if block is None else len(block) + len(payload)
        if (
            size > self.max_payload
            or len(subject) + len(reply) > MAX_CONTROL
            or subject.split() != [subject]
            or (reply and not (reply.startswith(self._mux.prefix) or fits(reply)))
        ):
            self.check(subject, reply, size)  # the exact one
        if not self.open:
            self.hold((subject, payload, block, reply), deadline)
            return
        writer = self._writer
        parts = writer.parts
        if block is None:
            parts += (b"PUB ", subject, b" ", reply, _SIZES[size] if size < _SMALL else b" %d\r\n" % size, payload, b"\r\n")
        else:
            parts += (b"HPUB %b %b %d %d\r\n" % (subject, reply, len(block), size), block, payload, b"\r\n")
        if not writer.due:
            writer.schedule()
        elif size > LARGE or len(parts) > writer.most:
            writer.relieve()

    def ask(self, subject: bytes, payload: bytes, block: bytes | None, token: bytes, deadline: float) -> None:
        head = self._heads.get(subject)
        if head is None or block is None or not self.open or (size := len(block) + len(payload)) >= _SMALL or size > self.max_payload:
            super().ask(subject, payload, block, token, deadline)
            if head is None and block is not None:
                if not _LENGTHS:
                    _LENGTHS.extend(b" %d" % size for size in range(_SMALL))
                if len(self._heads) >= _ASKED:
                    self._heads.clear()  # those that are asked all the time are back with the next request
                self._heads[subject] = b"HPUB %b %b" % (subject, self._mux.prefix)
            return
        writer = self._writer
        parts = writer.parts
        parts += (head, token, _LENGTHS[len(block)], _SIZES[size], block, payload, b"\r\n")
        if not writer.due:
            writer.schedule()
        elif len(parts) > writer.most:
            writer.relieve()

    def answer(self, subject: bytes, payload: bytes, block: bytes | None = None, deadline: float | None = None) -> None:
        size = len(payload)
        if block is not None or size >= _SMALL or size > self.max_payload or len(subject) > MAX_CONTROL or not self.open:
            self.publish(subject, payload, block, deadline=deadline)
            return
        writer = self._writer
        parts = writer.parts
        parts += (b"PUB ", subject, _SIZES[size], payload, b"\r\n")
        if not writer.due:
            writer.schedule()
        elif len(parts) > writer.most:
            writer.relieve()

    async def end(self, interest: Interest, *, drained: bool) -> None:
        number = b"%d" % interest.number
        if self._interests.pop(interest.number, None) is None:
            return
        try:
            if self._reader is not None:
                self._writer.put(b"UNSUB %b\r\n" % number)
                if drained:
                    await self._round_trip(PATIENCE, SILENT)
        except Unavailable:  # the connection ended, and with it the subscription: nothing more can come
            pass
        finally:
            self._routes.pop(number, None)

    async def _begin(self, interest: Interest) -> None:
        if interest.number not in self._interests:
            return
        number = b"%d" % interest.number
        self._routes[number] = interest.receive
        self._writer.put(b"SUB %b %b %b\r\n" % (interest.subject.encode(), interest.queue.encode(), number))

    async def _take(self, client: GuardedClient) -> None:
        transport = client.transport
        if transport is None:
            raise Unfit(f"nats-py {__version__} hides its connection")
        self._reader = reader = Reader(
            client,
            transport,
            self._routes,
            failed=self.failed,
            flowing=lambda flows: self._flow(reader, flows),
            informed=lambda info: self._informed(client, info),
            ping=self._ping,
        )
        self._writer = reader.writer
        early = await client.hand_over(reader)
        if early:
            reader.data_received(early)

    def _flow(self, reader: Reader, flows: bool) -> None:
        """Hold what is published while the server does not take it, also while this connection is only being made."""
        if reader is self._reader and not self._closing:
            (self._unblock if flows else self._block)()

    def _drop(self) -> None:
        self._reader = None

    async def _hang_up(self) -> None:
        if self._reader is not None:
            try:
                async with asyncio.timeout(1):
                    await self._reader.hang_up()
            except TimeoutError:  # it takes nothing: the rest is dropped with the connection
                pass

    async def _round_trip(self, timeout: float, silent: float = inf) -> None:
        reader = self._reader
        if reader is None:
            raise Unavailable("NATS is away", reason="away")
        until, done = monotonic() + timeout, reader.round_trip()
        try:
            while not done.done() and (left := min(until - monotonic(), silent - reader.silent)) > 0:
                await asyncio.wait({done}, timeout=left)
        finally:
            answered = not done.cancel()
        if not answered:
            why = "NATS does not answer" if monotonic() < until else f"NATS did not confirm within {timeout:.2g} s"
            raise Unavailable(why, reason="away")
        done.result()

    @property
    def silent(self) -> float:
        return 0.0 if self._reader is None else self._reader.silent

    def probe(self) -> None:
        if self._reader is not None:
            self._reader.probe()
