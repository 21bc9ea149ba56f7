"""The interface of a broker: what it does for durable events and the rest (`duties`), and the types that both sides use.

Nothing here knows JetStream, which is one backend (`JetStreamBackend`) of possibly several. The semantics are defined in
docs/semantics.md; a backend proves them with `BackendContract` in `tests/messaging/contract.py`.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol

import msgspec

from cliffracer.declarations import RETRY
from cliffracer.errors import InvalidInput, ServiceError
from cliffracer.events import Rejected
from cliffracer.messaging.duties import Leading, Locking, Objects, Sending, Ticking, Values
from cliffracer.messaging.plans import Missed, Plan, Run
from cliffracer.messaging.stores import Bucket
from cliffracer.settings import Discreet
from cliffracer.wire.headers import Headers

Start = str | int | datetime | timedelta
"""``new``, ``all``, a sequence, a time (also as ISO 8601), or how long ago (also as ``1h``)."""


class Delivered(Protocol):
    """One event that was delivered to a function; the backend acknowledges it or gives it back, by the outcome."""

    payload: bytes
    attempt: int
    """1 at first; counts deliveries, also those that nobody finished."""

    @property
    def block(self) -> bytes | None:
        """The header block in NATS' format, or None."""

    @property
    def headers(self) -> Headers:
        """The headers; look-up ignores case."""

    @property
    def subject(self) -> str:
        """The whole subject that it was stored on."""

    @property
    def stream(self) -> str:
        """The stream that stores it."""

    @property
    def stream_seq(self) -> int:
        """Its sequence number in the stream."""

    @property
    def consumer(self) -> str:
        """The name of the consumer: the same in every replica and after every restart."""

    @property
    def timestamp(self) -> int:
        """When it was stored, nanoseconds since 1970."""


class Parked(Discreet, msgspec.Struct, frozen=True, kw_only=True):
    """One parked message."""

    id: int
    """Its number in the dead-letter stream."""
    subject: str
    """The subject of the event, ``user.created``, or of the one-way call, ``send.payments.charge``."""
    service: str
    function: str
    """The function that failed; of a one-way call, the method."""
    consumer: str
    error: str
    """Class and message: ``ValueError: no such user``."""
    traceback: str
    attempts: int
    """How often it was tried."""
    stream: str
    """The stream that the original came from."""
    sequence: int
    """The number of the original in its stream."""
    parked: datetime
    headers: dict[str, str]
    payload: bytes
    """Empty if it is stored under ``claim``, except where a single message is shown."""
    claim: str = ""
    """The name of the payload in the object store, if it was too large for one message."""
    ours: bool = False
    """Whether the payload was moved there when it was parked, and is deleted with the letter."""

    def __repr__(self) -> str:
        """Return what a test that fails wants to know; headers may have tokens."""
        return f"<Parked {self.id}: {self.subject} at {self.service}.{self.function}: {self.error}>"


class Delayed(msgspec.Struct, frozen=True, kw_only=True):
    """One event that is not due yet."""

    id: str
    """The id by which it can be cancelled."""
    subject: str
    due: datetime
    size: int
    """Bytes of its payload."""


class PartlyFailedError(Exception):
    """Raised for a batch of which some failed, by index; an `InvalidInput` among them is parked at once, others are tried again."""

    def __init__(self, failures: dict[int, BaseException]) -> None:
        super().__init__(f"{len(failures)} failed")
        self.failures = failures


class HandlerRefused(ServiceError):
    """A handler raised `InvalidInput` although the payload was valid, or rejected one event of a batch: it is tried again."""

    def __init__(self, message: str, shown_as: str = "InvalidInput") -> None:
        super().__init__(message)
        self.shown_as = shown_as
        """The name of the error that the handler raised, for the dead letter."""


class RefusedForGood(InvalidInput):
    """A handler rejected an event for good: it is parked at once, like one that does not decode."""

    shown_as = "Rejected"


