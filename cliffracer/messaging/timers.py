"""Timers: once per cluster and without overlap, or in every replica.

Every replica schedules the next tick with the server, a minute ahead, all under one message id, so that one is kept; the server
stores it when it is due, by its own clock (ADR-51). A consumer with one delivery in flight hands it to one replica, and to another
if that one dies. A tick that nobody took in time gives way to the next. If the server has no schedules, or the clock is a test's,
the tick is published when it is due, under the same id.
"""

import asyncio
import random
import time

import msgspec
from loguru import logger

from cliffracer.clock import SYSTEM, Clock
from cliffracer.errors import CliffracerError, DeadlineExceeded, Forbidden, SetupError, Unavailable
from cliffracer.messaging.consumption import Consumption
from cliffracer.messaging.delivery import Delivery
from cliffracer.messaging.ensuring import ensure_stream
from cliffracer.messaging.jetstream import JetStream, StreamInfo, read_stored
from cliffracer.messaging.plans import Missed, Plan, Run, Wait, attempt
from cliffracer.messaging.schedules import keeps_schedules, scheduled
from cliffracer.messaging.streams import durable_name, tick_subject, timer_of, timer_subject, timers_stream
from cliffracer.wire.headers import MESSAGE_ID, encode_headers
from cliffracer.wire.subjects import Subjects

LEAD = 60.0  # seconds before a tick is due at which it is scheduled, at most half of the interval
_LEAST_LEAD = 1.0
LEASE = 10.0  # seconds after which another replica takes over from one that died
_TIDY = 60.0


class _Tick(msgspec.Struct):
    due: float
    """POSIX time."""


