"""The process that keeps one server of one folder running while it has users: restarts it if it dies, ends it after the last user.

Started by `cliffracer.embedded.__main__`, detached. Standard library only, so that it is there in some 30 ms.
Its folder has these locks, and nothing else is trusted:

    users.lock        shared by each user; exclusively ours once nobody uses the server any more
    supervisor.lock   inherited, locked, from whoever started us: one supervisor at a time
    alive.lock        inherited by the server and all its children: nothing is started while one of them lives
    start.lock        held while checking for a supervisor and starting one
"""

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

from cliffracer.embedded import locks
from cliffracer.embedded.children import StartFailed, claim, finish
from cliffracer.embedded.nats import Nats
from cliffracer.embedded.postgres import Postgres

LOOK = 0.2
"""Seconds between two looks at the users."""
DEATHS = 5
"""How often a server may die within a minute before the supervisor gives up."""

Server = Nats | Postgres
KINDS: dict[str, type[Server]] = {"nats": Nats, "postgres": Postgres}


def main(arguments: list[str]) -> int:
    """Run until the server has no users any more, or until told to stop."""
    kind, folder, binary, grace, lock = arguments
    place = Path(folder)
    os.umask(0o077)
    try:
        _supervise(KINDS[kind](place, Path(binary)), place, float(grace), int(lock))
    except (StartFailed, OSError) as error:
        _say(f"failed: {error}")
        with contextlib.suppress(OSError):  # the folder itself may be what is missing
            (place / "error").write_text(str(error), errors="backslashreplace")
        return 1
    return 0


def _supervise(server: Server, place: Path, grace: float, lock: int) -> None:
    wake = _wake_on_signals()
    child = _start(server, place)
    try:
        deaths: list[float] = []
        idle = Idle(place / "users.lock", grace)
        told = (place / "stop").exists
        while not _signalled(wake) and locks.is_at(lock, place / "supervisor.lock") and not told() and not idle.for_long():
            if child.poll() is None:
                continue
            _say(f"server ended with {child.returncode}")
            deaths = [*(moment for moment in deaths if moment > time.monotonic() - 60), time.monotonic()]
            if len(deaths) > DEATHS:
                raise StartFailed(f"it keeps dying; see the logs in {place}")
            child = _start(server, place)
    finally:
        (place / "url").unlink(missing_ok=True)
        finish(child, server.polite, server.harsh)
        server.close()
        _say("stopped")


def _start(server: Server, place: Path) -> subprocess.Popen[bytes]:
    """Return the server, once it is ready and users can read its URL."""
    alive = claim(place / "alive.lock", server.harsh)
    try:
        try:
            child = server.start(alive)
        except StartFailed as error:
            _say(f"trying once more: {error}")  # it may have been killed while it started
            child = server.start(alive)
    finally:
        os.close(alive)  # from now on only the server itself holds it
    draft = place / "url.new"
    draft.write_text(f"{server.url}\n{locks.reach()}")
    draft.replace(place / "url")
    _say(f"ready, pid {child.pid}")
    return child


class Idle:
    """Measures how long the server has had no users."""

    def __init__(self, users: Path, grace: float) -> None:
        self._users = users
        self._grace = grace
        self._since: float | None = None

    def for_long(self) -> bool:
        """Return True once there was no user for the whole grace period; new users then wait until this process has ended."""
        fd = locks.attempt(self._users, exclusive=True)
        if fd is None:
            self._since = None
            return False
        now = time.monotonic()
        self._since = now if self._since is None else self._since
        if now - self._since < self._grace:
            os.close(fd)
            return False
        _say("nobody uses it any more")
        return True  # the descriptor stays open, locked, until the process ends


def _wake_on_signals() -> int:
    """Return a descriptor that becomes readable on signals: a child has ended, or an order to stop, with its number."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    return reader


def _signalled(wake: int) -> bool:
    """Wait for a signal or the next check; return whether it was an order to stop."""
    select.select([wake], [], [], LOOK)
    with contextlib.suppress(BlockingIOError):
        return any(number != signal.SIGCHLD for number in os.read(wake, 4096))
    return False


def _say(text: str) -> None:
    sys.stderr.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")
    sys.stderr.flush()
