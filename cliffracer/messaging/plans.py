"""When timers are due; and timers of one replica alone, which need no broker."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Literal

import msgspec
from loguru import logger

from cliffracer.clock import LONGEST_NAP, SYSTEM, Clock
from cliffracer.cron import Cron
from cliffracer.errors import Internal

_LONGEST_AGO = 10 * 366 * 86_400.0

Run = Callable[[], Awaitable[object]]
Missed = Literal["once", "skip"]


class Every(msgspec.Struct, frozen=True):
    """Every so many seconds, on a grid that all replicas share."""

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
        """Return the last time that is not after a moment: search back in growing steps, then between there and the moment."""
        step, last, end = 60.0, self.after(moment - 60.0), moment
        while last > moment:
            step *= 8
            if step > _LONGEST_AGO:
                return 0.0
            last = self.after(moment - step)
        while end - last >= 1.0:  # times are whole seconds, and there is none after the end
            middle = (last + end) / 2
            candidate = self.after(middle)
            last, end = (candidate, end) if candidate <= end else (last, middle)
        return last


Plan = Every | At


class Wait:
    """Waits for the times of a plan, by a clock that may be set."""

    def __init__(self, plan: Plan, clock: Clock) -> None:
        self._plan = plan
        self._clock = clock
        self._seen = clock.now()

    async def until(self, due: float, lead: Callable[[float], float] = lambda _: 0.0) -> float:
        """Return when a time has come, less the lead that it has, and which: an earlier one where the clock was set back meanwhile.

        A machine may correct its clock by hours once it has found out what time it is: nothing would run until it is as late again.
        """
        while True:
            now = self._clock.now()
            if now < self._seen:
                due = self._plan.after(now)
            self._seen = now
            wait = due - lead(due) - now
            if wait <= 0:
                return due
            await self._clock.nap(min(wait, LONGEST_NAP))


class LocalTimer:
    """Runs a function by a plan in this replica alone (``each=True``), without overlap; ticks that come while it runs are skipped."""

    def __init__(self, name: str, plan: Plan, run: Run, *, clock: Clock = SYSTEM) -> None:
        self.name = name
        self._plan = plan
        self._run = run
        self._clock = clock
        self._wait = Wait(plan, clock)
        self._task: asyncio.Task[None] | None = None
        self._running = False
        self._stopping = False

    @property
    def following(self) -> float:
        """When it is due next, POSIX time."""
        return self._plan.after(self._clock.now())

    async def due(self) -> bool:
        """Say whether it runs."""
        return self._running

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
            await self._wait.until(due)
            self._running = True
            await attempt(self.name, self._run)
            self._running = False


async def attempt(name: str, run: Run) -> None:
    """Run a timer's function; what it raises is logged."""
    try:
        await run()
    except Exception as error:  # noqa: BLE001 - the next tick is its next attempt, whatever it raised
        if not isinstance(error, Internal) or error.error_id is None:  # else it was logged already, with its traceback
            logger.warning("timer {name} failed: {error!r}", name=name, error=error)
