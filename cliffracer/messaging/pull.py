"""A pull loop of our own (ADR-37): asks for as many messages as there is room for, and notices when nobody answers.

Consumers of the stock client stop silently after a restart of the server. This one asks anew whenever the connection is another
one, a heartbeat is missing, or the server ends a request; and has the consumer made again when it is gone.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

import msgspec
from loguru import logger

from cliffracer.errors import Unavailable
from cliffracer.messaging.bus import Bus, Subscription
from cliffracer.messaging.configurations import NANOSECONDS
from cliffracer.messaging.delivery import ACK, LEFT, PREFIX, PROGRESS, TERM, Delivery, words_of
from cliffracer.wire.headers import Headers, status_of

HEARTBEAT = 2.0  # seconds between signs of life of a request that has nothing to deliver
EXPIRES = 30.0  # seconds that a request stays with the server, at most: so long it may hand messages to a machine that stands still
TICK = 0.25  # seconds between two looks at whether all is well
MISSED = 2.5  # heartbeats that may be missing
BYTES = 4 * 1024 * 1024
"""What one request brings at most, unless one message is larger."""
TOTAL = 32 * 1024 * 1024
"""What those of all consumers of a connection bring together: a server cuts off who does not read fast enough what he asked for, and 64 MiB
wait for that at most."""
_OVERHEAD = 64 * 1024  # bytes of a message that are no payload, nor headers
HEALTHY = 5.0  # seconds without trouble after which the next trouble is met at once
_LONGEST_PAUSE = 5.0
_FULL, _DONE = b"Message Size Exceeds MaxBytes", b"Batch Completed"  # what the server says at the end of a request that has ``max_bytes``

_pulls: WeakKeyDictionary[Bus, WeakSet["Pull"]] = WeakKeyDictionary()  # those of a connection that do not just look on

Take = Callable[[Delivery], None]
Ensure = Callable[[], Awaitable[str]]


class Pull:
    """Delivers one consumer's messages to ``take``, never more than ``limit`` in hand at once.

    ``ensure`` makes the consumer, or makes it again, and returns when it was made; it is called at the start and after every trouble.
    """

    def __init__(
        self, bus: Bus, stream: str, consumer: str, *, take: Take, ensure: Ensure, limit: int = 100, ack_wait: float = 30.0,
        heartbeat: float = HEARTBEAT, together: int = 1, silent: bool = False,
    ) -> None:  # fmt: skip
        self.bus = bus
        self.stream = stream
        self.consumer = consumer
        self.limit = limit
        self._loop = asyncio.get_running_loop()
        self.held: dict[bytes, Delivery] = {}
        """What is in hand: delivered and not answered yet."""
        self.resets, self.trouble = 0, ""  # how often it began anew, and why it cannot now
        self._take = take
        self._ensure = ensure
        self.ack_wait = ack_wait
        self._heartbeat = heartbeat
        self._expires = max(2 * heartbeat, min(EXPIRES, ack_wait))
        self._silent = silent  # the consumer wants no acks
        self._next = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}".encode()
        self._stream, self._consumer = stream.encode(), consumer.encode()
        self._acks, self._cut = b"\n", 0  # how its latest ack subject began, up to its five last words: none begins like this
        self._finished, self._earlier = dict[bytes, bytes](), dict[bytes, bytes]()  # ack subjects of what was acked of late, and before
        self._remembered = 5 * limit  # in each of the two
        self._together = together  # ``take`` waits for so many
        self._few = limit // 2  # in hand or asked for: then more are asked for
        self._made = ""
        self._asked = 0  # messages that the server still owes us
        self._least = 0  # bytes that it takes to get anything
        self._latest = 0  # how many messages were asked for last
        self._subscription: Subscription | None = None
        self._inbox = b""
        self._connection: dict[str, Any] = {}  # the INFO of the connection that we asked over
        self._heard = 0.0  # as of the last tick
        self._news = self._draining = False
        self._later = False  # something will be asked for in the next turn
        self._gone = False
        self._stale = False  # we have overslept
        self._extended = 0.0  # when we last said that we live
        self._watch: asyncio.Task[None] | None = None
        self._extension: asyncio.TimerHandle | None = None
        if not silent:
            _pulls.setdefault(bus, WeakSet()).add(self)

    async def start(self) -> None:
        """Return once the consumer is there and messages are asked for; set-up errors are raised."""
        connection = self.bus.info
        self._made = await self._ensure()
        await self._renew(connection)
        self._extended = time.monotonic()
        self._extension = self._loop.call_later(self.ack_wait / 3, self._extend)
        self._watch = self._loop.create_task(self._watching(), name=f"pull {self.consumer}")

    async def stop(self) -> None:
        """Ask for nothing more; when this returns, all that the server had sent has been received. What is in hand stays in hand."""
        self._draining = True
        if self._subscription is not None:
            await self._subscription.drain()
            self._subscription = None

    def room(self, limit: int) -> None:
        """Have up to so many in hand from now on."""
        self.limit = limit
        self._ask()

    def lose(self) -> None:
        """Begin anew with the consumer: something that it should have delivered is missing."""
        self._gone = True

    def overslept(self) -> bool:
        """Say whether we stood still for so long that others have what was sent to us, until we have begun anew."""
        if not self._silent and time.monotonic() - self._extended > self.ack_wait:
            self._stale = self._gone = True
        return self._stale

    def leave(self, delivery: Delivery) -> None:
        """Give no answer to a delivery: another replica has it by now, or it comes again."""
        self.held.pop(delivery.key, None)
        delivery.settled = LEFT

    async def close(self) -> None:
        """End the loop, after `stop` and after everything in hand was answered."""
        _pulls.get(self.bus, WeakSet()).discard(self)
        if self._extension is not None:
            self._extension.cancel()
            self._extension = None
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.wait([self._watch])
            self._watch = None
        if self._subscription is not None:
            await self._subscription.close()
            self._subscription = None

    # -- asking

    def _ask(self) -> None:
        """Ask for as many messages as there is room for; small requests only when nothing else is asked for."""
        free = self.limit - len(self.held) - self._asked
        enough = self._asked and self.limit - free > self._few and self.limit - free >= self._together
        if free <= 0 or enough or self._draining or not self._inbox or self._gone:
            return
        body = {"batch": free, "expires": int(self._expires * NANOSECONDS), "idle_heartbeat": int(self._heartbeat * NANOSECONDS)}
        largest = self.bus.max_payload + _OVERHEAD
        most = max(largest, self._least, min(BYTES, TOTAL // max(1, len(_pulls.get(self.bus, ())))))
        if free * largest > most:
            body["max_bytes"] = most
        if not self._asked:
            self._heard = time.monotonic()
        self._asked += free
        self._latest = free
        try:
            self.bus.publish(self._next, msgspec.json.encode(body), None, self._inbox, deadline=time.monotonic() + self._heartbeat)
        except Unavailable:  # away, and the buffer is full: the watch asks again when it is back
            self._asked -= free

    def _ask_at_last(self) -> None:
        self._later = False
        self._ask()

    async def _renew(self, connection: dict[str, Any], *, same: bool = False) -> None:
        """Ask on a new subject; what the server sent to the old one is received, if the consumer is the ``same``, what it owes is void.

        ``connection`` is that over which ``ensure`` began.
        """
        old, self._subscription = self._subscription, None
        self._inbox = b""
        self._connection = connection  # if there is another by now, the watch sees it
        self._asked = 0
        if old is not None and same and not self._silent:
            await old.drain()
        elif old is not None:
            await old.close()
        self._stale = False
        subject = self.bus.private_subject()
        self._subscription = await self.bus.subscribe(subject, self._receive)
        self._inbox = subject.encode()
        self._heard = time.monotonic()
        self._ask()

    # -- receiving

    def _receive(self, subject: bytes, reply: bytes, block: bytes | None, payload: bytes) -> None:
        self._news = True
        words: Sequence[bytes] = reply[self._cut :].split(b".") if reply.startswith(self._acks) else ()
        if len(words) != 5 and not (words := self._told(subject, reply, block)):
            return
        attempt, number, _, stored, _ = words
        key = stored + number
        try:
            times = 1 if attempt == b"1" else int(attempt)
        except ValueError:
            return
        delivery = Delivery(subject, reply, payload, payload, block, times, key, words, self._answer)
        if self._asked:
            self._asked -= 1
        held = self.held
        if key in held:  # delivered again while it is worked on: answer the newer delivery
            held[key].reply = reply
        elif key in self._finished or key in self._earlier:  # the ack was lost with the connection
            delivery.ack()
        elif self._draining:
            delivery.nak()
        else:
            held[key] = delivery
            self._take(delivery)

    def _told(self, subject: bytes, reply: bytes, block: bytes | None) -> Sequence[bytes]:
        """Return what an ack subject says that begins like no other before; nothing, if it is none of ours."""
        if not reply.startswith(PREFIX):
            if subject == self._inbox:
                self._hear(status_of(block), block)
            return ()  # nobody else has business on this subject
        with suppress(ValueError):
            _, _, stream, consumer, *words = words_of(reply)
            if stream == self._stream and consumer == self._consumer:
                self._acks = begins = reply.removesuffix(b".".join(words))
                self._cut = len(begins)
                return words
            self._asked = max(0, self._asked - 1)
        return ()

    def _hear(self, status: int, block: bytes | None) -> None:
        """Take what the server says about a request: a heartbeat, or that the request ended."""
        if status == 100 or _DONE in (block or b""):
            return
        headers = Headers(block)
        owed = headers.get("Nats-Pending-Messages", "")
        self._asked = max(0, self._asked - int(owed)) if owed.isdigit() else 0
        full = status == 409 and _FULL in (block or b"")  # the next message is for the next request
        if full and owed == str(self._latest):  # nothing came: it is larger than the server lets anybody send now
            self._least = 2 * max(self._least, self.bus.max_payload + _OVERHEAD)
        if full or status in (404, 408):
            self._ask()
        else:  # 409 otherwise: deleted, another leader, server shuts down, too many requests; 503: there is no such consumer now
            self._gone = True

    def _answer(self, delivery: Delivery, words: bytes) -> None:
        self.held.pop(delivery.key, None)
        if self._silent:
            self._ask()
            return
        if words is ACK or words is TERM:
            self._finished[delivery.key] = delivery.reply
            if len(self._finished) > self._remembered:
                self._earlier, self._finished = self._finished, {}
        try:
            self.bus.answer(delivery.reply, words)
        except Unavailable:  # away for long: the server delivers it again, and it is acked then
            logger.debug("the answer to {delivery} is lost", delivery=delivery)
        if len(self.held) + self._asked <= self._few:
            self._ask()
        elif not self._later and (not self._asked or len(self.held) + self._asked < self._together):
            # more may be answered in this turn: then it is not a request for each
            self._later = True
            self._loop.call_soon(self._ask_at_last)

    # -- watching

    async def _watching(self) -> None:
        """Ask anew, on another connection, after silence, and when the consumer is gone; with pauses while that does not help."""
        pause, healthy = 0.0, time.monotonic()
        while True:
            await asyncio.sleep(TICK)
            now = time.monotonic()
            if self._news:
                self._news, self._heard = False, now
            if self._draining or not self.bus.connected:
                continue
            if not self._gone and self.bus.info is self._connection and not self._unheard(now):
                self._ask()
                pause, self.trouble = pause if now - healthy < HEALTHY else 0.0, ""
                continue
            await asyncio.sleep(pause * (0.5 + random.random()))  # noqa: S311 - jitter
            pause = min(max(2 * pause, TICK), _LONGEST_PAUSE)
            try:
                await self._recover()
            except Exception as error:  # noqa: BLE001 - a watch that ended would be a consumer that stops in silence
                before, self.trouble = self.trouble, repr(error)
                if before != self.trouble:  # once, however often it is tried
                    logger.warning("consumer {consumer} cannot be resumed: {error!r}", consumer=self.consumer, error=error)
            else:
                self.trouble = ""
            healthy = time.monotonic()

    def _unheard(self, now: float) -> bool:
        return self._asked > 0 and now - self._heard > MISSED * self._heartbeat

    async def _recover(self) -> None:
        """Have the consumer made again if it is gone, and ask anew."""
        self.resets += 1
        connection = self.bus.info
        made = await self._ensure()
        same = made == self._made
        if same:  # a server that was killed may have forgotten the latest acks
            for reply in (*self._earlier.values(), *self._finished.values()):
                self.bus.publish(reply, ACK, deadline=time.monotonic() + 1)
        else:
            self._earlier, self._finished = {}, {}
        self._made = made
        self._gone = False
        await self._renew(connection, same=same)

    def _extend(self) -> None:
        """Tell the consumer that what is in hand is being worked on, three times per ack wait; find out that we stood still for longer."""
        self.overslept()
        self._extended = time.monotonic()
        if not self._silent:
            for delivery in list(self.held.values()):
                with suppress(Unavailable):  # away for long: it comes again, and its key says that it is in hand
                    self.bus.answer(delivery.reply, PROGRESS, None, time.monotonic() + 1)
        self._extension = self._loop.call_later(self.ack_wait / 3, self._extend)
