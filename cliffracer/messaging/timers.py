"""Timers: once per cluster and without overlap, or in every replica.

Whoever is there publishes the tick of a due time, all under one message id, so that the stream keeps one; a consumer with one
delivery in flight hands it to one replica, and to another if that one dies. A tick that nobody took in time gives way to the next.
The server's own schedules (ADR-51) are not used for this: they go on when the code has no such timer any more, and their cron
skips a time at a change of clocks that ours catches up.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Literal

import msgspec
from loguru import logger

from cliffracer.clock import SYSTEM, Clock
from cliffracer.cron import Cron
from cliffracer.errors import CliffracerError, DeadlineExceeded, Unavailable
from cliffracer.messaging.consumption import Consumption
from cliffracer.messaging.delivery import Delivery
from cliffracer.messaging.ensuring import ensure_stream
from cliffracer.messaging.jetstream import JetStream
from cliffracer.messaging.streams import durable_name, timer_of, timer_subject
from cliffracer.wire.headers import MESSAGE_ID, encode_headers
from cliffracer.wire.subjects import Subjects

LEASE = 10.0  # seconds after which another replica takes over from one that died
_LONGEST_AGO = 10 * 366 * 86_400.0
_TIDY = 60.0

Run = Callable[[], Awaitable[object]]
Missed = Literal["once", "skip"]


class Every(msgspec.Struct, frozen=True):
    """Each so many seconds, on a grid that all replicas share."""

    seconds: float

    def after(self, moment: float) -> float:
        """Return the first time after a moment, both POSIX."""
        return (moment // self.seconds + 1) * self.seconds

    def until(self, moment: float) -> float:
        """Return the last time that is not after a moment."""
        return moment // self.seconds * self.seconds


class At(msgspec.Struct, frozen=True):
    """When a cron expression says."""

    cron: Cron

    def after(self, moment: float) -> float:
        """Return the first time after a moment, both POSIX."""
        due = self.cron.after(datetime.fromtimestamp(moment, UTC))
        return float("inf") if due is None else due.timestamp()

    def until(self, moment: float) -> float:
        """Return the last time that is not after a moment; looked for further and further back."""
        step = 60.0
        while step < _LONGEST_AGO:
            last, candidate = None, self.after(moment - step)
            while candidate <= moment:
                last, candidate = candidate, self.after(candidate)
            if last is not None:
                return last
            step *= 8
        return 0.0


Plan = Every | At


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
        replicas: int = 1,
    ) -> None:
        self.name = durable_name(subjects, service, f"{function}-timer")
        self.function = function
        self._jetstream = jetstream
        self._subjects = subjects
        self._plan = plan
        self._run = run
        self._missed = missed
        self._clock = clock
        self._source = timer_of(subjects, self.name, replicas=replicas)
        self._subject = timer_subject(subjects, self.name)
        self._ticking: asyncio.Task[None] | None = None
        self._tidied = 0.0
        self.publishing = False
        """Whether a tick is due and not stored yet."""
        self.consumption = Consumption(
            jetstream, subjects, service, f"{function}-timer", "", self._handle,
            source=self._source, single=True, retry=(), ack_wait=lease, replicas=replicas, clock=clock,
        )  # fmt: skip

    @property
    def following(self) -> float:
        """When it is due next, POSIX time."""
        return self._plan.after(self._clock.now())

    async def start(self) -> None:
        """Return once the consumer is there; from then on ticks are published and taken."""
        await ensure_stream(self._jetstream, self._source.stream, namespace=self._subjects.namespace)
        due = await self._overdue()
        await self.consumption.start()
        self._ticking = asyncio.get_running_loop().create_task(self._tick(due), name=f"timer {self.name}")

    async def drain(self, seconds: float) -> None:
        """Publish and take no more ticks, and let the function finish if it runs."""
        if self._ticking is not None:
            self._ticking.cancel()
            await asyncio.wait([self._ticking])
        await self.consumption.drain(seconds)

    async def _overdue(self) -> float:
        """Return what to begin with: the last time that was missed while no replica was there, or the next one."""
        now = self._clock.now()
        last = await self._jetstream.last_message(self._source.stream.name, self._subject)
        if last is not None and self._missed == "once":
            due = self._plan.until(now)
            if due > msgspec.json.decode(last.data, type=_Tick).due:
                return due
        return self._plan.after(now)

    async def _tick(self, due: float) -> None:
        while True:
            await self._clock.until(due)
            self.publishing = True
            try:
                await self._publish(due)
            except CliffracerError as error:
                logger.warning("the tick of {timer} could not be published: {error}", timer=self.name, error=error)
            finally:
                self.publishing = False
            due = self._plan.after(max(due, self._clock.now()))

    async def _publish(self, due: float) -> None:
        """Store the tick; while NATS is away, for as long as nothing newer is due."""
        block = encode_headers({MESSAGE_ID: f"{self.name}@{due!r}"})
        payload = msgspec.json.encode(_Tick(due))
        while True:
            try:
                await self._jetstream.store(self._subject, payload, block, timeout=2.0)
            except (Unavailable, DeadlineExceeded):
                if self._plan.after(due) <= self._clock.now():
                    raise
                await asyncio.sleep(0.2 + random.random() * 0.2)  # noqa: S311 - jitter
            else:
                return

    async def _handle(self, delivery: Delivery) -> None:
        due = msgspec.json.decode(delivery.payload, type=_Tick).due
        if delivery.pending or (self._missed == "skip" and self._plan.after(due) <= self._clock.now()):
            return  # a newer tick is there, or will be
        await _attempt(self.name, self._run)
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


class LocalTimer:
    """Runs a function by a plan in this replica alone (``each=True``), without overlap; ticks that come while it runs are skipped."""

    def __init__(self, name: str, plan: Plan, run: Run, *, clock: Clock = SYSTEM) -> None:
        self.name = name
        self._plan = plan
        self._run = run
        self._clock = clock
        self._task: asyncio.Task[None] | None = None
        self._running = False
        self._stopping = False

    @property
    def following(self) -> float:
        """When it is due next, POSIX time."""
        return self._plan.after(self._clock.now())

    async def start(self) -> None:
        """Begin to wait for the first time."""
        self._task = asyncio.get_running_loop().create_task(self._tick(), name=f"timer {self.name}")

    async def drain(self, seconds: float) -> None:
        """Start it no more; if it runs, let it finish within some seconds."""
        if self._task is None:
            return
        self._stopping = True
        if self._running:
            await asyncio.wait([self._task], timeout=seconds)
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _tick(self) -> None:
        while not self._stopping:
            due = self._plan.after(self._clock.now())
            await self._clock.until(due)
            self._running = True
            await _attempt(self.name, self._run)
            self._running = False


async def _attempt(name: str, run: Run) -> None:
    try:
        await run()
    except Exception as error:  # noqa: BLE001 - the next tick is its next attempt, whatever it raised
        logger.warning("timer {name} failed: {error!r}", name=name, error=error)
