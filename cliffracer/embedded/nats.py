"""The NATS server of a folder: loopback, a password of its own, JetStream on disk, the same port each time.

Standard library only: the supervisor starts without the rest of the package.
"""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from cliffracer.embedded.children import StartFailed, await_ready, spawn
from cliffracer.embedded.journal import tail

PORTS = range(20_000, 32_000)
"""Below the kernel's ephemeral range (32768 and up), where a client that keeps reconnecting may connect to itself."""

CONFIGURATION = """\
server_name: "cliffracer-development"
listen: "127.0.0.1:{port}"
ports_file_dir: "."
log_file: "server.log"
logfile_size_limit: 5MB
logfile_max_num: 2
authorization {{ user: cliffracer, password: "{password}" }}
jetstream {{ store_dir: ".", max_memory_store: 256MB, max_file_store: 8GB }}
"""


class Nats:
    """How to start and stop a nats-server in its folder."""

    polite = harsh = signal.SIGTERM

    def __init__(self, folder: Path, binary: Path) -> None:
        self.folder = folder
        self.binary = binary
        self.port = 0

    @property
    def url(self) -> str:
        """The URL for clients, once it is started."""
        return f"nats://cliffracer:{self._password()}@127.0.0.1:{self.port}"

    def start(self, alive: int) -> subprocess.Popen[bytes]:
        """Return the running server, ready to be used."""
        for port in self._ports():
            for stale in self.folder.glob("*.ports"):
                stale.unlink()
            _write_private(self.folder / "server.conf", CONFIGURATION.format(port=port, password=self._password()))
            command = (self.binary, "-c", "server.conf")
            child = spawn(command, cwd=self.folder, log=self.folder / "supervisor.log", alive=alive, on_death=self.polite)
            if await_ready(child, (self.folder / f"{self.binary.name}_{child.pid}.ports").exists, 30.0):
                _write_private(self.folder / "port", str(port))
                self.port = port
                return child
        log = self.folder / "server.log"
        raise StartFailed(f"nats-server did not start (to begin anew, remove {self.folder}); {log} ends with:\n{tail(log)}")

    def close(self) -> None:
        """Do nothing: there is nothing outside the folder."""

    def _ports(self) -> Iterator[int]:
        """Yield ports to try: the last one again and again for a second, since clients know it, then a few others."""
        try:
            last = int((self.folder / "port").read_text())
        except (FileNotFoundError, ValueError):
            last = 0
        for _ in range(10 if last in PORTS else 0):
            if _is_free(last):
                yield last
            time.sleep(0.1)
        for _ in range(5):
            yield next(port for port in iter(_random_port, 0) if _is_free(port))

    def _password(self) -> str:
        file = self.folder / "password"
        try:
            return file.read_text()
        except FileNotFoundError:
            _write_private(file, os.urandom(16).hex())
            return file.read_text()


def _random_port() -> int:
    return PORTS[int.from_bytes(os.urandom(4), "big") % len(PORTS)]


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # closing connections do not matter
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _write_private(file: Path, text: str) -> None:
    draft = file.with_name(file.name + ".new")
    draft.unlink(missing_ok=True)
    draft.touch(0o600)
    draft.write_text(text)
    draft.replace(file)
