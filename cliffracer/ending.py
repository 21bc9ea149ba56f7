"""The signals that ask what runs to end, and what it says when it has ended in order."""

import asyncio
import logging
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Final

log = logging.getLogger("cliffracer")
_INSIST: Final = (signal.SIGTERM, signal.SIGINT)
_ONE_ACT: Final = 0.1  # seconds; nobody presses Ctrl-C again within them
_HANG_UP: Final = getattr(signal, "SIGHUP", None)  # Windows has none


def asking() -> list[signal.Signals]:
    """Return the signals that ask what runs to end. Where a hang-up is ignored, as under ``nohup``, it does not."""
    hangs_up = _HANG_UP is not None and signal.getsignal(_HANG_UP) != signal.SIG_IGN
    return [*_INSIST, *([_HANG_UP] if _HANG_UP is not None and hangs_up else [])]


@contextmanager
def asked_by_signals(first: Callable[[str], None], again: Callable[[], None]) -> Iterator[None]:
    """Call ``first`` with the name of a signal that asks to end, ``again`` at a second one.

    SIGHUP, as when the terminal is closed, asks like SIGTERM but is never a second one: a shell hands on the kernel's, and systemd may
    send it right behind SIGTERM. Where it is ignored, as under ``nohup``, that stays. Two at the same moment are of one act:
    ``timeout`` sends its own to a process and to the group of it, and what runs a command hands on the Ctrl-C that reached both.
    """
    loop, heard = asyncio.get_running_loop(), list[float]()

    def hear(number: int) -> None:
        if heard and number in _INSIST:
            if monotonic() - heard[0] > _ONE_ACT:
                again()
        else:
            heard.extend([monotonic()] if number in _INSIST else [])
            first(signal.Signals(number).name)

    numbers = asking()
    for number in numbers:
        loop.add_signal_handler(number, hear, number)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


class Asked:
    """When something was asked to end, and by what: the first time counts."""

    def __init__(self) -> None:
        self._by, self._since = "", 0.0

    def note(self, by: str) -> None:
        """It is asked now, by a signal of this name."""
        if not self._by:
            self._by, self._since = by, monotonic()

    def tell(self, what: str, *, served: bool) -> None:
        """Say that it has ended in order, and what that took."""
        words = "stopped" if served else "stopped before it was ready"
        log.info("%s: %s in %.2f s, by %s", words, what, monotonic() - self._since, self._by)
