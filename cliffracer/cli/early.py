"""Ctrl-C in the first moments of a command, while nothing is under way that would have to be brought to an end."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def importing() -> Iterator[None]:
    """End the process without a word, with exit code 130, when Ctrl-C comes while modules of ours are imported.

    Python would raise an exception wherever it is: within a callback of its import system that is printed there and forgotten,
    and the command goes on as if nobody had asked it to end. Where SIGINT is ignored, as under `nohup`, or somebody's own, that stays.
    """
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, _leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _leave(_number: int, _frame: FrameType | None) -> None:
    os._exit(130)
