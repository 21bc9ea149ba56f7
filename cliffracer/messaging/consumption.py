"""One function's durable events: pulled, handled, and then acknowledged, tried again, or parked. The policy stands here only."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from loguru import logger

from cliffracer.clock import SYSTEM, Clock
from cliffracer.durations import seconds
from cliffracer.errors import CliffracerError, Internal, InvalidInput, Overloaded, SetupError
from cliffracer.events import Rejected
from cliffracer.messaging.configurations import NANOSECONDS, ConsumerConfig
from cliffracer.messaging.deadletters import DeadLetters
from cliffracer.messaging.delivery import Delivery
from cliffracer.messaging.ensuring import ensure_consumer, ensure_stream
from cliffracer.messaging.jetstream import ConsumerInfo, JetStream
from cliffracer.messaging.pull import Pull
from cliffracer.messaging.streams import Source, durable_name, events_of
from cliffracer.wire.subjects import Subjects

ACK_WAIT = 30.0  # seconds after which a replica that says nothing is taken for dead
UNFINISHED = 2  # deliveries beyond the schedule that may end without a word (a replica killed) before the event is parked
PARK_AGAIN = 30.0  # seconds until the next attempt, when parking itself fails
IN_FLIGHT = 65_536  # deliveries that a consumer has open in all replicas; those that wait for another attempt count
POLL = 15.0  # seconds between two looks at how far the consumer is

Handle = Callable[[Delivery], Awaitable[object]]
HandleBatch = Callable[[list[Delivery]], Awaitable[object]]
Start = str | int | datetime | timedelta
"""``new``, ``all``, a sequence, a time (also as ISO 8601), or how long ago (also as ``1h``)."""


class PartlyFailedError(Exception):
    """Raised for a batch of which some failed, by index; an `InvalidInput` among them is parked at once, others are tried again."""

    def __init__(self, failures: dict[int, BaseException]) -> None:
        super().__init__(f"{len(failures)} failed")
        self.failures = failures


class Counts(msgspec.Struct):
    """What became of deliveries since the start of this process."""

    handled: int = 0
    failed: int = 0
    parked: int = 0


class Consumption:
    """A durable consumer of one function and what is done with its deliveries.

    ``handle`` returns: acknowledged. It raises: delivered again after ``retry[n]`` seconds, then parked; `InvalidInput`: parked
    at once. With ``batch``, it gets a list, and may raise `Rejected` or `PartlyFailedError` for some of it.
    """

    def __init__(  # noqa: PLR0917 - what it is about by position, how by name
        self,
        jetstream: JetStream,
        subjects: Subjects,
        service: str,
        function: str,
        pattern: str | Sequence[str],
        handle: Callable[[Any], Awaitable[object]],
        *,
        retry: Sequence[float] = (1, 5, 30, 120),
        limit: int = 100,
        start: Start = "new",
        ordered: bool = False,
        batch: int | None = None,
        within: float = 0.05,
        group: str | None = None,
        source: Source | None = None,
        replicas: int = 1,
        ack_wait: float = ACK_WAIT,
        clock: Clock = SYSTEM,
    ) -> None:
        self.service = service
        self.function = function
        self.name = durable_name(subjects, service, function, group)
        self.counts = Counts()
        self.info: ConsumerInfo | None = None
        """How far the consumer is, as of some seconds ago."""
        self._clock = clock
        self._jetstream = jetstream
        self._subjects = subjects
        self._handle = handle
        self._retry = tuple(retry)
        self._start = start
        self._batch = batch
        self._within = within
        self._ack_wait = ack_wait
        if ordered and batch is not None:
            raise SetupError(f"{service}.{function}: ordered and batch exclude each other. Leave one of them out.")
        patterns = [pattern] if isinstance(pattern, str) else pattern
        self._source = source or events_of(subjects, self.name, patterns, replicas=replicas)
        self._stream = self._source.stream.name
        self._replay = self._source.replay or "\n"  # no subject begins so
        self._dead = DeadLetters(jetstream, subjects, replicas=replicas)
        self._stream_created = ""
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting: list[Delivery] = []
        self._timer: asyncio.TimerHandle | None = None
        self._polling: asyncio.Task[None] | None = None
        self._stopping = False
        self._in_flight = 1 if ordered else IN_FLIGHT
        take = self._take if batch is None else self._gather
        self.pull = Pull(
            jetstream.bus, self._stream, self.name, take=take, ensure=self._ensure, limit=max(limit, batch or 1), ack_wait=ack_wait
        )

    @property
    def lag(self) -> int:
        """How many events wait for this function in all replicas, as of some seconds ago."""
        return 0 if self.info is None else self.info.num_pending + self.info.num_ack_pending

    async def waiting(self) -> int:
        """Ask how many events wait for this function or are in hand, in all replicas, now."""
        self.info = await self._jetstream.consumer(self._stream, self.name)
        return self.lag

    async def start(self) -> None:
        """Return once the stream and the consumer are there and events are asked for."""
        await self.pull.start()
        self._polling = asyncio.get_running_loop().create_task(self._poll(), name=f"lag of {self.name}")

    async def drain(self, within: float = 10.0) -> None:
        """Take nothing more, finish what is in hand within some seconds, and give back the rest to the other replicas at once."""
        await self.pull.stop()
        self._flush()
        if self._polling is not None:
            self._polling.cancel()
            await asyncio.wait([self._polling])
        if self._tasks:
            await asyncio.wait(list(self._tasks), timeout=within)
        self._stopping = True
        rest = list(self._tasks)
        for task in rest:
            task.cancel()
        if rest:
            await asyncio.wait(rest, timeout=2.0)
        for delivery in list(self.pull.held.values()):
            delivery.nak()
        await self.pull.close()

    # -- the consumer

    async def _ensure(self) -> str:
        stream = await ensure_stream(self._jetstream, self._source.stream, namespace=self._subjects.namespace)
        asked = ConsumerConfig(
            name=self.name,
            durable_name=self.name,
            filter_subjects=self._source.filters,
            ack_wait=int(self._ack_wait * NANOSECONDS),
            max_ack_pending=self._in_flight,
            metadata={"cliffracer.service": self.service, "cliffracer.function": self.function},
            **self._place(stream.created),
        )
        self.info = await ensure_consumer(self._jetstream, stream.config["name"], asked)
        self._stream_created = stream.created
        return f"{stream.created} {self.info.created}"

    def _place(self, created: str) -> dict[str, Any]:
        """Return where the consumer begins if it has to be made: where the lost one was, if we knew it."""
        if self.info is None:
            return _begin(self._start)
        if created != self._stream_created:
            return {"deliver_policy": "all"}
        return {"deliver_policy": "by_start_sequence", "opt_start_seq": self.info.ack_floor.stream_seq + 1}

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(POLL)
            try:
                self.info = await self._jetstream.consumer(self._stream, self.name)
            except CliffracerError as error:  # the pull loop has it made again
                logger.debug("no news of consumer {name}: {error}", name=self.name, error=error)

    # -- deliveries

    def _take(self, delivery: Delivery) -> None:
        self._spawn(self._one(delivery))

    def _gather(self, delivery: Delivery) -> None:
        self._waiting.append(delivery)
        if len(self._waiting) >= (self._batch or 1):
            self._flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._within, self._flush)

    def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._waiting:
            batch, self._waiting = self._waiting, []
            self._spawn(self._many(batch))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.add(asyncio.get_running_loop().create_task(work))

    async def _one(self, delivery: Delivery) -> None:
        try:
            if await self._worth_it(delivery):
                await self._handle(delivery)
                self._done(delivery)
        except asyncio.CancelledError:
            if self._stopping:
                delivery.nak()
                raise
            await self._failed(delivery, Internal("the handler was cancelled from inside"))
        except Exception as error:  # noqa: BLE001 - whatever a handler raises, the event is tried again or parked
            await self._failed(delivery, error)
        finally:
            self._tasks.discard(asyncio.current_task())

    async def _many(self, batch: list[Delivery]) -> None:
        try:
            batch = [delivery for delivery in batch if await self._worth_it(delivery)]
            if batch:
                await self._judged(batch)
        except asyncio.CancelledError:
            for delivery in batch:
                delivery.nak()
            raise
        finally:
            self._tasks.discard(asyncio.current_task())

    async def _judged(self, batch: list[Delivery]) -> None:
        """Handle a batch and answer each of it; those that are not named in what was raised are done."""
        failures: dict[int, BaseException] = {}
        try:
            await self._handle(batch)
        except Rejected as error:
            failures = dict.fromkeys(error.reasons, error)
        except PartlyFailedError as error:
            failures = error.failures
        except Exception as error:  # noqa: BLE001 - as for a single event
            failures = dict.fromkeys(range(len(batch)), error)
        for index, delivery in enumerate(batch):
            if index in failures:
                await self._failed(delivery, failures[index])
            else:
                self._done(delivery)

    async def _worth_it(self, delivery: Delivery) -> bool:
        """Prepare a delivery; park it if it was delivered more often than the schedule says and nobody ever said why."""
        if delivery.subject.startswith(self._replay):
            delivery.subject = self._subjects.event(delivery.subject.removeprefix(self._replay))
        if delivery.attempt <= len(self._retry) + 1 + UNFINISHED:
            return True
        await self._park(delivery, Internal(f"delivered {delivery.attempt} times and never finished: do its replicas die of it?"))
        return False

    def _done(self, delivery: Delivery) -> None:
        self.counts.handled += 1
        delivery.ack()

    async def _failed(self, delivery: Delivery, error: BaseException) -> None:
        """Give the event back for another attempt, or park it after the last."""
        self.counts.failed += 1
        if isinstance(error, Overloaded):  # nothing was tried
            delivery.nak(error.retry_after)
            return
        if isinstance(error, InvalidInput) or delivery.attempt > len(self._retry):
            await self._park(delivery, error)
            return
        wait = self._retry[delivery.attempt - 1]
        logger.warning(
            "{service}.{function} failed for {subject}, attempt {attempt}: {error}; again in {wait:g} s",
            service=self.service, function=self.function, subject=delivery.subject, attempt=delivery.attempt, error=repr(error), wait=wait,
        )  # fmt: skip
        if self._clock.movable:
            self._spawn(self._again(delivery, wait))
        else:
            delivery.nak(wait)

    async def _again(self, delivery: Delivery, wait: float) -> None:
        """Keep a delivery in hand until it is due by a clock that the server does not know, then give it back."""
        try:
            await self._clock.until(self._clock.now() + wait)
        finally:
            delivery.nak()
            self._tasks.discard(asyncio.current_task())

    async def _park(self, delivery: Delivery, error: BaseException) -> None:
        try:
            await self._dead.park(delivery, error, service=self.service, function=self.function)
        except CliffracerError as problem:
            logger.error(
                "{subject} ({stream}:{sequence}) could not be parked and is tried again: {problem}",
                subject=delivery.subject, stream=delivery.stream, sequence=delivery.stream_seq, problem=problem,
            )  # fmt: skip
            delivery.nak(PARK_AGAIN)
            return
        self.counts.parked += 1
        logger.opt(exception=error).error(
            "{service}.{function} gave up on {subject} ({stream}:{sequence}) after attempt {attempt}: parked",
            service=self.service, function=self.function, subject=delivery.subject, stream=delivery.stream, sequence=delivery.stream_seq,
            attempt=delivery.attempt,
        )  # fmt: skip
        delivery.term()


def _begin(start: Start) -> dict[str, Any]:
    """Return the fields of a consumer that say where it begins."""
    if start in ("new", "all"):
        return {"deliver_policy": start}
    if isinstance(start, int):
        return {"deliver_policy": "by_start_sequence", "opt_start_seq": max(1, start)}
    moment = start if isinstance(start, datetime) else _moment(start)
    return {"deliver_policy": "by_start_time", "opt_start_time": moment.astimezone(UTC).isoformat().replace("+00:00", "Z")}


def _moment(start: str | timedelta) -> datetime:
    if isinstance(start, str):
        try:
            return datetime.fromisoformat(start)
        except ValueError:
            pass  # then it is a length of time
    try:
        return datetime.now(UTC) - timedelta(seconds=seconds(start))
    except ValueError:
        raise SetupError(
            f"start={start!r} cannot be read: new, all, a sequence, a time as 2026-01-31T12:00:00Z, or how long ago as 1h."
        ) from None
