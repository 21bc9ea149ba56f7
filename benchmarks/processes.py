"""Contestants and servers as child processes: started, found ready, measured from outside, ended."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
import nats

from benchmarks.load.result import Result

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
PATIENCE = 30.0
_CPU_TICK = 1 / os.sysconf("SC_CLK_TCK")


class NotReady(Exception):
    """A process ended, or said nothing, before it was ready."""


class Process:
    """One child: a server, whose output is a log; or one that talks: commands on its input, results on its output."""

    def __init__(self, name: str, command: list[str], log: Path, environment: dict[str, str], *, ready: str | int = "ready") -> None:
        self.name = name
        self.log = log
        self.ready = ready
        talks = name.startswith("load") or "_client" in name
        started = time.perf_counter()
        with log.open("wb") as out:
            pipes = (subprocess.PIPE, subprocess.PIPE) if talks else (subprocess.DEVNULL, out)
            self.child = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **environment}, stdin=pipes[0], stdout=pipes[1], stderr=out)
        try:
            self._await_ready(started + PATIENCE)
        except NotReady:
            self.close()
            raise
        self.seconds_to_ready = time.perf_counter() - started

    def _await_ready(self, until: float) -> None:
        while not self._is_ready():
            if self.child.poll() is not None or time.perf_counter() > until:
                raise NotReady(f"{self.name}: {self.last_line() or 'said nothing'}")
            time.sleep(0.01)

    def _is_ready(self) -> bool:
        if isinstance(self.ready, str):
            return self.ready in self.log.read_text(errors="replace").lower()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.ready)) == 0

    def last_line(self) -> str:
        """Return the last thing that the process complained about."""
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else ""

    def ask(self, **command: Any) -> Result:
        """Give a load process or a client contestant one command and return its result."""
        assert self.child.stdin
        assert self.child.stdout
        self.child.stdin.write(msgspec.json.encode(command) + b"\n")
        self.child.stdin.flush()
        line = self.child.stdout.readline()
        if not line:
            return Result(0, 0.0, 1, f"{self.name} ended: {self.last_line()}")
        return msgspec.json.decode(line, type=Result)

    def cpu(self) -> float:
        """Return the seconds of processor time used by the process and its living children."""
        return sum(_cpu(pid) for pid in _family(self.child.pid))

    def memory(self) -> float:
        """Return the resident memory of the process and its living children, in MB."""
        return sum(_memory(pid) for pid in _family(self.child.pid))

    def close(self) -> None:
        """End the process, politely first."""
        self.child.send_signal(signal.SIGTERM)
        try:
            self.child.wait(5)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
        for pipe in (self.child.stdin, self.child.stdout):
            if pipe:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


def _family(pid: int) -> Iterator[int]:
    """Yield a process and all that descend from it, as /proc knows them now."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    found = {pid}
    while grown := {child for child, parent in parents.items() if parent in found} - found:
        found |= grown
    yield from found


def _cpu(pid: int) -> float:
    """Nanoseconds of the scheduler per thread where the kernel counts them, ticks of the process otherwise; 0 once it is gone."""
    with contextlib.suppress(OSError, IndexError):
        return sum(int((task / "schedstat").read_text().split()[0]) for task in Path(f"/proc/{pid}/task").iterdir()) / 1e9
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) * _CPU_TICK
    return 0.0


def _memory(pid: int) -> float:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
    return 0.0


class Stage:
    """A nats-server of its own and the contestants that were asked for, all ended at the end."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="bench-")
        self.folder = Path(self._folder.name)
        self.processes: dict[str, Process] = {}
        self.missing: dict[str, str] = {}
        self.ports: dict[str, int] = {}
        self.nats = self._start_nats()

    def _start_nats(self) -> Process:
        port = free_port()
        self.url = f"nats://127.0.0.1:{port}"
        command = [
            str(BIN / "nats-server"),
            "--addr",
            "127.0.0.1",
            "--port",
            str(port),
            "--jetstream",
            "--store_dir",
            str(self.folder / "store"),
        ]
        return Process("nats-server", command, self.folder / "nats-server.log", {}, ready="server is ready")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for process in [*self.processes.values(), self.nats]:
            process.close()
        self._folder.cleanup()

    def make_stream(self) -> None:
        """Make the stream that the peers publish to and consume from; Cliffracer makes its own."""

        async def make() -> None:
            client = await nats.connect(self.url)
            await client.jetstream().add_stream(name="BENCH", subjects=["bench.>"], max_msgs=200_000)
            await client.close()

        asyncio.run(make())

    def module(self, name: str) -> Process:
        """Return the running contestant ``benchmarks.contestants.<name>``, or a load process, started at first use."""
        target = "benchmarks.load" if name.startswith("load") else f"benchmarks.contestants.{name}"
        return self._started(name, [sys.executable, "-m", target])

    def web(self, name: str) -> tuple[Process, int]:
        """Return a running HTTP contestant and its port."""
        port = self.ports.setdefault(name, free_port())
        command = [sys.executable, "-m", f"benchmarks.contestants.{name}"]
        return self._started(name, command, ready=port, HTTP_PORT=str(port)), port

    def ours(self, name: str, *options: str, **settings: str) -> tuple[Process, int]:
        """Return a running `cliffracer run` of a contestant of ours (``module`` or ``module@variant``) and its HTTP port."""
        port = self.ports.setdefault(name, free_port())
        command = [str(BIN / "cliffracer"), "run", f"benchmarks.contestants.{name.partition('@')[0]}:app", *options]
        settings = {"HTTP_PORT": str(port), "CLIFFRACER_ENV": "production", "LOG_FORMAT": "human", **settings}
        return self._started(name, command, **settings), port

    def sampled(self, name: str, **settings: str) -> tuple[Process, int]:
        """Return a running contestant of ours under the sampler of `benchmarks.profile`, and its HTTP port."""
        port = free_port()
        command = [sys.executable, "-m", "benchmarks.profile", "run", f"benchmarks.contestants.{name}:app"]
        return self._started(name, command, CLIFFRACER_ENV="production", HTTP_PORT=str(port), **settings), port

    def _started(self, name: str, command: list[str], *, ready: str | int = "ready", **environment: str) -> Process:
        if name in self.missing:
            raise NotReady(self.missing[name])
        if name not in self.processes:
            try:
                log = self.folder / f"{name}.log"
                self.processes[name] = Process(name, command, log, {"NATS_URL": self.url, **environment}, ready=ready)
            except (NotReady, FileNotFoundError) as error:
                self.missing[name] = str(error)
                raise NotReady(str(error)) from error
        return self.processes[name]


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
