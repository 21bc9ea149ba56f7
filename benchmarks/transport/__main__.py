"""Run the comparison: interleaved rounds of fresh processes on fresh servers, medians of the paired ratios.

    python -m benchmarks.transport [--rounds 7] [--count 20000]

CPU is that of the measured process alone, user and system, per message. Compare ratios: single rounds spread a lot.
"""

import argparse
import random
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

KINDS = ("nats", "fast", "stock")
CASES = (
    ("client", 1, "-"),
    ("client", 64, "-"),
    ("client", 64, "headers"),
    ("client", 512, "-"),
    ("server", 1, "-"),
    ("server", 64, "-"),
    ("server", 64, "headers"),
    ("server", 512, "-"),
    ("sender", 1, "-"),
)
Figures = dict[str, float]


@contextmanager
def nats_server() -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(Path(sys.executable).parent / "nats-server"), "-a", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            for _ in range(500):
                try:
                    socket.create_connection(("127.0.0.1", port), 0.2).close()
                    break
                except OSError:
                    time.sleep(0.01)
            yield f"nats://127.0.0.1:{port}"
        finally:
            process.kill()


@contextmanager
def role(*words: object) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "benchmarks.transport.roles", *map(str, words)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def measure(what: str, kind: str, in_flight: int, headers: str, count: int) -> Figures:
    """Return one round's figures of one kind."""
    with nats_server() as url:
        if what == "sender":
            with role("sender", kind, url, 1, count, headers) as process:
                return result(process)
        measured, other = ("client", "server") if what == "client" else ("load", "server")
        served = kind if what == "server" else "fast"
        with role(other, served, url, 0, 0, headers) as echo:
            assert echo.stdout is not None
            assert echo.stdout.readline().strip() == "ready"
            with role(measured, kind if what == "client" else "fast", url, in_flight, count, headers) as process:
                return result(process)


def result(process: subprocess.Popen[str]) -> Figures:
    assert process.stdout is not None
    return msgspec.json.decode(process.stdout.readline(), type=dict[str, float])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--only", default="")
    wanted = parser.parse_args()
    print(f"{'what':>8} {'in flight':>9} {'headers':>8} {'kind':>6} {'CPU µs':>8} {'CPU ×':>6} {'spread':>11} {'rate ×':>7} {'p50 ×':>6}")
    for what, in_flight, headers in CASES:
        if wanted.only and not what.startswith(wanted.only):
            continue
        count = max(1000, wanted.count // (10 if in_flight == 1 and what != "sender" else 1))
        rounds: list[dict[str, Figures]] = []
        for _ in range(wanted.rounds):
            order = random.sample(KINDS, len(KINDS))
            rounds.append({kind: measure(what, kind, in_flight, headers, count) for kind in order})
        for kind in KINDS:
            show(what, in_flight, headers, kind, rounds)


def show(what: str, in_flight: int, headers: str, kind: str, rounds: list[dict[str, Figures]]) -> None:
    def ratios(field: str) -> list[float]:
        return sorted(each[kind][field] / (each["nats"][field] or 1) for each in rounds)

    cpu = statistics.median(each[kind]["cpu_us"] for each in rounds)
    spread = ratios("cpu_us")
    print(
        f"{what:>8} {in_flight:>9} {headers:>8} {kind:>6} {cpu:8.1f} {statistics.median(spread):6.2f} {spread[0]:5.2f}-{spread[-1]:4.2f}"
        f" {statistics.median(ratios('rate')):8.2f} {statistics.median(ratios('p50_us')):6.2f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
