"""One use of one server: a share of its users lock, held until the use ends, and a supervisor that is brought back if it is killed."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from cliffracer.embedded import locks
from cliffracer.embedded.children import environment
from cliffracer.embedded.journal import append
from cliffracer.errors import SetupError

PROGRAM = Path(__file__).with_name("__main__.py")
ATTEMPTS = 3
"""How many supervisors one user starts in a row; more than one is needed only if somebody kills them."""


class Seat(NamedTuple):
    """A user's place at one server."""

    kind: str
    place: Path
    binary: Path
    grace: float

    def ensure(self, *, started: bool = False) -> bool:
        """Start a supervisor if there is none; return whether that was needed. SetupError if one was ``started`` already and failed."""
        with _starting(self.place):
            lock = locks.attempt(self.place / "supervisor.lock", exclusive=True)
            if lock is None:
                return False
            try:
                if started and (self.place / "error").exists():
                    raise SetupError(self._why())
                for stale in ("url", "error", "stop"):
                    (self.place / stale).unlink(missing_ok=True)
                self._spawn(lock)
            finally:
                os.close(lock)  # the supervisor inherited it: locked from before it ran until it ends
            return True

    def url(self, deadline: float) -> str:
        """Return where the server is, once it is ready; SetupError if it does not come up by then (monotonic seconds)."""
        started = 1  # by `seated`
        while time.monotonic() < deadline:
            started += self.ensure(started=started > 0)
            if started > ATTEMPTS:
                break
            with contextlib.suppress(FileNotFoundError):
                return (self.place / "url").read_text()
            time.sleep(0.005)
        raise SetupError(self._why())

    def _spawn(self, lock: int) -> None:
        arguments = (self.kind, self.place, self.binary, str(self.grace), str(lock))
        with append(self.place / "supervisor.log") as log:
            launched = subprocess.run(
                [sys.executable, "-I", "-S", PROGRAM, *arguments],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=(lock,),
                cwd="/", env=environment(), start_new_session=True, check=False,
            )  # fmt: skip
        if launched.returncode != 0:
            raise SetupError(f"The supervisor of the embedded {self.kind} did not start; see {self.place / 'supervisor.log'}")

    def _why(self) -> str:
        with contextlib.suppress(FileNotFoundError):
            return f"The embedded {self.kind} did not start: {(self.place / 'error').read_text()}"
        return f"The embedded {self.kind} did not start in time; see {self.place / 'supervisor.log'}"


@contextmanager
def _starting(place: Path) -> Iterator[None]:
    fd = locks.wait(place / "start.lock", exclusive=True, seconds=30)
    if fd is None:
        raise SetupError(f"Another process holds {place / 'start.lock'} and does not let go: it hangs or is stopped.")
    try:
        yield
    finally:
        os.close(fd)


@contextmanager
def seated(seat: Seat, deadline: float) -> Iterator[None]:
    """Count as a user of the server while inside; it may still be starting."""
    share = locks.wait(seat.place / "users.lock", exclusive=False, seconds=deadline - time.monotonic())
    if share is None:
        raise SetupError(f"The embedded {seat.kind} does not finish stopping; see {seat.place / 'supervisor.log'}")
    try:
        seat.ensure()
        yield
    finally:
        os.close(share)  # not an unlock: forked children that still use it keep their share
