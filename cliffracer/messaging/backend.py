"""The JetStream backend: assembles the parts that implement `cliffracer.messaging.broker`."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any
from weakref import WeakValueDictionary

from cliffracer.clock import SYSTEM, Clock
from cliffracer.errors import DeadlineExceeded, NotFound, SetupError, Unavailable
from cliffracer.messaging.broker import Delivered, Method, Start
from cliffracer.messaging.claimcheck import is_claim
from cliffracer.messaging.configurations import distinct
from cliffracer.messaging.consumption import Consumption
from cliffracer.messaging.deadletters import DeadLetters
from cliffracer.messaging.delivery import Delivery
from cliffracer.messaging.duties import Leading, Locking
from cliffracer.messaging.emitter import Emitter
from cliffracer.messaging.ensuring import widen
from cliffracer.messaging.jetstream import JetStream, StreamInfo
from cliffracer.messaging.keyvalue import KeyValue
from cliffracer.messaging.objects import ObjectStore
from cliffracer.messaging.plans import Missed, Plan, Run
from cliffracer.messaging.reading import Reader
from cliffracer.messaging.sends import Sends
from cliffracer.messaging.stores import Bucket
from cliffracer.messaging.streams import begin, durable_name
from cliffracer.messaging.timers import Timer
from cliffracer.wire.subjects import Subjects, matches


class JetStreamBackend(Emitter):
    """Events, one-way calls, timers, locks and stores in JetStream."""

    def __init__(self, jetstream: JetStream, subjects: Subjects, *, clock: Clock = SYSTEM) -> None:
        super().__init__(jetstream, subjects)
        self.dead = DeadLetters(jetstream, subjects)
        self._clock = clock
        self._widened = False
        self._stores: list[KeyValue[Any] | ObjectStore] = []
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()  # by name of a lock: the queue of this process

    def consume(
        self,
        service: str,
        function: str,
        pattern: str | Sequence[str],
        handle: Callable[[Any], Awaitable[object]],
        *,
        start: Start = "new",
        ordered: bool = False,
        **options: Any,
    ) -> Consumption:
        """Return a function's events, not started yet."""
        options = {"clock": self._clock, "made": self._both, **options}
        kind = _in_order() if ordered else Consumption
        return kind(self._jetstream, self._subjects, service, function, pattern, handle, start=start, **options)

    async def takes(self, *, asked: bool) -> bool:
        """Say that events are stored; `Unavailable` if some were not of late, or their stream is full, or cannot be ``asked`` for.

        While there is no connection nothing can be said, and that is said elsewhere.
        """
        if self.trouble:
            raise Unavailable(self.trouble)
        if not asked or not self._jetstream.bus.connected:
            return True
        try:
            found = await self._jetstream.stream(self._subjects.stream)
        except NotFound:  # nobody has emitted any
            return True
        except (SetupError, Unavailable, DeadlineExceeded):
            raise Unavailable("JetStream does not answer, or is not enabled") from None
        most, largest = (found.config.get(name, -1) for name in ("max_msgs", "max_bytes"))
        if found.config.get("discard") == "new" and (0 < most <= found.state.messages or 0 < largest <= found.state.bytes):
            raise Unavailable("their stream is full")
        return True

    async def stored(self, patterns: Sequence[str], start: Start = "all") -> AsyncIterator[Delivery]:
        """Yield the events on some patterns that are stored now, each once and in order; `NotFound` if none ever was."""
        asked, name = [self._subjects.event(pattern) for pattern in patterns], self._subjects.stream
        if name not in await self._jetstream.stream_names():
            raise NotFound(f"there are no events: no stream {name}")
        async with Reader(self._jetstream, name, distinct(asked), begin(start)) as reader:
            async for delivery in reader.present():
                if any(matches(pattern, delivery.subject) for pattern in asked):  # only patterns that overlap have others come
                    yield delivery

    async def whole(self, delivery: Delivered) -> None:
        """Fetch the payload of an event that is kept in the object store; `NotFound` if it is gone."""
        if not delivery.payload and is_claim(delivery.block):
            delivery.payload = await self._claims.redeem(delivery.block)

    def sends(self, service: str, methods: Mapping[str, Method]) -> Sends:
        """Return a service's one-way calls, not started yet."""
        return Sends(self._jetstream, self._subjects, service, methods, clock=self._clock)

    def timer(self, service: str, function: str, plan: Plan, run: Run, *, missed: Missed = "once") -> Timer:
        """Return a timer, not started yet."""
        return Timer(self._jetstream, self._subjects, service, function, plan, run, missed=missed, clock=self._clock)

    def leader(self, service: str, function: str, run: Run, *, ttl: float = 15.0) -> Leading:
        """Return a leader, not started yet."""
        from cliffracer.messaging.locks import Leader, leader_of  # noqa: PLC0415 - only who leads or locks pays for importing it

        return Leader(self._jetstream, self._subjects, leader_of(durable_name(self._subjects, service, function)), run, ttl=ttl)

    def lock(self, name: str, *, ttl: float = 30.0, wait: float | None = None) -> Locking:
        """Return a lock, not held yet."""
        from cliffracer.messaging.locks import Lock  # noqa: PLC0415 - as above

        turn = self._turns.setdefault(name, asyncio.Lock())
        return Lock(self._jetstream, self._subjects, name, ttl=ttl, wait=wait, turn=turn)

    def values(self, bucket: Bucket, of: Any) -> KeyValue[Any]:
        """Return a bucket of values of a type."""
        store: KeyValue[Any] = KeyValue(self._jetstream, bucket, of, namespace=self._subjects.namespace)
        self._stores.append(store)
        return store

    def objects(self, bucket: Bucket) -> ObjectStore:
        """Return a bucket of objects."""
        store = ObjectStore(self._jetstream, bucket, namespace=self._subjects.namespace)
        self._stores.append(store)
        return store

    async def reconcile(self, more: Iterable[Bucket] = ()) -> None:
        """Update the existing buckets that were handed out so far, and ``more``, to their declarations; only adding to them."""
        for bucket in more:
            self.values(bucket, Any)
        await asyncio.gather(*(store.reconcile() for store in {store.bucket: store for store in self._stores}.values()))

    async def _both(self) -> StreamInfo:
        """Make the stream of events if it is absent; and raise an existing dead-letter stream to the same number of servers."""
        if self._jetstream.bus.replicas > 1 and not self._widened:
            self._widened = True
            await widen(self._jetstream, self.dead.asked, namespace=self._subjects.namespace)
        return await self.ensure_events()


def _in_order() -> type[Consumption]:
    from cliffracer.messaging.ordered import Ordered  # noqa: PLC0415 - only who takes events by their key pays for importing it

    return Ordered
