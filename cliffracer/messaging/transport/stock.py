"""The stock transport: nats-py reads, dispatches and writes; `GuardedClient` keeps it from its known ends.

It is there for the day on which the fast one does not fit the installed nats-py, and to tell whose fault something is.
"""

import asyncio
import math
import time
from collections import deque
from typing import Any

import nats.errors
from loguru import logger
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription as NatsSubscription

from cliffracer.errors import Unavailable
from cliffracer.messaging.transport.guard import GuardedClient
from cliffracer.messaging.transport.line import PATIENCE, Interest, Line
from cliffracer.wire.headers import Headers

_Message = tuple[float | None, bytes, bytes, bytes | None, bytes]
_QUEUED = 1024  # messages that may wait for nats-py to write them; then publishes are held


class StockBus(Line):
    """A `Bus` on nats-py's public methods; publishes go through one task, in order."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._client: GuardedClient | None = None
        self._subscriptions: dict[int, NatsSubscription] = {}
        self._queue: deque[_Message | asyncio.Future[None]] = deque()
        self._filled = asyncio.Event()
        self._pump: asyncio.Task[None] | None = None

    def publish(
        self, subject: bytes, payload: bytes, block: bytes | None = None, reply: bytes = b"", *, deadline: float | None = None
    ) -> None:
        self.check(subject, reply, len(payload) + len(block or b""))
        if not self.open:
            self.hold((subject, payload, block, reply), deadline)
            return
        self._queue.append((deadline, subject, payload, block, reply))
        self._filled.set()
        if len(self._queue) >= _QUEUED:
            self._block()

    async def flush(self, timeout: float = 5.0) -> None:
        deadline = time.monotonic() + timeout
        await self.ready(deadline)
        client = self._client
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                await self._written()
                if client is not None:
                    await client.flush(max(1, math.ceil(timeout)))
        except (TimeoutError, nats.errors.Error, OSError):
            raise Unavailable(f"NATS did not confirm within {timeout:g} s", reason="away") from None
        if self._client is not client:
            raise Unavailable("NATS went away before it confirmed", reason="away")

    async def end(self, interest: Interest, *, drained: bool) -> None:
        self._interests.pop(interest.number, None)
        subscription = self._subscriptions.pop(interest.number, None)
        client = self._client
        if subscription is None or client is None:
            return
        try:
            async with asyncio.timeout(PATIENCE):
                await (self._drain(subscription) if drained else subscription.unsubscribe())
        except (TimeoutError, nats.errors.Error, OSError) as error:
            logger.debug("the end of {subject} was not confirmed: {error!r}", subject=interest.subject, error=error)

    async def _drain(self, subscription: NatsSubscription) -> None:
        await subscription.drain()  # type: ignore[no-untyped-call] - nats-py left it out

    async def _begin(self, interest: Interest) -> None:
        client = self._client
        if client is None or interest.number not in self._interests:
            return

        async def receive(message: Msg) -> None:
            subject, reply = message.subject.encode(), message.reply.encode()
            self.deliver(interest.receive, subject, reply, block_of(message.headers), message.data)

        subscription = await client.subscribe(interest.subject, interest.queue, cb=receive)
        self._subscriptions[interest.number] = subscription

    async def _take(self, client: GuardedClient) -> None:
        self._client = client
        self._queue.clear()
        self._subscriptions.clear()
        self._pump = asyncio.get_running_loop().create_task(self._write(client))

    def _drop(self) -> None:
        self._client = None
        for number in list(self._subscriptions):
            _stop(self._subscriptions.pop(number))
        if self._pump is not None:
            self._pump.cancel()
            self._pump = None

    async def _hang_up(self) -> None:
        """Leave it to `GuardedClient.bury`."""

    async def _write(self, client: GuardedClient) -> None:
        while self._client is client:
            await self._filled.wait()
            self._filled.clear()
            while self._queue and self._client is client:
                await self._send(client, self._queue.popleft())
            if self._client is client and not self.open:
                self._unblock()

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
        if deadline is not None and deadline <= time.monotonic():
            return
        headers = dict(Headers(block)) if block else None
        try:
            await client.publish(subject.decode(), payload, reply.decode(), headers)
        except (nats.errors.Error, OSError, UnicodeDecodeError, AttributeError) as error:  # AttributeError: its transport is gone
            logger.warning("a message to {subject!r} was not sent: {error!r}", subject=subject, error=error)


def _stop(subscription: NatsSubscription) -> None:
    task = getattr(subscription, "_wait_for_msgs_task", None)
    if isinstance(task, asyncio.Task):
        task.cancel()


def block_of(headers: dict[str, str] | None) -> bytes | None:
    """Return the header block that nats-py took apart; a server's status goes back to where it stood."""
    if not headers:
        return None
    rest = dict(headers)
    status, words = rest.pop("Status", ""), rest.pop("Description", "")
    first = f"NATS/1.0 {status} {words}".rstrip() if status else "NATS/1.0"
    return "\r\n".join((first, *(f"{name}: {value}" for name, value in rest.items()), "", "")).encode()
