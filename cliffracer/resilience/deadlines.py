"""Ends calls whose time is over or whose caller is gone, with one timer for all of them.

A timer per call would cost more than a short call; one sweep looks at what runs every 25 ms, and only while
something runs.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Iterable
from typing import Any, Literal

from loguru import logger

from cliffracer.context import Context

TICK = 0.025
UNMADE: Any = object()
"""Stands for the call of a first step in which its context is only made; see `Watch.begun`."""
_NAMED = 10  # of what a stop cuts short
Reason = Literal["deadline", "cancelled", "stopping"]


class Watch:
    """The calls that run now; each knows its task."""

    __slots__ = ("armed", "begun", "loop", "running")

    def __init__(self) -> None:
        self.begun: Context | None = None
        """The call that makes its first step, or `UNMADE`: `Starts` has it looked after if it waits, most do not."""
        self.running: set[Context] = set()
        """Holds what keeps a call's task alive."""
        self.armed = False
        self.loop: asyncio.AbstractEventLoop | None = None
        """The loop that all of them run in, once it is known: who has it need not ask, which on Python 3.11 is a system call."""

    def end(self, context: Context, reason: Reason) -> None:
        """End a call now, also one that has not begun: it then fails with ``reason`` before its handler is entered."""
        if context.ended is None:
            context.ended = reason
            if context in self.running:
                context.task.cancel()

    def meet(self, context: Context) -> None:
        """Take note of a call that nobody has announced: it is that of this first step, or runs in a task and is watched."""
        if self.begun is UNMADE:
            self.begun = context
        else:
            self.look_after(context, asyncio.current_task(self.loop))

    def look_after(self, context: Context, task: "asyncio.Task[Any] | None") -> None:
        """Watch a call that runs in a task and waits."""
        context.task = task
        self.running.add(context)
        if not self.armed:
            self.arm()

    def leave(self, context: Context) -> None:
        """Forget a call that has ended; `invoke` does the same where nothing failed."""
        if self.begun is context:
            self.begun = None
        context.task = None  # or context, task and frame would hold each other
        self.running.discard(context)

    def arm(self) -> None:
        """Look after the calls that run, until none does."""
        self.armed = True
        loop = self.loop = self.loop or asyncio.get_running_loop()
        loop.call_later(TICK, self._sweep)

    def _sweep(self) -> None:
        self.armed = False
        now = time.monotonic()
        late = [c for c in self.running if c.deadline is not None and c.deadline <= now]
        for context in late:
            self.end(context, "deadline")
        if self.running:
            self.arm()


def tell_unfinished(watches: Iterable[Watch], when: str) -> None:
    """Log which calls are not finished and end ``when`` all the same; nothing if all are."""
    often = Counter(f"{context.service}.{context.handler}" for watch in watches for context in watch.running)
    named = [f"{name} ({count} times)" if count > 1 else name for name, count in often.most_common(_NAMED)]
    if more := len(often) - len(named):
        named.append(f"{more} more")
    if named:
        logger.warning("ended {}, before these had finished: {}", when, ", ".join(named))
