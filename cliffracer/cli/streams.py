"""Standard output and error as they are: closed, full, gone, or of an encoding that lacks characters."""

import io
import os
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from types import CodeType
from typing import TextIO

import click


def ready() -> None:
    """Make both streams take whatever is printed: one that is closed leads nowhere, characters that an encoding lacks are escaped."""
    if sys.stdout is None:
        sys.stdout = _nowhere()
    if sys.stderr is None:
        sys.stderr = _nowhere()
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


def flushed() -> None:
    """Send off what was printed; the `OSError` that it can end in is one of `printing`."""
    sys.stdout.flush()


_PRINTERS: tuple[CodeType, ...] = (click.echo.__code__, flushed.__code__)


def printing(error: OSError) -> bool:
    """Say whether it was raised by printing, and by nothing else."""
    return any(frame.f_code in _PRINTERS for frame, _ in traceback.walk_tb(error.__traceback__))


def silence() -> None:
    """Let what is still to be printed go nowhere: the flush at exit must not fail again."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)


def complain(text: str) -> None:
    """Print a line on standard error, if that can be printed to."""
    with suppress(OSError):  # then there is nobody to tell
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


def _nowhere() -> TextIO:
    return Path(os.devnull).open("w", encoding="utf-8")
