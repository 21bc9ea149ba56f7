"""A lease on one server: a share of its users lock, held until the use ends; a killed supervisor is restarted."""

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
from cliffracer.embedded.journal import append, tail
from cliffracer.errors import SetupError

PROGRAM = Path(__file__).with_name("__main__.py")
ATTEMPTS = 5
"""How many supervisors one user starts in a row; more than one is needed only if somebody kills them."""


class Lease(NamedTuple):
    """One user's lease on a server."""

    kind: str
    place: Path
    binary: Path
    grace: float

    def ensure(self, *, started: bool = False) -> bool:
        """Start a supervisor if there is none; return whether that was needed. SetupError if one was ``started`` already and failed."""
        end = time.monotonic() + 30
        while time.monotonic() < end:
            with _sentences(self), locks.NO_FORK:
                alone = locks.attempt(self.place / "start.lock", exclusive=True)
                if alone is not None:
                    try:
                        return self._ensure_alone(started=started)
                    finally:
                        os.close(alone)
            time.sleep(0.005)
        raise SetupError(f"Another process holds {self.place / 'start.lock'} and does not let go: it hangs or is stopped.")

    def _ensure_alone(self, *, started: bool) -> bool:
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
        attempts = 1  # the first was made by `leased`
        while time.monotonic() < deadline and attempts <= ATTEMPTS:
            attempts += self.ensure(started=True)
            with contextlib.suppress(FileNotFoundError):
                return self._reachable(*(self.place / "url").read_text().split("\n"))
            time.sleep(0.005)
        raise SetupError(self._why())

    def _reachable(self, url: str, reach: str) -> str:
        if reach == locks.reach():
            return url
        raise SetupError(
            f"The embedded {self.kind} in {self.place.parent} runs in another container or on another machine, out of reach from here: "
            "set CLIFFRACER_HOME to another folder, or the URL of a server that both can reach."
        )

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
            return f"The embedded {self.kind} did not start: {(self.place / 'error').read_text(errors='replace')}"
        log = self.place / "supervisor.log"
        return f"The embedded {self.kind} did not come up; {log} ends with:\n{tail(log)}"


@contextmanager
def _sentences(lease: Lease) -> Iterator[None]:
    """Turn what the file system says (disk full, no locks here, folder gone) into a SetupError."""
    try:
        yield
    except OSError as error:
        raise SetupError(
            f"The embedded {lease.kind} keeps its files in {lease.place}, and that does not work: {error}. "
            "Set CLIFFRACER_HOME to a folder on a local disk, or the URL of a server of yours."
        ) from error


@contextmanager
def leased(lease: Lease, deadline: float) -> Iterator[None]:
    """Count as a user of the server while inside; it may still be starting."""
    with _sentences(lease):
        share = locks.wait(lease.place / "users.lock", exclusive=False, seconds=deadline - time.monotonic())
    if share is None:
        raise SetupError(f"The embedded {lease.kind} does not finish stopping; see {lease.place / 'supervisor.log'}")
    try:
        lease.ensure()
        yield
    finally:
        os.close(share)  # closed, not unlocked: forked children that still use it keep their share
