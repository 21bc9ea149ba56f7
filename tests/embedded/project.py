"""A project with servers, seen from outside, and programs that use them."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from select import poll
from typing import Any

import psycopg

from cliffracer import embedded
from cliffracer.embedded import locks

USER = Path(__file__).with_name("user_of_servers.py")
ROOT = USER.parents[2]
SITE = sysconfig.get_path("purelib")


def eventually(condition: Callable[[], object], seconds: float = 60.0) -> object:
    """Return the condition's first true value; fail when it has none in time."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"not within {seconds} s: {condition}"
        time.sleep(0.02)
    return found


class User:
    """Another process that uses the servers."""

    def __init__(
        self, folder: Path, *wanted: str, python: Sequence[str] = (sys.executable,), uid: int | None = None, **environment: str,
    ) -> None:  # fmt: skip
        self.process = subprocess.Popen(
            [*python, USER, folder, *wanted],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
            user=uid, group=uid, extra_groups=None if uid is None else (), cwd="/",
            env={**os.environ, "PYTHONPATH": f"{ROOT}:{SITE}", **environment},
        )  # fmt: skip

    def urls(self) -> tuple[str, str]:
        """Return what it got, once it has it."""
        line = self.process.stdout.readline()
        assert line, self.process.stderr.read()
        nats_url, database_url = line.split()
        return nats_url, database_url

    def leave(self) -> None:
        """End it as if it had finished its work."""
        self.process.communicate(timeout=30)
        assert self.process.returncode == 0

    def refusal(self) -> str:
        """Return what it says when it does not get servers."""
        _, said = self.process.communicate(timeout=60)
        assert self.process.returncode == 1
        return said

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=30)


class Project:
    """A folder with servers, seen from outside."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.users: list[User] = []

    def user(self, *wanted: str, **options: Any) -> User:
        """Start another process that uses these servers."""
        self.users.append(User(self.folder, *wanted, **options))
        return self.users[-1]

    def place(self, kind: str) -> Path:
        return embedded.locate(self.folder) / kind

    def runs(self, kind: str) -> bool:
        return any(found.kind == kind and found.running for found in embedded.status(self.folder))

    def supervisor(self, kind: str) -> int:
        """Return the id of the supervisor: the process that has its lock open."""

        def alone() -> list[int]:
            found = locks.holders(self.place(kind) / "supervisor.lock")
            return found if len(found) == 1 else []  # a child of it that is about to exec has it open for a moment too

        return eventually(alone)[0]

    def server(self, kind: str) -> int:
        """Return the id of the server: the supervisor's only child."""
        supervisor = self.supervisor(kind)
        return int(str(eventually(Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text)).split()[0])

    def kill(self, pid: int) -> None:
        """End a process and return once it is dead: until then it holds its locks, and whoever comes takes it for alive."""
        handle = os.pidfd_open(pid)
        try:
            signal.pidfd_send_signal(handle, signal.SIGKILL)
            death = poll()
            death.register(handle)
            assert death.poll(20_000), f"{pid} does not die"
        finally:
            os.close(handle)

    def clean(self) -> None:
        for user in self.users:
            user.kill()
        with contextlib.suppress(FileNotFoundError):
            embedded.stop(self.folder)


def greeting(nats_url: str) -> str:
    """Return the first line that the server at the address says; empty if nobody is there."""
    host, port = nats_url.rpartition("@")[2].split(":")
    with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=5) as connection:
        return connection.makefile().readline()
    return ""


def select(database_url: str, query: str = "select 1") -> object:
    """Return the only value of a query, None for a statement; also None if the server is not there."""
    with contextlib.suppress(psycopg.OperationalError), psycopg.connect(database_url, autocommit=True) as connection:
        cursor = connection.execute(query)
        return cursor.fetchone()[0] if cursor.description else None
    return None
