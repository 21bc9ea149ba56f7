"""A backend that keeps events in this process: the contract of durable events is one that more than JetStream can fulfil."""

import asyncio
import time
import traceback
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from cliffracer.errors import InvalidInput, NotFound, Overloaded
from cliffracer.events import Rejected
from cliffracer.messaging.broker import Counts, Delayed, Delivered, Method, Parked, PartlyFailedError, Start
from cliffracer.messaging.plans import Missed, Plan, Run
from cliffracer.messaging.stores import Bucket, ObjectInfo
from cliffracer.wire.cloudevents import attributes
from cliffracer.wire.headers import MESSAGE_ID, Headers, encode_headers
from cliffracer.wire.subjects import matches
from tests.messaging.memory_lasting import MemoryLeader, MemoryLock, MemoryMutex, MemoryTicks, MemoryTimer
from tests.messaging.memory_stores import MemoryBucket, MemoryObjects, MemoryValues

_LOOK = 0.002  # seconds between two looks


class Event(msgspec.Struct):
    """One event for one consumer; a `Delivered`."""

    subject: str
    payload: bytes
    headers: Headers
    stream_seq: int
    timestamp: int
    consumer: str = ""
    attempt: int = 1
    due: float = 0.0
    stream: str = "memory"

    @property
    def block(self) -> bytes | None:
        """The headers as NATS writes them."""
        return self.headers.block

    @property
    def key(self) -> str:
        """Events of one keep their order."""
        return attributes(self.headers).key


class Place:
    """What waits for one function, in all its replicas."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self.patterns = patterns
        self.waiting: deque[Event] = deque()
        self.in_hand: list[Event] = []

    def takes(self, subject: str) -> bool:
        """Say whether it subscribes to a subject."""
        return any(matches(pattern, subject) for pattern in self.patterns)

    def take(self, *, ordered: bool) -> Event | None:
        """Return what is next, if it may be handled now."""
        held_up = {event.key for event in self.in_hand}
        for event in list(self.waiting):
            if event.due <= time.monotonic() and not (ordered and event.key in held_up):
                self.waiting.remove(event)
                self.in_hand.append(event)
                return event
            held_up.add(event.key)
        return None


class MemoryBackend:
    """A `Backend` without a broker."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.ids: set[str] = set()
        self.places: dict[str, Place] = {}
        self.later: dict[str, tuple[Delayed, asyncio.TimerHandle]] = {}
        self.dead = MemoryLetters(self)
        self.mutexes: defaultdict[str, MemoryMutex] = defaultdict(MemoryMutex)
        self.ticks: defaultdict[str, MemoryTicks] = defaultdict(MemoryTicks)
        self.buckets: defaultdict[str, MemoryBucket] = defaultdict(MemoryBucket)
        self.files: defaultdict[str, dict[str, tuple[ObjectInfo, bytes]]] = defaultdict(dict)

    async def store(self, subject: str, payload: bytes, headers: Mapping[str, str], *, timeout: float = 10.0) -> None:
        self.keep(subject, payload, headers)

    def keep(self, subject: str, payload: bytes, headers: Mapping[str, str]) -> None:
        """Keep an event, once by its id, and hand it to those who subscribe."""
        if headers[MESSAGE_ID] in self.ids:
            return
        self.ids.add(headers[MESSAGE_ID])
        self.events.append(Event(subject, payload, Headers(encode_headers(headers)), len(self.events) + 1, time.time_ns()))
        for name, place in self.places.items():
            if place.takes(subject):
                place.waiting.append(msgspec.structs.replace(self.events[-1], consumer=name))

    async def store_later(
        self, subject: str, payload: bytes, headers: Mapping[str, str], *, at: float, event_id: str, timeout: float = 10.0
    ) -> None:
        await self.cancel(event_id)
        note = Delayed(id=event_id, subject=subject.removeprefix("events."), due=datetime.fromtimestamp(at, UTC), size=len(payload))
        self.later[event_id] = note, asyncio.get_running_loop().call_later(at - time.time(), self._due, event_id, subject, payload, headers)

    def _due(self, event_id: str, *event: Any) -> None:
        del self.later[event_id]
        self.keep(*event)

    async def stored(self, patterns: Sequence[str], start: Start = "all") -> AsyncIterator[Event]:
        if not self.events:
            raise NotFound("there are no events")
        for event in list(self.events):
            if any(matches(f"events.{pattern}", event.subject) for pattern in patterns) and event.stream_seq >= (
                start if isinstance(start, int) else 0
            ):
                yield event

    async def whole(self, delivery: Delivered) -> None:
        return

    async def cancel(self, event_id: str) -> bool:
        _, timer = self.later.pop(event_id, (None, None))
        if timer is not None:
            timer.cancel()
        return timer is not None

    async def delayed(self) -> AsyncIterator[Delayed]:
        for note, _ in list(self.later.values()):
            yield note

    def consume(
        self, service: str, function: str, pattern: str | Sequence[str], handle: Callable[[Any], Awaitable[object]], **options: Any
    ) -> "MemoryConsuming":
        patterns = [f"events.{one}" for one in ([pattern] if isinstance(pattern, str) else pattern)]
        return MemoryConsuming(self, service, function, patterns, handle, **options)

    def sends(self, service: str, methods: Mapping[str, Method]) -> "MemorySends":
        return MemorySends(self, service, methods)

    def timer(self, service: str, function: str, plan: Plan, run: Run, *, missed: Missed = "once") -> MemoryTimer:
        name = f"{service}-{function}"
        return MemoryTimer(self.ticks[name], name, plan, run)

    def leader(self, service: str, function: str, run: Run, *, ttl: float = 15.0) -> MemoryLeader:
        name = f"leader-{service}-{function}"
        return MemoryLeader(self.lock(name, ttl=ttl), name, run)

    def lock(self, name: str, *, ttl: float = 30.0, wait: float | None = None) -> MemoryLock:
        return MemoryLock(self.mutexes[name], name, ttl, wait)

    def values(self, bucket: Bucket, of: Any) -> MemoryValues:
        return MemoryValues(self.buckets[bucket.name], bucket, of)

    def objects(self, bucket: Bucket) -> MemoryObjects:
        return MemoryObjects(self.files[bucket.name], bucket)


