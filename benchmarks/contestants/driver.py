"""What every client contestant shares: the closed loop, and the commands on its input.

A client contestant hands over one function that makes one call; how many run at once and for how long, the harness says.
"""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from benchmarks.load.result import Result


async def loop(call: Callable[[], Awaitable[bool]], inflight: int, seconds: float) -> Result:
    """Keep some calls in flight for some seconds; a call that says False or raises is an error."""
    latencies: list[float] = []
    failures: list[str] = []
    clock = time.perf_counter
    began = clock()
    until = began + seconds

    async def worker() -> None:
        while (started := clock()) < until:
            try:
                if not await call():
                    failures.append("wrong answer")
            except Exception as error:  # noqa: BLE001 - any failure counts, whatever the library raises
                failures.append(repr(error))
            latencies.append(clock() - started)

    await asyncio.gather(*(worker() for _ in range(inflight)))
    return Result.of(latencies, clock() - began, len(failures), failures[0] if failures else "")


async def serve(calls: dict[str, Callable[[str], Awaitable[bool]]]) -> None:
    """Say ready, then obey commands ``{"do", "subject", "inflight", "seconds"}`` until the input ends."""
    print("ready", file=sys.stderr, flush=True)
    while line := await asyncio.to_thread(sys.stdin.buffer.readline):
        command: dict[str, Any] = msgspec.json.decode(line)
        call, subject = calls[command["do"]], command["subject"]
        result = await loop(lambda call=call, subject=subject: call(subject), command["inflight"], command["seconds"])
        sys.stdout.buffer.write(msgspec.json.encode(result) + b"\n")
        sys.stdout.flush()
