"""``cliffracer bench``: how fast a method answers, beside a bare request to NATS and back."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from cliffracer.cli.arguments import parse
from cliffracer.cli.calls import checked_target, prepared
from cliffracer.cli.output import bad, print_json, say, soft, strong, table
from cliffracer.cli.reach import reach_settings, reached
from cliffracer.client import AsyncClient
from cliffracer.context import new_id
from cliffracer.errors import ServiceError

_SHARES = (0.5, 0.9, 0.99)
_BASELINE = 1.0  # seconds


class Measured(msgspec.Struct):
    """Calls of one kind: how many, how long each took, what went wrong."""

    calls: int
    seconds: float
    durations: list[float]
    errors: Counter[str]

    def fields(self) -> dict[str, Any]:
        """Return the figures; no duration if a call failed, since a refusal is quicker than an answer."""
        found: dict[str, Any] = {"calls": self.calls, "errors": dict(self.errors), "seconds": round(self.seconds, 3)}
        if self.errors or not self.durations:
            return found
        ordered = sorted(self.durations)
        times = {f"p{share * 100:g}_ms": _ms(ordered[int(share * (len(ordered) - 1))]) for share in _SHARES}
        return {**found, "calls_per_second": round(self.calls / self.seconds, 1), **times, "max_ms": _ms(ordered[-1])}


def bench(*, target: str, arguments: tuple[str, ...], seconds: float, concurrency: int, as_json: bool) -> None:
    """Measure and print; exit code 1 if a call failed."""
    checked_target(target)
    settings = reach_settings()
    positional, named = parse(arguments)

    async def run() -> tuple[Measured, Measured]:
        async with reached(settings) as client:
            args, kwargs, _ = await prepared(client, target, positional, named)
            await client.call(target, *args, **kwargs)  # a mistake is told before it is made a thousand times
            bare = await _bare(client, concurrency)
            return await _measured(lambda: client.call(target, *args, **kwargs), seconds, concurrency), bare

    ours, bare = asyncio.run(run())
    if as_json:
        print_json({"target": target, "concurrency": concurrency, **ours.fields(), "bare_request": bare.fields()})
    else:
        _print(target, concurrency, ours, bare)
    raise SystemExit(1 if ours.errors else 0)


async def _measured(act: Callable[[], Awaitable[object]], seconds: float, concurrency: int) -> Measured:
    durations: list[float] = []
    errors: Counter[str] = Counter()
    began = time.monotonic()
    until = began + seconds

    async def caller() -> None:
        while (start := time.monotonic()) < until:
            try:
                await act()
            except ServiceError as error:
                errors[f"{type(error).__name__}: {error.message}"] += 1
            else:
                durations.append(time.monotonic() - start)

    await asyncio.gather(*(caller() for _ in range(concurrency)))
    return Measured(len(durations) + sum(errors.values()), time.monotonic() - began, durations, errors)


async def _bare(client: AsyncClient, concurrency: int) -> Measured:
    """Measure requests that are answered here, by nothing but the connection: what NATS and this machine cost."""
    bus = client.link.bus
    subject = f"_INBOX.bench.{new_id()}"
    subscription = await bus.subscribe(subject, lambda _s, reply, _b, payload: bus.publish(reply, payload))
    await bus.flush()
    try:
        return await _measured(lambda: bus.request(subject.encode(), b"{}", timeout=5.0), _BASELINE, concurrency)
    finally:
        await subscription.close()


def _print(target: str, concurrency: int, ours: Measured, bare: Measured) -> None:
    rows = []
    for name, measured in ((strong(target), ours), (soft("bare request"), bare)):
        fields = measured.fields()
        times = [fields.get(f"p{share * 100:g}_ms", "–") for share in _SHARES]
        rows.append([name, measured.calls, fields.get("calls_per_second", "–"), *times, fields.get("max_ms", "–")])
    headings = ["", "calls", "calls/s", *(f"p{share * 100:g} ms" for share in _SHARES), "max ms"]
    say("\n".join(table(headings, rows)))
    say(soft(f"{concurrency} in flight, from this one process; the bare request is answered by this process itself"))
    for error, count in ours.errors.most_common(5):
        say(f"{bad(f'{count} failed')} {error}", err=True)
    if ours.errors:
        say(bad("No duration is shown: calls failed, and a refusal is quicker than an answer."), err=True)


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
