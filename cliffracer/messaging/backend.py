"""The contract of durable events: what any broker has to do for them. JetStream does; others can be put in its place.

What the words mean is in docs/semantics.md; `tests/messaging/contract.py` tests a backend against them.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

from cliffracer.clock import SYSTEM, Clock
from cliffracer.messaging.consumption import Consumption
from cliffracer.messaging.deadletters import DeadLetters, Parked
from cliffracer.messaging.emitter import Emitter
from cliffracer.messaging.jetstream import JetStream
from cliffracer.messaging.policy import Counts
from cliffracer.messaging.streams import Start
from cliffracer.wire.subjects import Subjects


class Consuming(Protocol):
    """One function's durable events."""

    @property
    def counts(self) -> Counts:
        """What became of deliveries since the start of this process."""

    async def start(self) -> None:
        """Return once the broker knows of the function and events are asked for."""

    async def drain(self, within: float = 10.0) -> None:
        """Take nothing more, finish what is in hand within some seconds, give back the rest at once."""

    async def waiting(self) -> int:
        """Return how many events wait for this function or are in hand, in all replicas."""


class Letters(Protocol):
    """What could not be handled."""

    def ls(self, *, service: str = "", function: str = "", subject: str = "", after: int = 0) -> AsyncIterator[Parked]:
        """Yield what is parked, oldest first."""

    async def show(self, number: int) -> Parked:
        """Return one parked message."""

    async def replay(self, number: int, *, payload: bytes | None = None, token: str | None = None) -> None:
        """Hand a message to the function that failed, and to no other; then discard it. ``token``: in place of the emitter's."""

    async def discard(self, number: int) -> None:
        """Remove a parked message for good."""


class Backend(Protocol):
    """A broker that keeps events."""

    dead: Letters

    async def store(self, subject: str, payload: bytes, headers: Mapping[str, str], *, timeout: float = 10.0) -> object:
        """Return once the event is stored; `Unavailable`, `DeadlineExceeded` or `TooLarge` if it was not, or may not have been."""

    async def store_later(
        self, subject: str, payload: bytes, headers: Mapping[str, str], *, at: float, event_id: str, timeout: float = 10.0
    ) -> None:
        """Return once it is noted that the event is due ``at`` (POSIX time); `SetupError` where the broker cannot do that."""

    async def cancel(self, event_id: str) -> bool:
        """Take back a delayed event; False when there is none of that id."""

    def consume(
        self, service: str, function: str, pattern: str | Sequence[str], handle: Callable[[Any], Awaitable[object]], **options: Any
    ) -> Consuming:
        """Return a function's events, not started yet; options as `Consumption`."""


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
        **options: Any,
    ) -> Consumption:
        """Return a function's events, not started yet."""
        options = {"replicas": self._replicas, "clock": self._clock, **options}
        return Consumption(self._jetstream, self._subjects, service, function, pattern, handle, start=start, **options)
