"""JetStream as a backend of durable events; `cliffracer.messaging.contract` says what one has to do."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from cliffracer.clock import SYSTEM, Clock
from cliffracer.messaging.consumption import Consumption
from cliffracer.messaging.contract import Start
from cliffracer.messaging.deadletters import DeadLetters
from cliffracer.messaging.emitter import Emitter
from cliffracer.messaging.jetstream import JetStream
from cliffracer.messaging.ordered import Ordered
from cliffracer.wire.subjects import Subjects


class JetStreamBackend(Emitter):
    """Events in JetStream."""

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
