"""One function's durable events: pulled, handled, and answered by its `Policy`; singly or in batches."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Any

from loguru import logger

from cliffracer.clock import SYSTEM, Clock
from cliffracer.eager import Starts
from cliffracer.errors import CliffracerError, DeadlineExceeded, Internal, Overloaded, Unavailable
from cliffracer.events import Rejected
from cliffracer.messaging.broker import Counts, PartlyFailedError, Start
from cliffracer.messaging.claimcheck import ClaimCheck, is_claim
from cliffracer.messaging.configurations import FUNCTION, NANOSECONDS, SERVICE, ConsumerConfig
from cliffracer.messaging.deadletters import DeadLetters
from cliffracer.messaging.delivery import Delivery
from cliffracer.messaging.ensuring import ensure_consumer, ensure_stream
from cliffracer.messaging.jetstream import ConsumerInfo, JetStream, StreamInfo
from cliffracer.messaging.policy import UNFINISHED, NameOf, Policy, RetryOf
from cliffracer.messaging.pull import Pull
from cliffracer.messaging.siblings import Siblings, fitting
from cliffracer.messaging.streams import Source, begin, durable_name, events_of
from cliffracer.resilience.deadlines import Watch
from cliffracer.wire.subjects import Subjects, matches

ACK_WAIT = 30.0  # seconds after which a replica that says nothing is taken for dead
IN_FLIGHT = 65_536  # deliveries that a consumer has open in all replicas; those that wait for another attempt count
POLL = 5.0  # seconds between two looks at how far the consumer is


class Consumption:
    """A durable consumer of one function and what is done with its deliveries.

    ``handle`` returns: acknowledged. It raises: delivered again after ``retry[n]`` seconds, then parked; `InvalidInput`: parked
    at once. With ``batch``, it gets a list, and may raise `Rejected` or `PartlyFailedError` for some of it. ``single``: one
    delivery at a time in all replicas together. ``info`` is how far the consumer is, as of some seconds ago. ``made()`` makes the
    stream where it is not there. ``watch`` looks after calls that ``handle`` makes.
    """

    info: ConsumerInfo | None = None
    _polling: asyncio.Task[None] | None = None
    _unfinished = UNFINISHED
    _stream_created = ""

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
        retry_of: RetryOf | None = None,
        name_of: NameOf | None = None,
        limit: int = 100,
        start: Start = "new",
        single: bool = False,
        batch: int | None = None,
        within: float = 0.05,
        group: str | None = None,
        source: Source | None = None,
        ack_wait: float = ACK_WAIT,
        clock: Clock = SYSTEM,
        made: Callable[[], Awaitable[StreamInfo]] | None = None,
        watch: Watch | None = None,
    ) -> None:
        self.service, self.function = service, function
        self.name, self._owner = durable_name(subjects, service, function, group), group or function
        self.patterns = [pattern] if isinstance(pattern, str) else list(pattern)
        self._jetstream, self._subjects = jetstream, subjects
        self._handle, self._start, self._batch, self._within = handle, start, batch, within
        self._source = source or events_of(subjects, self.name, self.patterns)
        self._made = made or partial(ensure_stream, jetstream, self._source.stream, namespace=subjects.namespace)
        self._stream, self._replay = self._source.stream.name, (self._source.replay or "\n").encode()  # no subject begins with a line break
        self._ours, self._siblings = fitting(self._source.only), Siblings(jetstream, subjects, self, self._source, alone=group is None)
        self._loop = asyncio.get_running_loop()
        self._starts, self._claims = Starts(self._loop, watch), ClaimCheck(jetstream, subjects.namespace)
        dead = DeadLetters(jetstream, subjects)
        self._policy = Policy(dead, service, function, retry, clock, self._siblings.differ, retry_of, name_of, unfinished=self._unfinished)
        self._tasks, self._waiting = set[asyncio.Task[None]](), list[Delivery]()
        self._patient: set[asyncio.Task[None]] = set()  # of those, who only wait until an overloaded handler may be asked again
        self._timer: asyncio.TimerHandle | None = None
        self._closing = self._stopping = False
        self._in_flight, self._ack_wait, self._limit = 1 if single else IN_FLIGHT, ack_wait, max(limit, batch or 0)
        self.pull = self._pulling()

    @property
    def counts(self) -> Counts:
        """What became of deliveries since the start of this process."""
        return self._policy.counts

    @property
    def in_hand(self) -> int:
        """How many events this replica has and has not answered."""
        return len(self.pull.held)

    @property
    def lag(self) -> int:
        """How many events wait for this function in all replicas, as of some seconds ago."""
        return 0 if self.info is None else self.info.num_pending + self.info.num_ack_pending

    async def waiting(self) -> int:
        """Ask how many events wait for this function or are in hand, in all replicas, now."""
        self.info = await self._jetstream.consumer(self._stream, self.name)
        return self.lag

    @property
    def partial(self) -> bool:
        """Whether, as of `waiting`, all that there is for it waits here for others to make a batch."""
        return bool(self._waiting) and len(self._waiting) == self.lag

    async def start(self) -> None:
        """Return once the stream and the consumer are there and events are asked for."""
        await self.pull.start()
        self._polling = self._loop.create_task(self._poll(), name=f"lag of {self.name}")

    async def drain(self, within: float = 10.0) -> None:
        """Take nothing more, finish what is in hand within some seconds, and give back the rest to the other replicas at once."""
        self._closing = True
        await self.pull.stop()
        if self._polling is not None:
            self._polling.cancel()
            await asyncio.wait([self._polling])
        await self._give_back(within)

    def _pulling(self) -> Pull:
        take = self._take if self._batch is None else self._gather
        return Pull(
            self._jetstream.bus, self._stream, self.name, take=take, ensure=self.ensure, limit=self._limit, ack_wait=self._ack_wait,
            together=self._batch or 1,
        )  # fmt: skip

    async def _give_back(self, within: float) -> None:
        """Finish what is begun within some seconds, once no more comes; give back the rest, at once what has not begun."""
        self.hand_over()
        for task in self._patient:
            task.cancel()
        while self._starts:  # noqa: ASYNC110 - a turn or two: nothing more comes
            await asyncio.sleep(0)
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

    async def ensure(self) -> str:
        """Make stream and consumer if they are absent; return when they were made."""
        stream = await self._made()
        asked = ConsumerConfig(
            name=self.name,
            durable_name=self.name,
            filter_subjects=self._source.filters,
            ack_wait=int(self._ack_wait * NANOSECONDS),
            max_ack_pending=self._in_flight,
            metadata={SERVICE: self.service, FUNCTION: self._owner},
            **self._place(stream.created),
        )
        self.info = await ensure_consumer(self._jetstream, stream.config["name"], asked)
        self._stream_created = stream.created
        return f"{stream.created} {self.info.created}"

    def _place(self, created: str) -> dict[str, Any]:
        """Return where the consumer begins if it has to be made: where the lost one was, if we knew it."""
        if self.info is None:
            return begin(self._start)
        if created != self._stream_created:
            return {"deliver_policy": "all"}
        return {"deliver_policy": "by_start_sequence", "opt_start_seq": self.info.ack_floor.stream_seq + 1}

    async def _poll(self) -> None:
        await self._siblings.look()
        while True:
            await asyncio.sleep(POLL * (0.75 + random.random() / 2))  # noqa: S311 - jitter
            try:
                self.info = await self._jetstream.consumer(self._stream, self.name)
                self.info = await self._siblings.agree(self.info) or self.info
            except CliffracerError as error:  # the pull loop has it made again
                logger.debug("no news of consumer {name}: {error}", name=self.name, error=error)

    # -- deliveries

    def _take(self, delivery: Delivery) -> None:
        if self._ours(delivery.stored_on) or self._ours_too(delivery):
            self._starts.add(self._one(delivery), None, self._tasks)

    def _gather(self, delivery: Delivery) -> None:
        if self._ours(delivery.stored_on) or self._ours_too(delivery):
            self._waiting.append(delivery)
            if len(self._waiting) >= (self._batch or 1):
                self.hand_over()
            elif self._timer is None:
                self._timer = self._loop.call_later(self._within, self.hand_over)

    def hand_over(self) -> None:
        """Handle what waits now, although it makes no whole batch."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._waiting:
            batch, self._waiting = self._waiting, []
            self._spawn(self._many(batch))

    def _ours_too(self, delivery: Delivery) -> bool:
        """Say whether it is one that is replayed to this function, and give it the subject that it had; what is not ours goes its way."""
        if delivery.stored_on.startswith(self._replay):
            delivery.subject = self._subjects.event(delivery.subject.removeprefix(self._source.replay))
            return True
        if any(matches(one, delivery.subject) for one in self._source.filters):
            delivery.ack()  # it only comes because patterns overlap (`distinct`): left alone
        else:
            self._spawn(self._pass_on(delivery))
        return False

    async def _pass_on(self, delivery: Delivery) -> None:
        try:
            await self._siblings.pass_on(delivery)
        finally:
            self._tasks.discard(asyncio.current_task(self._loop))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._starts.add(work, None, self._tasks)

    async def _one(self, delivery: Delivery) -> None:
        try:
            if delivery.attempt > self._policy.most and await self._policy.gave_up(delivery):
                return
            if not delivery.payload and is_claim(delivery.block):
                delivery.payload = await self._claims.redeem(delivery.block)
            await self._handle(delivery)
            self._policy.done(delivery)
        except Overloaded as refused:
            self._spawn(self._later([delivery], refused))
        except asyncio.CancelledError:
            if self._stopping:
                delivery.nak()
                raise
            await self._policy.failed(delivery, Internal("the handler was cancelled from inside"))
        except Exception as error:  # noqa: BLE001 - whatever a handler raises, the event is tried again or parked
            await self._policy.failed(delivery, error)
        finally:
            if self._tasks:
                self._tasks.discard(asyncio.current_task(self._loop))

    async def _many(self, batch: list[Delivery]) -> None:
        try:
            for delivery in [d for d in batch if d.attempt > self._policy.most and await self._policy.gave_up(d)]:
                batch.remove(delivery)
            lost = await self._fetch(batch)
            if whole := [delivery for delivery in batch if delivery not in lost]:
                await self._judged(whole)
            await asyncio.gather(*(self._policy.failed(delivery, error) for delivery, error in lost.items()))
        except asyncio.CancelledError:
            for delivery in batch:
                delivery.nak()
            raise
        finally:
            self._tasks.discard(asyncio.current_task(self._loop))

    async def _fetch(self, batch: list[Delivery]) -> dict[Delivery, Exception]:
        """Fetch the payloads that are kept elsewhere; return those that were not to be had, and why: they fail alone."""
        lost: dict[Delivery, Exception] = {}
        elsewhere = [delivery for delivery in batch if not delivery.payload and is_claim(delivery.block)]
        for place, delivery in enumerate(elsewhere):
            try:
                delivery.payload = await self._claims.redeem(delivery.block)
            except (Unavailable, DeadlineExceeded) as error:  # each of the others would keep the rest waiting as long
                return lost | dict.fromkeys(elsewhere[place:], error)
            except Exception as error:  # noqa: BLE001 - as for a single event
                lost[delivery] = error
        return lost

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
            if index not in failures:
                self._policy.done(delivery)
        failed = {index: error for index, error in failures.items() if 0 <= index < len(batch)}
        refused = {index: error for index, error in failed.items() if isinstance(error, Overloaded)}
        if refused:
            self._spawn(self._later([batch[index] for index in refused], next(iter(refused.values()))))
        await asyncio.gather(*(self._policy.failed(batch[index], error) for index, error in failed.items() if index not in refused))

    async def _later(self, deliveries: list[Delivery], refused: Overloaded) -> None:
        """Try again what an overloaded handler did not even begin; it stays in hand, so that it counts as no attempt."""
        task = asyncio.current_task()
        assert task is not None  # it is one of `_spawn`
        self._patient.add(task)
        try:
            if not self._closing:
                await self._policy.patience(refused)
                self._spawn(self._one(deliveries[0]) if self._batch is None else self._many(deliveries))
                deliveries = []
        finally:  # ended meanwhile, so that others have it
            for delivery in deliveries:
                delivery.nak()
            self._patient.discard(task)
            self._tasks.discard(task)
