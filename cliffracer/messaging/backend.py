"""JetStream as a backend: the one place that knows which of its parts do what `cliffracer.messaging.contract` asks for."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from cliffracer.clock import SYSTEM, Clock
from cliffracer.messaging.consumption import Consumption
from cliffracer.messaging.contract import Method, Start
from cliffracer.messaging.deadletters import DeadLetters
from cliffracer.messaging.emitter import Emitter
from cliffracer.messaging.jetstream import JetStream
from cliffracer.messaging.keyvalue import KeyValue
from cliffracer.messaging.locks import Leader, Lock, leader_of
from cliffracer.messaging.objects import ObjectStore
from cliffracer.messaging.ordered import Ordered
from cliffracer.messaging.plans import Missed, Plan, Run
from cliffracer.messaging.sends import Sends
from cliffracer.messaging.stores import Bucket
from cliffracer.messaging.streams import durable_name
from cliffracer.messaging.timers import Timer
from cliffracer.wire.subjects import Subjects


class JetStreamBackend(Emitter):
    """Events, one-way calls, timers, locks and stores in JetStream."""

    def __init__(self, jetstream: JetStream, subjects: Subjects, *, replicas: int = 1, clock: Clock = SYSTEM) -> None:
        super().__init__(jetstream, subjects, replicas=replicas)
        self.dead = DeadLetters(jetstream, subjects, replicas=replicas)
        self._clock = clock

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
        options = {"replicas": self._replicas, "clock": self._clock, **options}
        kind = Ordered if ordered else Consumption
        return kind(self._jetstream, self._subjects, service, function, pattern, handle, start=start, **options)

    def sends(self, service: str, methods: Mapping[str, Method]) -> Sends:
        """Return a service's one-way calls, not started yet."""
        return Sends(self._jetstream, self._subjects, service, methods, replicas=self._replicas)

    def timer(self, service: str, function: str, plan: Plan, run: Run, *, missed: Missed = "once") -> Timer:
        """Return a timer, not started yet."""
        options: dict[str, Any] = {"clock": self._clock, "replicas": self._replicas}
        return Timer(self._jetstream, self._subjects, service, function, plan, run, missed=missed, **options)

    def leader(self, service: str, function: str, run: Run, *, ttl: float = 15.0) -> Leader:
        """Return a leader, not started yet."""
        return Leader(self._jetstream, self._subjects, leader_of(durable_name(self._subjects, service, function)), run, ttl=ttl)

    def lock(self, name: str, *, ttl: float = 30.0, wait: float | None = None) -> Lock:
        """Return a lock, not held yet."""
        return Lock(self._jetstream, self._subjects, name, ttl=ttl, wait=wait)

    def values(self, bucket: Bucket, of: Any) -> KeyValue[Any]:
        """Return a bucket of values of a type."""
        return KeyValue(self._jetstream, bucket, of, namespace=self._subjects.namespace)

    def objects(self, bucket: Bucket) -> ObjectStore:
        """Return a bucket of objects."""
        return ObjectStore(self._jetstream, bucket, namespace=self._subjects.namespace)
