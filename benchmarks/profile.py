"""Where our own time goes: a server of ours sampled each millisecond of processor time, by function.

`python -m benchmarks.profile` prints it; a whole `make bench` puts it into the results. Samples are of Python code only:
time inside a C function (msgspec, uvloop, the kernel) counts for the Python function that called it.
"""

import atexit
import json
import os
import signal
import sys
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec

from benchmarks.processes import ROOT, NotReady, Stage

LIBRARY = Path(os.__file__).parent
INTERVAL = 0.001
TARGET = "BENCH_PROFILE"  # where the sampled process leaves its counts
SUBJECTS = {"RPC, `async def`": "ours.place", "RPC, `def`": "ours.place_def"}


class Profile(msgspec.Struct):
    """Shares of processor time by function, of one kind of call."""

    title: str
    shares: list[tuple[str, float]] = []
    reason: str = ""


def profiles(seconds: float) -> list[Profile]:
    """Return a profile for each kind of call."""
    return [_profile(title, subject, seconds) for title, subject in SUBJECTS.items()]


def _profile(title: str, subject: str, seconds: float) -> Profile:
    with Stage() as stage:
        counts = stage.folder / "profile.json"
        try:
            server = stage.sampled("ours", **{TARGET: str(counts)})
        except NotReady as reason:
            return Profile(title, reason=str(reason))
        load = stage.module("load")
        server.child.send_signal(signal.SIGUSR1)
        result = load.ask(do="request", subject=subject, inflight=64, seconds=seconds)
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
    for profile in profiles(5.0):
        print(profile.title, profile.reason)
        for name, share in profile.shares:
            print(f"{share:7.1%}  {name}")


if __name__ == "__main__":
    main()
