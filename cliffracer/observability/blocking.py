"""Names, during development, what holds the event loop: a handler that computes or waits without ``await``.

The loop moves a heartbeat by a timer; a daemon thread looks whether it moves. Calls themselves pay nothing. When it stands
still for longer than the threshold, the thread takes the stack of the loop's thread (`sys._current_frames`), and writes one
line when the loop goes on, or after a second if it does not.
"""

import sys
import threading
import time
from asyncio import AbstractEventLoop, TimerHandle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from cliffracer.observability.incident import Held, Incident, Reports, held_by

_LONGEST_WAIT = 1.0  # seconds for which the end of an incident is waited for
_CLOSING = 2.0  # seconds that the thread may take to end


@contextmanager
def watching(loop: AbstractEventLoop, threshold: float = 0.1, report: Callable[[Incident], None] | None = None) -> Iterator[None]:
    """Report whatever holds ``loop`` for more than ``threshold`` seconds while the block runs; enter it in the loop's thread.

    ``report`` is called in a thread, once per incident; by default it logs, the same place once in ten seconds.
    """
    watch = _Watch(loop, threshold, report or Reports().log)
    watch.beat()
    watch.thread.start()
    try:
        yield
    finally:
        watch.stop()


class _Watch:
    def __init__(self, loop: AbstractEventLoop, threshold: float, report: Callable[[Incident], None]) -> None:
        self._loop = loop
        self._threshold = threshold
        self._interval = min(threshold / 4, 0.05)
        self._report = report
        self._ended = threading.Event()
        self._timer: TimerHandle | None = None
        self._beats = 0
        self._beaten = time.monotonic()
        self._inside = 0
        self._clock: int | None = None
        self._base: FrameType | None = None
        self.thread = threading.Thread(target=self._look, name="cliffracer-blocking", daemon=True)

    def beat(self) -> None:
        """Say that the loop goes on, and do so again soon."""
        if self._base is None and self._beats:  # the first beat is not the loop's own
            self._base = _running_frame(sys._getframe().f_back)  # noqa: SLF001 - there is no public way to one's caller
            self._inside = threading.get_ident()
            if hasattr(time, "pthread_getcpuclockid"):
                self._clock = time.pthread_getcpuclockid(self._inside)
        self._beats += 1
        self._beaten = time.monotonic()
        self._timer = self._loop.call_later(self._interval, self.beat)

    def stop(self) -> None:
        """End the thread; the loop's thread may do this."""
        self._ended.set()
        if self._timer is not None:
            self._timer.cancel()
        self.thread.join(_CLOSING)
        self._base = None

    def _look(self) -> None:
        """Look at the heartbeat until the block is left.

        An incident is one callback that is still there half a threshold after it was first seen: many short ones in one turn
        of the loop are load. If this thread could not look because the loop's kept the interpreter to itself, one look must do.
        Where neither could run, the machine was busy or asleep.
        """
        reported, looked, worked = 0, time.monotonic(), 0.0
        seen: FrameType | None = None
        seen_at = 0.0
        while not self._ended.wait(self._interval):
            beats, beaten, now, work = self._beats, self._beaten, time.monotonic(), self._work()
            overslept, busy = now - looked - self._interval, work - worked
            looked, worked = now, work
            held = now - beaten - self._interval
            if held < self._threshold / 2 or beats == reported:
                seen = None
                continue
            root, found = held_by(sys._current_frames().get(self._inside), self._base)  # noqa: SLF001 - documented, for debuggers
            if found is None or self._beats != beats:
                continue
            if root is not seen:
                seen, seen_at = root, now
            kept = overslept > held / 2 and busy >= self._threshold / 2
            if held >= self._threshold and (kept or now - seen_at >= self._threshold / 2):
                reported, seen, root = beats, None, None
                self._tell(found, beats, beaten + self._interval)

    def _work(self) -> float:
        """Processor seconds of the loop's thread."""
        try:
            return 0.0 if self._clock is None else time.clock_gettime(self._clock)
        except OSError:  # the thread is gone
            return 0.0

    def _tell(self, held: Held, beats: int, began: float) -> None:
        until = time.monotonic() + _LONGEST_WAIT
        while self._beats == beats and time.monotonic() < until and not self._ended.wait(self._interval):
            pass
        ended = self._beats != beats
        self._report(Incident((self._beaten if ended else time.monotonic()) - began, ended, held))


def _running_frame(frame: FrameType | None) -> FrameType | None:
    """Return the frame that runs the loop: below the callbacks, so that whatever is above it holds the loop."""
    while frame is not None and frame.f_code.co_name in ("_run", "_run_once") and "asyncio" in frame.f_code.co_filename:
        frame = frame.f_back
    return frame