class Timer:
    """Runs a function by a plan once per cluster.

    ``missed``: what was due while no replica was there, or while the function still ran, is made up for
    ``once``, or is left out (``skip``).
    """

    def __init__(  # noqa: PLR0917 - what it is about by position, how by name
        self,
        jetstream: JetStream,
        subjects: Subjects,
        service: str,
        function: str,
        plan: Plan,
        run: Run,
        *,
        missed: Missed = "once",
        lease: float = LEASE,
        clock: Clock = SYSTEM,
    ) -> None:
        self.name = durable_name(subjects, service, f"{function}-timer")
        self.function = function
        self._jetstream = jetstream
        self._subjects = subjects
        self._plan = plan
        self._run = run
        self._missed = missed
        self._clock = clock
        self._wait = Wait(plan, clock)
        self._source = timer_of(subjects, self.name)
        self._subject = timer_subject(subjects, self.name)
        self._ticking: asyncio.Task[None] | None = None
        self._tidied = 0.0
        self._schedules = self._plain = False
        self._noted = 0.0  # the due time that was, or is to be, scheduled last
        self.publishing = False
        """Whether a due tick is not stored yet."""
        self.consumption = Consumption(
            jetstream, subjects, service, f"{function}-timer", "", self._handle,
            source=self._source, single=True, retry=(), ack_wait=lease, clock=clock, made=self._ensured,
        )  # fmt: skip

    @property
    def following(self) -> float:
        """When it is due next, POSIX time."""
        return self._plan.after(self._clock.now())

    async def due(self) -> bool:
        """Say whether it is due or running, here or elsewhere."""
        return self.publishing or await self.consumption.waiting() > 0

    async def start(self) -> None:
        """Return once the consumer is there; from then on ticks are published and taken."""
        await self._ensured()
        due = await self._overdue()
        await self.consumption.start()
        self._ticking = asyncio.get_running_loop().create_task(self._tick(due), name=f"timer {self.name}")

    async def _ensured(self) -> StreamInfo:
        """Make the stream if it is absent, and schedule the tick again in case it was lost: with the same id it stays one."""
        made = await self._stream()
        if self._schedules and self._noted > self._clock.now():
            await self._store(self._noted, ahead=True)
        return made

    async def _stream(self) -> StreamInfo:
        """Return the stream, with schedules if possible."""
        refusal: CliffracerError | None = None
        if keeps_schedules(self._jetstream) and not self._clock.movable and not self._plain:
            config = timers_stream(self._subjects, schedules=True)
            try:
                made = await ensure_stream(self._jetstream, config, namespace=self._subjects.namespace)
            except (SetupError, Forbidden) as error:
                refusal = error
            else:
                self._schedules = True
                return made
        made = await ensure_stream(self._jetstream, self._source.stream, namespace=self._subjects.namespace)
        if refusal is not None:  # an operator has configured the stream differently
            logger.info("{timer} goes by our clocks, not by that of NATS: {error}", timer=self.name, error=refusal)
            self._plain = True
        self._schedules = False
        return made

    def _lead(self, due: float) -> float:
        """Return how many seconds before it is due a tick is scheduled; 0 if it is published when it is due.

        That is so for short intervals, and where a tick that becomes due while no replica is running must not be made up for.
        """
        lead = min(LEAD, (self._plan.after(due) - due) / 2)
        return lead if self._schedules and self._missed == "once" and lead >= _LEAST_LEAD else 0.0

    async def drain(self, seconds: float) -> None:
        """Publish and take no more ticks, and let a running function finish."""
        if self._ticking is not None:
            self._ticking.cancel()
            await asyncio.wait([self._ticking])
        await self.consumption.drain(seconds)

    async def _overdue(self) -> float:
        """Return the first due time: the last one that was missed while no replica was running, or the next one."""
        now = self._clock.now()
        last = await self._jetstream.last_message(self._source.stream.name, self._subject)
        if last is not None and self._missed == "once":
            due, tick = self._plan.until(now), read_stored(last.data, _Tick)
            if tick is None or due > tick.due:
                return due
        return self._plan.after(now)

    async def _tick(self, due: float) -> None:
        told = False
        while True:
            due = await self._wait.until(due, self._lead)
            lead = self._lead(due)
            self.publishing = not lead
            try:
                await self._publish(due, ahead=lead > 0)
            except CliffracerError as error:
                if not told:  # once, however many fail until one can be published again
                    logger.warning("the tick of {timer} could not be published: {error}", timer=self.name, error=error)
                told = True
            else:
                told = False
            finally:
                self.publishing = False
            due = self._plan.after(max(due, self._clock.now()))

    async def _publish(self, due: float, *, ahead: bool) -> None:
        """Store or schedule the tick; while NATS is away it is repeated until a newer one is due."""
        self._noted = due if ahead else 0.0
        while True:
            try:
                await self._store(due, ahead=ahead)
            except (Unavailable, DeadlineExceeded):
                if self._plan.after(due) <= self._clock.now():
                    raise
                await asyncio.sleep(0.2 + random.random() * 0.2)  # noqa: S311 - jitter
            else:
                return

    async def _store(self, due: float, *, ahead: bool) -> None:
        subject = tick_subject(self._subjects, self.name, due) if ahead else self._subject
        block = encode_headers({MESSAGE_ID: f"{self.name}@{due!r}", **(scheduled(due, self._subject) if ahead else {})})
        await self._jetstream.store(subject, msgspec.json.encode(_Tick(due)), block, timeout=2.0)

    async def _handle(self, delivery: Delivery) -> None:
        if self.consumption.pull.overslept():  # this process was suspended with the delivery, and another replica has run it since
            self.consumption.pull.leave(delivery)
            return
        due = msgspec.json.decode(delivery.payload, type=_Tick).due
        if delivery.pending or (self._missed == "skip" and self._plan.after(due) <= self._clock.now()):
            return  # there is a newer tick, or will be
        await attempt(self.name, self._run)
        await self._tidy(delivery.stream_seq)

    async def _tidy(self, sequence: int) -> None:
        """Remove ticks before the last one, now and then."""
        if time.monotonic() - self._tidied < _TIDY:
            return
        self._tidied = time.monotonic()
        try:
            await self._jetstream.purge(self._source.stream.name, filter=self._subject, seq=sequence)
        except CliffracerError as error:  # next time
            logger.debug("old ticks of {timer} are still there: {error}", timer=self.name, error=error)
