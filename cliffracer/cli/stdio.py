"""Standard input, output and error as they are: closed, full, gone, or of an encoding that lacks characters."""

import io
import os
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from types import CodeType
from typing import Literal, TextIO

import click


def ready() -> None:
    """Make the streams usable: one that is closed leads nowhere, input that is has ended; characters that an encoding lacks are escaped."""
    if sys.stdin is None:
        sys.stdin = _nowhere("r")
    if sys.stdout is None:
        sys.stdout = _nowhere("w")
    if sys.stderr is None:
        sys.stderr = _nowhere("w")
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


def say_stopped(by: str, *, as_json: bool) -> None:
    """Say which signal has ended a command in order, unless it was Ctrl-C, of which its user knows."""
    if by != "SIGINT":
        complain(f'{{"stopped":"{by}"}}' if as_json else f"stopped, by {by}")


def _nowhere(mode: Literal["r", "w"]) -> TextIO:
    return Path(os.devnull).open(mode, encoding="utf-8")
