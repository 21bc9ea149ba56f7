"""What a process costs besides calls: memory at rest and after many calls, time to be ready, time to import."""

import os
import subprocess
import sys
from statistics import median
from typing import Any

import msgspec

from benchmarks.processes import BIN, ROOT, NotReady, Process, Stage

SERVERS = {
    "nats-py callback": ("raw", "raw.place"),
    "NATS micro (nats-py)": ("micro", "micro.place"),
    "FastStream": ("faststream_server", "faststream.place"),
    "Cliffracer": ("ours:ours", "ours.place"),
}
IMPORTS = {
    "python -c pass": ["-c", "pass"],
    "import nats": ["-c", "import nats"],
    "import fastapi": ["-c", "import fastapi"],
    "import litestar": ["-c", "import litestar"],
    "from faststream.nats import NatsBroker": ["-c", "from faststream.nats import NatsBroker"],
    "import cliffracer": ["-c", "import cliffracer"],
    "from cliffracer import App": ["-c", "from cliffracer import App"],
    "cliffracer --help": [str(BIN / "cliffracer"), "--help"],
}


class Memory(msgspec.Struct):
    """One server's resident memory in MB: just started, warmed up, and after the calls."""

    label: str
    idle: float = 0.0
    warm: float = 0.0
    after: float = 0.0
    calls: int = 0
    reason: str = ""

    @property
    def growth(self) -> float:
        """MB gained by the calls after the warm-up."""
        return self.after - self.warm


class Footprint(msgspec.Struct):
    """All of it."""

    memory: list[Memory] = []
    ready: dict[str, float | str] = {}
    """Seconds from the start of the process to its ready line, or why there is none."""
    imports: dict[str, float | str] = {}
    """Milliseconds of processor time, or why there are none."""


def measure(*, quick: bool, tell: Any = print) -> Footprint:
    """Measure everything, on a nats-server of its own."""
    tell("Memory, start and import ...")
    calls = 20_000 if quick else 200_000
    times = 2 if quick else 7
    with Stage() as stage:
        stage.make_stream()
        memory = [_memory(stage, label, *where, calls=calls) for label, where in SERVERS.items()]
    ready = {label: _ready(server, times) for label, (server, _) in SERVERS.items()}
    return Footprint(memory, ready, {label: _import_cpu(arguments, times) for label, arguments in IMPORTS.items()})


def _server(stage: Stage, name: str) -> Process:
    kind, _, module = name.rpartition(":")
    return stage.ours(module)[0] if kind == "ours" else stage.module(module)


def _memory(stage: Stage, label: str, server: str, subject: str, *, calls: int) -> Memory:
    load = stage.module("load")
    try:
        process = _server(stage, server)
    except NotReady as reason:
        return Memory(label, reason=str(reason))
    found = Memory(label, idle=process.memory(), calls=calls)
    for count in (calls // 10, calls):
        result = load.ask(do="request", subject=subject, inflight=64, calls=count, seconds=600)
        if result.errors:
            return Memory(label, reason=f"{result.errors} calls failed: {result.reason}")
        found.warm, found.after = found.after or process.memory(), process.memory()
    return found


def _ready(server: str, times: int) -> float | str:
    seconds = []
    with Stage() as stage:
        stage.make_stream()
        for _ in range(times):
            try:
                process = _server(stage, server)
            except NotReady as reason:
                return str(reason)
            seconds.append(process.seconds_to_ready)
            process.close()
            stage.processes.clear()
    return median(seconds)


def _import_cpu(arguments: list[str], times: int) -> float | str:
    used = []
    for _ in range(times + 1):
        child = subprocess.Popen([sys.executable, *arguments], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        with child.stderr as complaint:
            if child.returncode:
                return complaint.read().decode().strip().splitlines()[-1]
        used.append((usage.ru_utime + usage.ru_stime) * 1000)
    return median(used[1:])  # the first one writes byte code
