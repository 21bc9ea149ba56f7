"""What held the event loop: the stack of its thread, the user's own frames first, and the call they belong to."""

import linecache
import sysconfig
import time
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import msgspec
from loguru import logger

from cliffracer.context import Context, current
from cliffracer.observability.tracebacks import OURS

_ROWS = 20
_CURE = "nothing else runs meanwhile; await instead, or declare the handler with def, which runs it in a thread"
_LOOP = ("_run", "_run_once", "select", "run_forever")  # the functions of asyncio and selectors that a loop at rest is in
_DEBUGGERS = ("pdb.py", "bdb.py", "pydevd.py", "pydevd_frame.py")
_LIBRARIES = tuple(sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib"))


class Row(NamedTuple):
    """One frame."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        source = linecache.getline(self.file, self.line).strip()
        path = Path(self.file)
        shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
        return f"{shown}:{self.line} in {self.function}{': ' if source else ''}{source}"


class Held(NamedTuple):
    """What was found in the thread of a loop that stands still."""

    rows: list[Row]
    """The user's frames, then those of libraries that they called, each innermost first; without any of the user's, all. Never empty."""
    context: Context | None
    """The call that does it, as far as that can be seen."""


class Incident(msgspec.Struct, frozen=True):
    """The loop stood still."""

    seconds: float
    ended: bool
    """False: it still does."""
    held: Held

    @property
    def place(self) -> Row:
        """The innermost frame of the user's, if there is one."""
        return self.held.rows[0]


class Reports:
    """Logs incidents, one place once in a while, since a blocking handler that is called often blocks often."""

    def __init__(self, pause: float = 10.0, places: int = 200) -> None:
        self._pause = pause
        self._places = places
        self._logged: dict[Row, float] = {}
        self._untold: dict[Row, int] = {}

    def log(self, incident: Incident) -> None:
        """Log one incident, or count it if its place was logged a moment ago."""
        place, now = incident.place, time.monotonic()
        if now - self._logged.get(place, -self._pause) < self._pause:
            self._untold[place] = self._untold.get(place, 0) + 1
            return
        if len(self._logged) >= self._places:
            self._logged.clear()
            self._untold.clear()
        self._logged[place] = now
        context = incident.held.context
        subject = "" if context else f"{place.function} "  # a call's line says which handler it is
        fields = {"seconds": round(incident.seconds, 3), "stack": [str(row) for row in incident.held.rows]}
        if more := self._untold.pop(place, 0):
            fields["times_before"] = more
        token = current.set(context)  # in this thread, so that the line carries the call's ids
        try:
            logger.bind(**fields).warning(f"{subject}{'blocked' if incident.ended else 'blocks'} the event loop: {_CURE}")
        finally:
            current.reset(token)


def held_by(frame: FrameType | None, base: FrameType | None) -> tuple[FrameType | None, Held | None]:
    """Return what runs above ``base``, the frame that runs the loop: the callback's own frame, and what to say of it.

    Nothing runs when the loop rests, and nothing is said while somebody debugs. Lines are read at once, since the thread may
    go on at any moment.
    """
    found: list[tuple[FrameType, Row]] = []
    while frame is not None and frame is not base:
        found.append((frame, Row(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name)))
        frame = frame.f_back
    running = [(one, row) for one, row in found if not (row.function in _LOOP and _is_library(row.file))]
    rows = [row for _, row in running]
    if frame is None or not rows or any(row.file.endswith(_DEBUGGERS) for row in rows):
        return None, None
    users = [row for row in rows if not _is_library(row.file)]
    if users:  # what led there is the same each time, and nobody's mistake
        called = rows[: -rows[::-1].index(users[-1]) or None]
        rows = [*users, *(row for row in called if _is_library(row.file) and not row.file.startswith(OURS))]
    return running[-1][0], Held(rows[:_ROWS], next((context for one, _ in running if (context := _context_in(one))), None))


def _is_library(file: str) -> bool:
    return file.startswith((OURS, *_LIBRARIES, "<frozen")) or "site-packages" in file


def _context_in(frame: FrameType) -> Context | None:
    """The context that our own `invoke` has in its frame; a task does not give its context away before Python 3.12."""
    if frame.f_code.co_name != "invoke" or not frame.f_code.co_filename.startswith(OURS):
        return None
    found = frame.f_locals.get("context")
    return found if isinstance(found, Context) else None
