"""The stock transport: nats-py reads, dispatches and writes; `GuardedClient` keeps it from its known ends.

It is there for the day on which the fast one does not fit the installed nats-py, and to tell whose fault something is.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Coroutine
from typing import Any

import nats.errors
from loguru import logger
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription as NatsSubscription

from cliffracer.errors import Unavailable
from cliffracer.messaging.transport.guard import GuardedClient
from cliffracer.messaging.transport.reconnecting import PATIENCE, Interest, ReconnectingBus
from cliffracer.shielding import shielded
from cliffracer.wire.headers import Headers

_FAILURES = (nats.errors.Error, OSError, RuntimeError, AttributeError)  # the last two: its socket is closed, or gone
_Message = tuple[float | None, bytes, bytes, bytes | None, bytes]
_QUEUED = 1024  # messages, and bytes, that may wait for nats-py to write them; then publishes are held
_QUEUED_BYTES = 1024 * 1024
_OWED = 256 * 1024  # bytes that the socket may owe: asyncio's own brake on `writelines` is broken before 3.12.9 and 3.13.2


class StockBus(ReconnectingBus):
    """A `Bus` on nats-py's public methods; publishes go through one task, in order."""

    exact = False

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._client: GuardedClient | None = None
        self._subscriptions: dict[int, NatsSubscription] = {}
        self._queue: deque[_Message | asyncio.Future[None]] = deque()
        self._queued = 0
        self._filled = asyncio.Event()
        self._pump: asyncio.Task[None] | None = None
        self._confirming: set[asyncio.Task[None]] = set()

    def publish(
        self,
        subject: bytes,
        payload: bytes,
        block: bytes | None = None,
        reply: bytes = b"",
        *,
        deadline: float | None = None,
    ) -> None:
        size = len(payload) + len(block or b"")
        self.check(subject, reply, size)
        if not self.open:
            self.hold((subject, payload, block, reply), deadline)
            return
        self._queue.append((deadline, subject, payload, block, reply))
        self._queued += size
        self._filled.set()
        if len(self._queue) >= _QUEUED or self._queued > _QUEUED_BYTES:
            self._block()

    def answer(self, subject: bytes, payload: bytes, block: bytes | None = None, deadline: float | None = None) -> None:
        self.publish(subject, payload, block, deadline=deadline)

    async def end(self, interest: Interest, *, drained: bool) -> None:
        self._interests.pop(interest.number, None)
        subscription = self._subscriptions.pop(interest.number, None)
        client = self._client
        if subscription is None or client is None:
            return
        ending = subscription.drain() if drained else subscription.unsubscribe()  # type: ignore[no-untyped-call]  # nats-py left it out
        try:
            await self._while_connected(ending, PATIENCE)
        except Unavailable:  # the connection ended, and with it the subscription: nothing more can come
            _stop(subscription)

    async def _begin(self, interest: Interest) -> None:
        client = self._client
        if client is None or interest.number not in self._interests:
            return

        async def receive(message: Msg) -> None:
            subject, reply = message.subject.encode(), message.reply.encode()
            self.deliver(interest.receive, subject, reply, block_of(message.headers, message.data), message.data)

        async def begin() -> None:
            subscription = await client.subscribe(interest.subject, interest.queue, cb=receive)
            if interest.number in self._interests:
                self._subscriptions[interest.number] = subscription
            else:  # who wanted it has left meanwhile
                await subscription.unsubscribe()

        try:
            await shielded(begin(), f"subscription to {interest.subject}")  # nats-py would keep one that is cancelled
        except _FAILURES:
            if self._client is client:
                raise
            # else it is lost: the next connection begins with all that we are interested in

    async def _take(self, client: GuardedClient) -> None:
        self._client = client
        self._queue.clear()
        self._queued = 0
        self._filled.clear()  # or it would be open before all is subscribed to
        self._subscriptions.clear()
        self._pump = asyncio.get_running_loop().create_task(self._write(client))

    def _drop(self) -> None:
        self._client = None
        for number in list(self._subscriptions):
            _stop(self._subscriptions.pop(number))
        if self._pump is not None:
            self._pump.cancel()
            self._pump = None
        for task in self._confirming:
            task.cancel()

    async def _hang_up(self) -> None:
        assert self._client is not None
        try:
            async with asyncio.timeout(1):
                await self._client.close()
        except (TimeoutError, *_FAILURES) as error:
            logger.debug("NATS connection closed with {error!r}", error=error)

    async def _write(self, client: GuardedClient) -> None:
        while self._client is client:
            await self._filled.wait()
            self._filled.clear()
            while self._queue and self._client is client:
                while client.owed > _OWED and self._client is client:  # noqa: ASYNC110 - asyncio has no event for it
                    await asyncio.sleep(0.005)
                await self._send(client, self._queue.popleft())
            if self._client is client and not self.open:
                self._unblock()

    async def _while_connected(self, waiting: Coroutine[Any, Any, None], timeout: float) -> None:
        """Wait for an answer of the server, no longer than the connection lasts: nats-py would."""
        task = asyncio.get_running_loop().create_task(waiting)
        self._confirming.add(task)
        try:
            done, _ = await asyncio.wait((task,), timeout=timeout)
        finally:
            self._confirming.discard(task)
            task.cancel()
        if not done or task.cancelled() or isinstance(task.exception(), _FAILURES):
            raise Unavailable(f"NATS did not confirm within {timeout:.2g} s" if not done else "NATS went away", reason="away")
        task.result()

    async def _round_trip(self, timeout: float, silent: float = math.inf) -> None:  # noqa: ARG002 - see `silent`
        if self._client is None:
            raise Unavailable("NATS is away", reason="away")
        await self._while_connected(self._flush(self._client, timeout), timeout)

    @property
    def silent(self) -> float:
        return 0.0  # nats-py does not tell

    def probe(self) -> None:
        """There is no telling what comes of it."""

    async def _flush(self, client: GuardedClient, timeout: float) -> None:
        await self._written()
        await client.flush(max(1, math.ceil(timeout)))

    async def _written(self) -> None:
        """Return when all that is queued now went to nats-py."""
        mark: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append(mark)
        self._filled.set()
        await mark

    async def _send(self, client: GuardedClient, item: _Message | asyncio.Future[None]) -> None:
        if isinstance(item, asyncio.Future):
            if not item.done():
                item.set_result(None)
            return
        deadline, subject, payload, block, reply = item
        self._queued -= len(payload) + len(block or b"")
        if deadline is not None and deadline <= time.monotonic():
            return
        headers = dict(Headers(block)) if block else None
        try:
            await client.publish(subject.decode(), payload, reply.decode(), headers)
        except (*_FAILURES, UnicodeDecodeError) as error:
            logger.warning("a message to {subject!r} was not sent: {error!r}", subject=subject, error=error)


def _stop(subscription: NatsSubscription) -> None:
    task = getattr(subscription, "_wait_for_msgs_task", None)
    if isinstance(task, asyncio.Task):
        task.cancel()


def block_of(headers: dict[str, str] | None, payload: bytes) -> bytes | None:
    """Return the header block that nats-py took apart; a server's status goes back to where it stood, on the first line."""
    if not headers:
        return None
    rest, first = dict(headers), "NATS/1.0"
    if not payload and "Status" in rest:  # a server's has no payload; with one it is a peer's header of that name
        first = f"NATS/1.0 {rest.pop('Status')} {rest.pop('Description', '')}".rstrip()
    return "\r\n".join((first, *(f"{name}: {value}" for name, value in rest.items()), "", "")).encode()