class MemoryConsuming:
    """One function's events, in one replica."""

    def __init__(
        self, backend: MemoryBackend, service: str, function: str, patterns: Sequence[str], handle: Callable[[Any], Awaitable[object]],
        *, retry: Sequence[float] = (1, 5, 30, 120), limit: int = 100, start: Start = "new", ordered: bool = False,
        batch: int | None = None, within: float = 0.05, retry_of: Callable[[Event], Sequence[float]] | None = None,
        name_of: Any = None,
    ) -> None:  # fmt: skip
        self.counts = Counts()
        self._backend, self._name, self._service, self._function = backend, f"{service}-{function}", service, function
        self._patterns, self._handle, self._limit, self._start = patterns, handle, limit, start
        self._retry_of = retry_of or (lambda _: retry)
        self._ordered, self._batch, self._within = ordered, batch, within
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        if self._name not in self._backend.places:
            place = self._backend.places[self._name] = Place(self._patterns)
            old = self._backend.events if self._start == "all" else []
            place.waiting.extend(msgspec.structs.replace(event, consumer=self._name) for event in old if place.takes(event.subject))
        self._place = self._backend.places[self._name]
        self._loop = asyncio.create_task(self._run())

    async def drain(self, within: float = 10.0) -> None:
        self._loop.cancel()
        await asyncio.wait([self._loop])
        if self._tasks:
            _, late = await asyncio.wait(list(self._tasks), timeout=within)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def waiting(self) -> int:
        return len(self._place.waiting) + len(self._place.in_hand)

    async def _run(self) -> None:
        while True:
            taken: list[Event] = []
            until = time.monotonic() + (self._within if self._batch else 0)
            while len(taken) < (self._batch or 1) and len(self._tasks) < self._limit:
                event = self._place.take(ordered=self._ordered)
                if event is not None:
                    taken.append(event)
                elif not taken or time.monotonic() > until:
                    break
                else:
                    await asyncio.sleep(_LOOK)
            if taken:
                task = asyncio.create_task(self._handled(taken))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            await asyncio.sleep(0 if taken else _LOOK)

    async def _handled(self, events: list[Event]) -> None:
        failures: dict[int, BaseException] = {}
        try:
            await self._handle(events[0] if self._batch is None else events)
        except Rejected as error:
            failures = dict.fromkeys(error.reasons, error)
        except PartlyFailedError as error:
            failures = error.failures
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - whatever a handler raises, and a drain
            failures = dict.fromkeys(range(len(events)), error)
        for index, event in enumerate(events):
            self._place.in_hand.remove(event)
            if index in failures:
                self._failed(event, failures[index])
            else:
                self.counts.handled += 1

    def _failed(self, event: Event, error: BaseException) -> None:
        if isinstance(error, Overloaded):
            event.due = time.monotonic() + error.retry_after
        elif not isinstance(error, asyncio.CancelledError) and (
            isinstance(error, InvalidInput) or event.attempt > len(self._retry_of(event))
        ):
            self._backend.dead.park(event, error, self._service, self._function or event.subject.rpartition(".")[2])
            self.counts.parked += 1
            return
        else:
            given_back = isinstance(error, asyncio.CancelledError)
            event.due = 0.0 if given_back else time.monotonic() + self._retry_of(event)[event.attempt - 1]
            event.attempt += 1
        later = sum(other.stream_seq < event.stream_seq for other in self._place.waiting)
        self._place.waiting.insert(later, event)


