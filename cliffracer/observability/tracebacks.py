"""Tracebacks for those who wrote a handler: their own lines and what these called, without those of ours that led there."""

import os
from collections import deque
from pathlib import Path
from traceback import FrameSummary, TracebackException
from types import TracebackType

from cliffracer.observability.suggestions import with_suggestion

OURS = f"{Path(__file__).parents[1]}{os.sep}"
"""How the names of our own files begin."""


def is_ours(frame: FrameSummary) -> bool:
    """Say whether a frame is of this package."""
    return frame.filename.startswith(OURS)


def printed(error: BaseException | None, trace: TracebackType | None) -> str:
    """Return a traceback as Python prints it, chained ones included, without frames of ours that somebody else's came after."""
    whole = TracebackException(type(error), error, trace, lookup_lines=False, compact=True)  # type: ignore[arg-type]  # None is printed, too
    left = deque([whole])
    while left:
        one = left.popleft()
        theirs = max((at for at, frame in enumerate(one.stack) if not is_ours(frame)), default=-1)
        one.stack[:] = [frame for at, frame in enumerate(one.stack) if at > theirs or not is_ours(frame)]
        left.extend(further for further in (one.__cause__, one.__context__, *(one.exceptions or ())) if further is not None)
    return with_suggestion("".join(whole.format()), error)
