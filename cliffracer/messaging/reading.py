"""Reading a stream in order, each message once: past, present or both, through restarts of the server.

It uses a consumer of its own, without acks, in the server's memory (an ordered consumer, ADR-17). A gap in its numbering, or the
loss of the consumer, makes it start again after the last message read.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any, Self

from cliffracer.context import new_id
from cliffracer.errors import CliffracerError, NotFound
from cliffracer.messaging.bus import closed
from cliffracer.messaging.configurations import NANOSECONDS, ConsumerConfig
from cliffracer.messaging.delivery import Delivery
from cliffracer.messaging.jetstream import JetStream, StreamInfo
from cliffracer.messaging.pull import Pull
from cliffracer.shielding import shielded

IDLE = 60 * NANOSECONDS  # after which the server removes a reader that is gone
SILENCE = 2.0  # seconds without a message after which it checks that the expected ones still exist
_AT_LAST = 1.0  # seconds that leaving waits for the server
_NO_STREAM = 10059


class Reader:
    """Yields the messages of some subjects in order, for ever; inside its ``async with`` block.

    ``begin`` holds the consumer's fields of where to start (``deliver_policy`` and what belongs to it). ``waiting`` says how many
    there were to begin with. At most ``limit`` messages are held. ``caught_up()`` is called when the reader has taken all messages that
    existed when reading began, or began again: once per connection at least. ``ensure()`` creates the stream if it is absent.
    """

    def __init__(
        self,
        jetstream: JetStream,
        stream: str,
        filters: list[str],
        begin: dict[str, Any] | None = None,
        *,
        headers_only: bool = False,
        limit: int = 256,
        heartbeat: float = 1.0,
        caught_up: Callable[[], None] | None = None,
        ensure: Callable[[], Awaitable[StreamInfo]] | None = None,
    ) -> None:
        self.waiting = 0
        self._jetstream = jetstream
        self._stream = stream
        self._filters = filters
        self._begin = begin or {"deliver_policy": "all"}
        self._headers_only = headers_only
        self._name = f"reader-{new_id()}"
        self._created = ""
        self._last = 0  # sequence of the last message read
        self._expected = 1  # in the consumer's numbering
        self._arrived: deque[Delivery] = deque()
        self._caught_up = caught_up
        self._made = ensure or partial(jetstream.stream, stream)
        self._lasts, self._lost = ensure is not None, False  # whether the stream is made again; whether it was deleted
        self._behind = True  # some of the existing messages have not arrived yet
        self._connection: dict[str, Any] | None = None  # the INFO of the one that reading began over, until `caught_up` is called
        self._wake = asyncio.Event()
        self._closed = False
        self._pull = Pull(
            jetstream.bus, stream, self._name, take=self._take, ensure=self._ensure, limit=limit, heartbeat=heartbeat, silent=True
        )  # fmt: skip

    async def __aenter__(self) -> Self:
        self._jetstream.bus.closed.add(self._over)
        try:
            await self._pull.start()
        except BaseException:  # then nobody leaves it
            self._jetstream.bus.closed.discard(self._over)
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await shielded(self._leave(), f"end of {self._name}")

    def _over(self) -> None:
        self._closed = True
        self._wake.set()

    async def _leave(self) -> None:
        self._jetstream.bus.closed.discard(self._over)
        await self._pull.close()  # without a drain: what still arrives is not wanted
        try:
            async with asyncio.timeout(_AT_LAST):
                await self._jetstream.delete_consumer(self._stream, self._name)
        except (CliffracerError, TimeoutError):  # the consumer or the server is gone; the server removes idle ones itself
            return

    async def __aiter__(self) -> AsyncIterator[Delivery]:
        while True:
            yield await self.next()

    async def next(self, within: float | None = None) -> Delivery:
        """Return the next message; `TimeoutError` if none arrives within some seconds, after which it can be called again.

        `Unavailable` once the connection was closed.
        """
        while not self._arrived:
            if self._closed:
                raise closed()
            if not self._behind and self._connection is self._jetstream.bus.info:
                self._connection = None
                if self._caught_up is not None:
                    self._caught_up()
            self._wake.clear()
            async with asyncio.timeout(within):
                await self._wake.wait()
        delivery = self._arrived.popleft()
        delivery.ack()  # makes room for another
        return delivery

    def room(self, limit: int) -> None:
        """Change how many messages are held at most."""
        self._pull.room(limit)

    async def present(self) -> AsyncIterator[Delivery]:
        """Yield the messages that existed when reading began, unless they are removed meanwhile, and end.

        `NotFound` if the whole stream is, unless it is one that ``ensure`` makes.
        """
        left = self.waiting
        while left > 0:
            try:
                delivery = await self.next(SILENCE)
            except TimeoutError:
                if await self._is_over():
                    break
                continue
            if self._lost:
                break
            left -= 1
            yield delivery
            if not delivery.pending:
                return
        if left and self._lost:
            raise NotFound(f"stream {self._stream} was deleted while it was read: {left} of its {self.waiting} messages were not")

    async def _is_over(self) -> bool:
        """Say whether all messages that existed have been read or are gone."""
        try:
            info = await self._jetstream.consumer(self._stream, self._name)
        except NotFound as gone:
            if gone.details.get("err_code") != _NO_STREAM:
                return False  # a consumer alone is made again
            self._lost = not self._lasts
            return True
        except CliffracerError:  # the pull loop sees to that
            return False
        return not info.num_pending and info.delivered.consumer_seq < self._expected

    def _take(self, delivery: Delivery) -> None:
        if delivery.consumer_seq != self._expected:
            self._pull.held.pop(delivery.key, None)
            self._pull.lose()
            return
        self._expected += 1
        self._last = delivery.stream_seq
        self._behind = self._behind and delivery.pending > 0
        self._arrived.append(delivery)
        self._wake.set()

    async def _ensure(self) -> str:
        connection = self._jetstream.bus.info
        made = await self._made()
        created = made.created
        if self._created and created != self._created:  # another stream of the same name
            self._last, self._begin, self._lost = 0, {"deliver_policy": "all"}, not self._lasts
        elif self._created:
            if made.state.last_seq < self._last:  # the server has lost what was not on disk
                self._last = 0 if self._begin["deliver_policy"] == "last_per_subject" else made.state.last_seq
            with suppress(NotFound):
                await self._jetstream.delete_consumer(self._stream, self._name)
        self._expected = 0  # what the last consumer has sent and comes only now is sent by the next one again
        info = await self._jetstream.create_consumer(
            self._stream,
            ConsumerConfig(
                name=self._name,
                filter_subjects=self._filters,
                ack_policy="none",
                max_ack_pending=0,
                ack_wait=30 * NANOSECONDS,
                inactive_threshold=IDLE,
                mem_storage=True,
                num_replicas=1,
                headers_only=self._headers_only or None,
                **({"deliver_policy": "by_start_sequence", "opt_start_seq": self._last + 1} if self._last else self._begin),
            ),
        )
        self._expected = 1
        if not self._created:
            self.waiting = info.num_pending
        self._created = created
        self._connection, self._behind = connection, info.num_pending > 0
        self._wake.set()
        return created