def raised(error: ServiceError | Rejected) -> ServiceError:
    """Return the error to act on for what a handler raised: only `InvalidInput` about the payload itself parks an event at once."""
    if isinstance(error, Rejected):
        return RefusedForGood(str(error)) if error.final else HandlerRefused(str(error), Rejected.__name__)
    return HandlerRefused(error.message) if isinstance(error, InvalidInput) else error


def refusals(rejected: Rejected, size: int) -> dict[int, HandlerRefused]:
    """Return why each of those was rejected that a handler names of a batch; raise that of them all if it names others, which none is."""
    if strange := rejected.reasons.keys() - range(size):
        named = ", ".join(sorted(map(repr, strange)))
        raise HandlerRefused(f"it names {named}, and the events of the batch are 0 to {size - 1}", Rejected.__name__) from rejected
    return {index: HandlerRefused(why, Rejected.__name__) for index, why in rejected.reasons.items()}


class Counts(msgspec.Struct):
    """What became of deliveries since the start of this process."""

    handled: int = 0
    failed: int = 0
    parked: int = 0


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

    async def replay_some(self, numbers: Sequence[int], *, payload: bytes | None = None, token: str | None = None) -> dict[int, str]:
        """Replay several, in this order; return the reasons for those that could not be, by number."""

    async def discard(self, number: int) -> None:
        """Remove a parked message for good."""

    async def count(self) -> int:
        """Return how many there are."""


class Method(msgspec.Struct, frozen=True):
    """The handler of one-way calls of a method, and the seconds before each further attempt."""

    handle: Callable[[Any], Awaitable[object]]
    retry: Sequence[float] = RETRY
    shown: str = ""
    """How the log names it: ``charge (payments.py:9)``."""


class Backend(Protocol):
    """A broker that stores events, and what else services share. What it needs for that is created when first used."""

    @property
    def dead(self) -> Letters:
        """What could not be handled."""

    async def store(self, subject: str, payload: bytes, headers: Mapping[str, str], *, timeout: float = 10.0) -> object:
        """Return once the event is stored; `Unavailable`, `DeadlineExceeded` or `TooLarge` if it was not, or may not have been."""

    async def store_later(
        self, subject: str, payload: bytes, headers: Mapping[str, str], *, at: float, event_id: str, timeout: float = 10.0
    ) -> None:
        """Return once it is noted that the event is due ``at`` (POSIX time); `SetupError` where the broker cannot do that."""

    async def cancel(self, event_id: str) -> bool:
        """Take back a delayed event; False when there is none of that id."""

    def delayed(self) -> AsyncIterator[Delayed]:
        """Yield what is not due yet, in the order in which it was emitted."""

    def consume(
        self, service: str, function: str, pattern: str | Sequence[str], handle: Callable[[Any], Awaitable[object]], **options: Any
    ) -> Consuming:
        """Return a function's events, not started yet; options as `Consumption`."""

    def stored(self, patterns: Sequence[str], start: Start = "all") -> AsyncIterator[Delivered]:
        """Yield the events on some patterns that are stored now, each once, in order; nobody else notices. `NotFound` if none ever was."""

    async def whole(self, delivery: Delivered) -> None:
        """Fetch the payload of one of them if the broker keeps it elsewhere because of its size; `NotFound` if it is gone."""

    def sends(self, service: str, methods: Mapping[str, Method]) -> Sending:
        """Return a service's one-way calls, not started yet; they are stored on ``send.<service>.<method>``."""

    def timer(self, service: str, function: str, plan: Plan, run: Run, *, missed: Missed = "once") -> Ticking:
        """Return a timer, not started yet; what was missed is made up for once, or left out (``skip``)."""

    def leader(self, service: str, function: str, run: Run, *, ttl: float = 15.0) -> Leading:
        """Return a leader, not started yet; another leads ``ttl`` seconds after one died."""

    def lock(self, name: str, *, ttl: float = 30.0, wait: float | None = None) -> Locking:
        """Return a lock, not held yet; after ``wait`` seconds it is `Unavailable`. Free ``ttl`` seconds after its holder died."""

    def values(self, bucket: Bucket, of: Any) -> Values[Any]:
        """Return a bucket of values of a type."""

    def objects(self, bucket: Bucket) -> Objects:
        """Return a bucket of objects."""
