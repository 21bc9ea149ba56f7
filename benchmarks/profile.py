"""Where our own time goes: a server of ours sampled each millisecond of processor time, by function.

`python -m benchmarks.profile` prints it; a whole `make bench` puts it into the results. Samples are of Python code only:
time inside a C function (msgspec, uvloop, the kernel) counts for the Python function that called it.
"""

import argparse
import atexit
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec

from benchmarks.processes import ROOT, NotReady, Stage

LIBRARY = Path(os.__file__).parent
INTERVAL = 0.001
TARGET = "BENCH_PROFILE"  # where the sampled process leaves its counts
PROFILED: dict[str, tuple[str, dict[str, Any]]] = {
    "RPC, `async def`": ("ours", {"do": "request", "subject": "ours.place", "inflight": 64}),
    "RPC, `def`": ("ours", {"do": "request", "subject": "ours.place_def", "inflight": 64}),
    "durable events consumed": (
        "ours_durable",
        {"do": "publish", "subject": "events.order", "progress": "events.progress", "window": 2000},
    ),
    "HTTP GET": ("ours_http", {"do": "http", "method": "GET", "path": "/orders/7", "inflight": 64}),
    "HTTP POST": ("ours_http", {"do": "http", "method": "POST", "path": "/orders", "inflight": 64}),
    "WebSocket broadcast, a generator per client": (
        "ours_feed",
        {"do": "broadcast", "subject": "events.tick", "path": "/feed", "inflight": 1000},
    ),
    "WebSocket broadcast, a room": ("ours_feed", {"do": "broadcast", "subject": "events.order", "path": "/room", "inflight": 1000}),
}
"""What is looked into: a contestant of ours, and the command that loads it."""


class Profile(msgspec.Struct):
    """Shares of processor time by function, of one kind of call."""

    title: str
    shares: list[tuple[str, float]] = []
    reason: str = ""


def profiles(seconds: float, wanted: Iterable[str] = PROFILED) -> list[Profile]:
    """Return a profile for each kind of call."""
    return [_profile(title, *PROFILED[title], seconds) for title in wanted]


def _profile(title: str, contestant: str, command: dict[str, Any], seconds: float) -> Profile:
    with Stage() as stage:
        counts = stage.folder / "profile.json"
        try:
            server, port = stage.sampled(contestant, **{TARGET: str(counts)})
        except NotReady as reason:
            return Profile(title, reason=str(reason))
        load = stage.module("load")
        command = {**command, "port": port}
        warm = load.ask(**command, seconds=0.2, calls=500)  # the sockets of a broadcast are opened by its first command
        server.child.send_signal(signal.SIGUSR1)
        result = load.ask(**command, seconds=seconds, calls=500 * max(1, int(warm.calls / max(warm.seconds, 1e-3) * seconds / 500)))
        server.close()
        if result.errors or not counts.exists():
            return Profile(title, reason=result.reason or "the server left no samples")
        found = Counter(json.loads(counts.read_text()))
    total = sum(found.values())
    return Profile(title, [(name, count / total) for name, count in found.most_common(15)])


def _name(frame: FrameType) -> str:
    path, code = frame.f_code.co_filename, frame.f_code
    for root in (f"{ROOT}/", *(f"{entry}/" for entry in sys.path if entry.endswith("site-packages"))):
        path = path.removeprefix(root)
    return f"{path.removeprefix(f'{LIBRARY}/')} {code.co_qualname}"


def _sample_this_process() -> None:
    """Count the running function at every tick, from SIGUSR1 on, and leave the counts at exit."""
    counts: Counter[str] = Counter()

    def tick(_: int, frame: Any) -> None:
        if frame is not None:
            counts[_name(frame)] += 1

    def leave() -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)
        with open(os.environ[TARGET], "w", encoding="utf-8") as file:  # noqa: PTH123 - nothing more is imported into what is sampled
            json.dump(counts, file)

    signal.signal(signal.SIGPROF, tick)
    signal.signal(signal.SIGUSR1, lambda *_: signal.setitimer(signal.ITIMER_PROF, INTERVAL, INTERVAL) and None)
    atexit.register(leave)


def main() -> None:
    """Be the sampled server when told where to leave the counts; otherwise print the profiles."""
    if TARGET in os.environ:
        _sample_this_process()
        from cliffracer.__main__ import main as cliffracer

        cliffracer()
        return
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile", description="Show where our own time goes.")
    parser.add_argument("word", nargs="?", default="", help="only kinds of calls with this in their title, such as HTTP")
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()
    for profile in profiles(options.seconds, [title for title in PROFILED if options.word in title]):
        print(profile.title, profile.reason)
        for name, share in profile.shares:
            print(f"{share:7.1%}  {name}")


if __name__ == "__main__":
    main()
