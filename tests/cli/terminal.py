"""The command line as people use it: a process in a folder, on a terminal or on pipes."""

import os
import pty
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Self

PROGRAM = [sys.executable, "-m", "cliffracer"]
PATIENCE = 90.0
_OURS = re.compile(r"^(CLIFFRACER_(?!HOME|DEV_GRACE)|NATS_|DATABASE_|DB_|HTTP_|LOG_|AUTH_|OTEL_|NO_COLOR|FORCE_COLOR|COLUMNS)")


class Done(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


def environment(**more: str) -> dict[str, str]:
    """Return the environment of these tests without settings, and with ``more``."""
    kept = {name: value for name, value in os.environ.items() if not _OURS.match(name)}
    return {**kept, "PYTHONUNBUFFERED": "1", **more}


def cliffracer(*arguments: str, cwd: Path, stdin: str = "", **env: str) -> Done:
    """Run one command to its end, on pipes."""
    done = subprocess.run(
        [*PROGRAM, *arguments], cwd=cwd, env=environment(**env), input=stdin, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert "Traceback (most recent call last)" not in done.stderr.split(" cannot be imported:")[0], done.stderr
    return Done(done.returncode, done.stdout, done.stderr)


def on_terminal(*arguments: str, cwd: Path, columns: int = 80, until: str | None = None, typed: str = "", **env: str) -> str:
    """Return what one command prints on a terminal so many columns wide; it is told to stop when it has printed ``until``."""
    ours, theirs = pty.openpty()
    os.write(ours, typed.encode())
    process = subprocess.Popen(
        [*PROGRAM, *arguments],
        cwd=cwd,
        env=environment(**{"TERM": "xterm", "COLUMNS": str(columns), **env}),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    printed = b""
    while True:
        try:
            part = os.read(ours, 65_536)
        except OSError:  # Linux says so when the other end is closed
            break
        if not part:
            break
        printed += part
        if until is not None and until.encode() in printed:
            until = None
            process.send_signal(signal.SIGTERM)
    os.close(ours)
    process.wait(PATIENCE)
    return printed.decode().replace("\r\n", "\n")


def written(folder: Path, **files: str) -> Path:
    """Write Python files into a folder and return it."""
    for name, text in files.items():
        (folder / f"{name}.py").write_text(textwrap.dedent(text))
    return folder


def interruptible() -> None:
    """Let Ctrl-C reach the program, also where the tests themselves run in the background and ignore it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


class Background:
    """A command that runs until it is told to stop; its output is in a file, and its errors in the same or, ``apart``, in another."""

    def __init__(self, folder: Path, *arguments: str, flags: Sequence[str] = (), apart: bool = False, **env: str) -> None:
        self.folder = folder
        python, *program = PROGRAM
        self.log = folder / f"log-{time.monotonic_ns()}.txt"
        self.complaints = self.log.with_suffix(".err") if apart else self.log
        with self.log.open("ab") as out, self.complaints.open("ab") as err:
            self.process = subprocess.Popen(
                [python, *flags, *program, *arguments], cwd=folder, env=environment(**env),
                stdout=out, stderr=err, stdin=subprocess.DEVNULL,
                preexec_fn=interruptible,  # noqa: PLW1509 - it only resets a signal, and takes no lock
            )  # fmt: skip

    @property
    def text(self) -> str:
        """What it has printed so far."""
        return self.log.read_text()

    def says(self, words: str, times: int = 1, within: float = PATIENCE) -> None:
        """Return once it has printed these words so many times."""
        until = time.monotonic() + within
        while self.text.count(words) < times:
            assert self.process.poll() is None or self.text.count(words) >= times, f"it ended with {self.process.returncode}:\n{self.text}"
            assert time.monotonic() < until, f"{words!r} is not in:\n{self.text}"
            time.sleep(0.02)

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
