"""How much handlers have to do: the rates of the last minute."""

import time
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from cliffracer.observability.stats import Stats

_WINDOW = 60.0


class Counted(Protocol):
    """The figures of a handler, `cliffracer.handler.Handler`."""

    stats: Stats


class Rates:
    """Calls per second, and mean seconds of those that end by themselves, over the last minute, or since the last look before that."""

    def __init__(self, handlers: Sequence[Counted]) -> None:
        self._handlers = handlers
        self._timed = [handler for handler in handlers if not handler.stats.lasting]
        self._seen: deque[tuple[float, int, int, float]] = deque([(time.monotonic(), 0, 0, 0.0)])

    def now(self) -> tuple[float, float]:
        """Return (calls per second, seconds per call)."""
        moment = time.monotonic()
        calls = sum(handler.stats.calls for handler in self._handlers)
        timed = sum(handler.stats.calls for handler in self._timed)
        seconds = sum(handler.stats.seconds for handler in self._timed)
        while len(self._seen) > 1 and moment - self._seen[1][0] >= _WINDOW:
            self._seen.popleft()
        then, calls_then, timed_then, seconds_then = self._seen[0]
        if moment - self._seen[-1][0] >= 1.0:
            self._seen.append((moment, calls, timed, seconds))
        ended = timed - timed_then
        return (calls - calls_then) / max(moment - then, 1e-3), (seconds - seconds_then) / ended if ended else 0.0
