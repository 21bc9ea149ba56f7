"""Whether a service can work: probes of what it needs, each bounded in time, and what they say together."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Any

import msgspec
from loguru import logger

from cliffracer.errors import ServiceError

WITHIN = 2.0
KEPT = 1.0
"""Seconds for which an answer that costs a round trip is given again: anybody may ask for health at any rate."""
Probe = Callable[[], Any]
"""Returns False (or an awaitable of it), or raises, when what it looks at does not work."""
Figures = dict[str, Mapping[str, float]]
"""Numbers by what they are about: ``{"pool": {"size": 3, ...}}``."""


class Check(msgspec.Struct, frozen=True):
    """One thing that is looked at; a critical one decides readiness."""

    name: str
    probe: Probe
    critical: bool = True
    kept: float = 0.0
    """Seconds for which its answer, a failure too, is given to all who look; readiness asks anew."""


class Finding(msgspec.Struct, frozen=True):
    """What a check found; ``reason`` is empty if all is well and may be shown to anybody."""

    name: str
    critical: bool
    reason: str = ""


class Health:
    """The health of one process: ``ready`` is set when it serves, ``draining`` when it is about to stop."""

    def __init__(self, service: str, *, within: float = WITHIN, keeps: bool = True, now: Callable[[], float] = time.monotonic) -> None:
        self.service = service
        self.within = within
        """Seconds that a probe may take; one that hangs counts as failed and is not started again until it has ended."""
        self.worker = ""
        """Which of several processes that share one port this is; empty where there is one."""
        self.ready = False
        self.draining = False
        self.figures: Callable[[], Awaitable[Figures]] = _none
        """Numbers of what the service works with; it must bound its own time, and must not raise."""
        self._checks: dict[str, Check] = {}
        self._running: dict[str, asyncio.Task[str]] = {}
        self._failing: dict[str, str] = {}
        self._kept: dict[str, tuple[float, str]] = {}
        self._keeps = keeps
        self._now = now
        self._aside: asyncio.Task[list[Finding]] | None = None

    def add(self, name: str, probe: Probe, *, critical: bool = True, kept: float = 0.0) -> None:
        """Look at one more thing; a probe of the same name is replaced. ``kept`` is for how many seconds its answer may be given again."""
        self._checks[name] = Check(name, probe, critical, kept if self._keeps else 0.0)
        self._kept.pop(name, None)

    async def findings(self) -> list[Finding]:
        """Return what every check finds, now or as long ago as it is kept; they run side by side, none longer than `within`."""
        return await self._among(self._checks.values())

    async def reasons(self) -> list[str]:
        """Return why no work should be sent here now; empty if it may. Checks that do not decide that are begun, not waited for."""
        if self.draining:
            return ["stopping"]
        if not self.ready:
            return ["starting"]
        critical, others = ([check for check in self._checks.values() if check.critical is asked] for asked in (True, False))
        if self._aside is None or self._aside.done():  # for the log; one that hangs must not outlast the patience of a readiness probe
            self._aside = asyncio.create_task(self._among(others), name="health checks that are not critical")
        return [f"{found.name}: {found.reason}" for found in await self._among(critical, anew=True) if found.reason]

    async def _among(self, checks: Iterable[Check], *, anew: bool = False) -> list[Finding]:
        return list(await asyncio.gather(*(self._look(check, anew=anew) for check in checks)))

    async def _look(self, check: Check, *, anew: bool) -> Finding:
        until, reason = self._kept.get(check.name, (0.0, ""))
        if anew or self._now() >= until:
            reason = await self._ask(check)
            self._kept[check.name] = self._now() + check.kept, reason
        return Finding(check.name, check.critical, reason)

    async def _ask(self, check: Check) -> str:
        """Return why a check fails now, empty if it passes; one question at a time: who asks meanwhile gets its answer."""
        task = self._running.get(check.name)
        if task is None:
            task = self._running[check.name] = asyncio.create_task(_answer(check), name=f"health check {check.name}")
            task.add_done_callback(partial(self._ended, check.name))
        await asyncio.wait({task}, timeout=self.within)
        if task.done() and not task.cancelled():
            reason = task.result()
        else:
            task.cancel()
            reason = f"no answer within {self.within:g} s"
        self._note(check, reason)
        return reason

    def _ended(self, name: str, task: asyncio.Task[str]) -> None:
        if self._running.get(name) is task:
            del self._running[name]

    def _note(self, check: Check, reason: str) -> None:
        """Log a check that changes its mind, not one that goes on failing."""
        before = self._failing.get(check.name, "")
        if reason and not before:
            logger.bind(check=check.name, critical=check.critical).warning("health check fails: {}", reason)
        elif before and not reason:
            logger.bind(check=check.name).info("health check passes again")
        self._failing[check.name] = reason


async def _none() -> Figures:
    return {}


async def _answer(check: Check) -> str:
    """Return why a probe fails, in words that hold no secret; empty if it passes."""
    try:
        found = check.probe()
        if inspect.isawaitable(found):
            found = await found
    except ServiceError as error:
        return error.message
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a check of the user's may raise anything; that is its answer
        logger.bind(check=check.name).opt(exception=error).debug("health check raised")
        return f"raised {type(error).__name__}"
    return "failed" if found is False else ""
