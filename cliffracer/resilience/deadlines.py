"""Ends calls whose time is over or whose caller is gone, with one timer for all of them.

A timer per call would cost more than a short call; one sweep looks at what runs every 25 ms, and only while
something runs.
"""

import asyncio
import time
from typing import Any, Literal

from cliffracer.context import Context

TICK = 0.025
Reason = Literal["deadline", "cancelled", "stopping"]


class Watch:
    """The calls that run now, each with its task."""

    __slots__ = ("_armed", "_loop", "running")

    def __init__(self) -> None:
        self.running: dict[Context, asyncio.Task[Any]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._armed = False

    def begin(self, context: Context, task: asyncio.Task[Any]) -> None:
        """Watch a call until `finish`; its task is cancelled when its deadline passes."""
        self.running[context] = task
        if not self._armed:
            self._arm()

    def finish(self, context: Context) -> None:
        """Stop watching a call."""
        del self.running[context]

    def end(self, context: Context, reason: Reason) -> None:
        """End a call now, also one that has not begun: it then fails with ``reason`` before its handler is entered."""
        if context.ended is None:
            context.ended = reason
            task = self.running.get(context)
            if task is not None:
                task.cancel()

    def _arm(self) -> None:
        self._armed = True
        loop = self._loop = self._loop or asyncio.get_running_loop()
        loop.call_later(TICK, self._sweep)

    def _sweep(self) -> None:
        self._armed = False
        now = time.monotonic()
        late = [c for c in self.running if c.deadline is not None and c.deadline <= now]
        for context in late:
            self.end(context, "deadline")
        if self.running:
            self._arm()