class MemorySends(MemoryConsuming):
    """The one-way calls of a service, in one replica."""

    def __init__(self, backend: MemoryBackend, service: str, methods: Mapping[str, Method]) -> None:
        super().__init__(
            backend, service, "", [f"send.{service}.*"], self._call, start="all", retry_of=lambda event: self._method(event).retry
        )
        self._methods = methods

    async def stored(self) -> int:
        return await self.waiting()

    def _method(self, event: Event) -> Method:
        return self._methods[event.subject.rpartition(".")[2]]

    async def _call(self, event: Event) -> None:
        await self._method(event).handle(event)


class MemoryLetters:
    """What could not be handled."""

    def __init__(self, backend: MemoryBackend) -> None:
        self._backend = backend
        self._letters: dict[int, Parked] = {}
        self._last = 0

    def park(self, event: Event, error: BaseException, service: str, function: str) -> None:
        """Keep an event with what went wrong."""
        self._last += 1
        self._letters[self._last] = Parked(
            id=self._last, subject=event.subject.removeprefix("events."), service=service, function=function, consumer=event.consumer,
            error=f"{type(error).__name__}: {error}", traceback="".join(traceback.format_exception(error)), attempts=event.attempt,
            stream=event.stream, sequence=event.stream_seq, parked=datetime.now(UTC), headers=dict(event.headers), payload=event.payload,
        )  # fmt: skip

    async def ls(self, *, service: str = "", function: str = "", subject: str = "", after: int = 0) -> AsyncIterator[Parked]:
        for letter in list(self._letters.values()):
            wanted = ((service, letter.service), (function, letter.function))
            if letter.id > after and all(given in ("", has) for given, has in wanted) and (not subject or matches(subject, letter.subject)):
                yield letter

    async def show(self, number: int) -> Parked:
        if number not in self._letters:
            raise NotFound(f"there is no dead letter {number}")
        return self._letters[number]

    async def replay(self, number: int, *, payload: bytes | None = None, token: str | None = None) -> None:
        letter = await self.show(number)
        headers = Headers(encode_headers({**letter.headers, **({"Authorization": f"Bearer {token}"} if token else {})}))
        data = letter.payload if payload is None else payload
        subject = letter.subject if letter.subject.startswith("send.") else f"events.{letter.subject}"
        again = Event(subject, data, headers, letter.sequence, time.time_ns(), letter.consumer)
        self._backend.places[letter.consumer].waiting.append(again)
        await self.discard(number)

    async def replay_some(self, numbers: Sequence[int], *, payload: bytes | None = None, token: str | None = None) -> dict[int, str]:
        problems = {}
        for number in numbers:
            try:
                await self.replay(number, payload=payload, token=token)
            except NotFound as error:
                problems[number] = str(error)
        return problems

    async def count(self) -> int:
        return len(self._letters)

    async def discard(self, number: int) -> None:
        await self.show(number)
        del self._letters[number]
