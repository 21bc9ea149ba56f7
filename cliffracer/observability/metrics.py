"""Figures for machines: Prometheus' text format (0.0.4)."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from cliffracer.observability.health import Finding
from cliffracer.observability.stats import Stats

_BOUNDS = (7, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 25)
"""Powers of two, in microseconds, that histograms show: 128 µs, 0.5 ms … 8 s, 34 s."""
_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


class Gate(Protocol):
    """The figures of `cliffracer.resilience.gate.Gate`."""

    refused: int
    admitted: int


class Measured(Protocol):
    """The figures of a handler, `cliffracer.handler.Handler`."""

    service: str
    name: str
    kind: str
    stats: Stats

    @property
    def gate(self) -> Gate: ...


class Counts(Protocol):
    """The figures of `cliffracer.messaging.broker.Counts`."""

    failed: int
    parked: int


class Consumer(Protocol):
    """The figures of a function's durable events, `cliffracer.messaging.consumption.Consumption`."""

    @property
    def service(self) -> str: ...
    @property
    def function(self) -> str: ...
    @property
    def lag(self) -> int: ...
    @property
    def in_hand(self) -> int: ...
    @property
    def counts(self) -> Counts: ...


class Circuit(Protocol):
    """The figures of a breaker, `cliffracer.resilience.circuit.Circuit`."""

    opened: int
    refused: int

    @property
    def level(self) -> int: ...


class Guarded(Protocol):
    """The figures of the calls to one target, `cliffracer.resilience.guard.Guard`."""

    retries: int
    refused: int
    fallbacks: int

    @property
    def circuit(self) -> Circuit | None: ...


class Kept(Protocol):
    """The figures of a function with ``@app.cached``, `cliffracer.caching.cached.Cached`."""

    name: str
    hits: int
    misses: int
    stales: int
    failures: int


Target = tuple[str, str, Sequence[Guarded]]
"""(caller: a service, or empty for a function of the process; target; the guards of its calls)."""
_EVENTS: tuple[tuple[str, str, str, Callable[[Consumer], float]], ...] = (
    ("cliffracer_events_waiting", "gauge", "Events that wait for this function in all replicas, seconds ago.", lambda c: c.lag),
    ("cliffracer_events_in_hand", "gauge", "Events that this replica has and has not answered.", lambda c: c.in_hand),
    ("cliffracer_events_failed_total", "counter", "Attempts that failed.", lambda c: c.counts.failed),
    ("cliffracer_events_parked_total", "counter", "Events that were given up.", lambda c: c.counts.parked),
)
_FIGURES: tuple[tuple[str, str, str, Callable[[Measured], float]], ...] = (
    ("cliffracer_calls_total", "counter", "Calls that came, refused input included.", lambda handler: handler.stats.requests),
    ("cliffracer_errors_total", "counter", "Calls that failed, refused input included.", lambda handler: handler.stats.errors),
    ("cliffracer_cancelled_total", "counter", "Calls whose caller left first.", lambda handler: handler.stats.cancelled),
)
_GATES: tuple[tuple[str, str, str, Callable[[Measured], float]], ...] = (
    ("cliffracer_refused_total", "counter", "Calls refused because there were too many.", lambda handler: handler.gate.refused),
    ("cliffracer_in_flight", "gauge", "Calls admitted and not finished.", lambda handler: handler.gate.admitted),
)
_OTHER: tuple[tuple[str, str, str, str, str], ...] = (
    ("pool", "size", "cliffracer_database_connections", "gauge", "Connections to PostgreSQL that are open."),
    ("pool", "used", "cliffracer_database_connections_used", "gauge", "Connections that a call or transaction holds."),
    ("pool", "max", "cliffracer_database_connections_max", "gauge", "Connections that there may be."),
    ("pool", "waiting", "cliffracer_database_waiting", "gauge", "Calls that wait for a connection."),
    ("pool", "taken_total", "cliffracer_database_taken_total", "counter", "Connections that were taken."),
    ("pool", "waited_total", "cliffracer_database_waited_total", "counter", "Calls that had to wait for a connection."),
    ("pool", "wait_seconds_total", "cliffracer_database_wait_seconds_total", "counter", "How long they waited, together."),
    ("pool", "refused_total", "cliffracer_database_refused_total", "counter", "Calls that got no connection in time."),
    ("pool", "opened_total", "cliffracer_database_opened_total", "counter", "Connections that were opened."),
    ("pool", "lost_total", "cliffracer_database_lost_total", "counter", "Connections that broke or could not be mended."),
    ("outbox", "pending", "cliffracer_outbox_pending", "gauge", "Events of committed transactions that are not published yet."),
    ("outbox", "oldest_seconds", "cliffracer_outbox_oldest_seconds", "gauge", "Age of the oldest of them."),
    ("outbox", "parked", "cliffracer_outbox_parked", "gauge", "Events that cannot be published as they are."),
    ("outbox", "published_total", "cliffracer_outbox_published_total", "counter", "Events that this process published from the outbox."),
)
"""Figures of what a service uses: subject, key, and the metric's name, type and help text."""


_TARGETS: tuple[tuple[str, str, str, Callable[[Guarded], float]], ...] = (
    ("cliffracer_retries_total", "counter", "Attempts beyond the first.", lambda guarded: guarded.retries),
    ("cliffracer_retries_refused_total", "counter", "Retries that the budget did not allow.", lambda guarded: guarded.refused),
    ("cliffracer_fallbacks_total", "counter", "Calls that a fallback answered.", lambda guarded: guarded.fallbacks),
)
_CIRCUITS: tuple[tuple[str, str, str, Callable[[Circuit], float]], ...] = (
    ("cliffracer_breaker_state", "gauge", "0: closed, 1: half open, 2: open; of several the worst.", lambda c: c.level),
    ("cliffracer_breaker_opened_total", "counter", "How often a breaker has opened.", lambda c: c.opened),
    ("cliffracer_breaker_refused_total", "counter", "Calls that an open breaker refused.", lambda c: c.refused),
)
"""Figures of the breakers before services and functions that are called."""
_CACHED: tuple[tuple[str, str, str, Callable[[Kept], float]], ...] = (
    ("cliffracer_cache_hits_total", "counter", "Calls that got an answer that was kept.", lambda kept: kept.hits),
    ("cliffracer_cache_misses_total", "counter", "Calls whose answer was made.", lambda kept: kept.misses),
    (
        "cliffracer_cache_stale_total",
        "counter",
        "Calls that got an old answer for want of a new one.",
        lambda kept: kept.stales,
    ),
    ("cliffracer_cache_failures_total", "counter", "Calls for which the store was away or refused.", lambda kept: kept.failures),
)


def exposition(
    handlers: Iterable[Measured],
    consumers: Sequence[Consumer] = (),
    others: Mapping[str, Mapping[str, float]] | None = None,
    targets: Sequence[Target] = (),
    cached: Sequence[tuple[str, Kept]] = (),
    *,
    checks: Sequence[Finding] = (),
    worker: str = "",
) -> str:
    """Return the figures of handlers, of consumers of durable events, of what they work with, of health checks, and of this process.

    ``worker``: which of several this is that share a port. Any of them answers, so each sample has to say whose it is.
    """
    measured = list(handlers)
    lines: list[str] = []
    gates = {id(handler.gate): handler for handler in measured}.values()  # those of one route may share theirs
    for some, figures in ((measured, _FIGURES), (gates, _GATES)):
        for name, kind, text, figure in figures:
            lines.extend(_family(name, kind, text, ((_labels(handler), figure(handler)) for handler in some)))
    lines.extend(_family("cliffracer_call_seconds", "histogram", "How long calls took that began.", ()))
    alike: dict[str, list[Stats]] = {}
    for handler in measured:
        alike.setdefault(_labels(handler), []).append(handler.stats)
    for labels, several in alike.items():
        lines.extend(_histogram(labels, Stats.together(several)))
    for name, kind, text, count in _EVENTS if consumers else ():
        lines.extend(_family(name, kind, text, ((_whose(consumer), count(consumer)) for consumer in consumers)))
    lines.extend(_guarded(targets))
    labelled = [(f'service="{_escaped(service)}",function="{_escaped(kept.name)}"', kept) for service, kept in cached]
    for name, kind, text, count_of in _CACHED if labelled else ():
        lines.extend(_family(name, kind, text, ((label, count_of(kept)) for label, kept in labelled)))
    given = others or {}
    for about, which, name, kind, text in _OTHER:
        if which in given.get(about, {}):
            lines.extend(_family(name, kind, text, (("", given[about][which]),)))
    found = ((f'check="{_escaped(one.name)}",critical="{str(one.critical).lower()}"', 0 if one.reason else 1) for one in checks)
    lines.extend(_family("cliffracer_health_check", "gauge", "1: it passes, 0: it fails.", found) if checks else ())
    for name, kind, text, value in _process():
        lines.extend(_family(name, kind, text, (("", value),)))
    return "\n".join(_of_worker(lines, worker) if worker else lines) + "\n"


def _of_worker(lines: Iterable[str], worker: str) -> Iterator[str]:
    for line in lines:
        name, brace, rest = line.partition("{")
        if line.startswith("#"):
            yield line
        elif brace:
            yield f'{name}{{worker="{worker}",{rest}'
        else:
            yield line.replace(" ", f'{{worker="{worker}"}} ', 1)


def _guarded(targets: Sequence[Target]) -> Iterator[str]:
    labelled = [(f'service="{_escaped(service)}",target="{_escaped(target)}"', guards) for service, target, guards in targets]
    for name, kind, text, figure in _TARGETS if targets else ():
        yield from _family(name, kind, text, ((label, sum(map(figure, guards))) for label, guards in labelled))
    broken = [(label, circuits) for label, guards in labelled if (circuits := [g.circuit for g in guards if g.circuit is not None])]
    for name, kind, text, value in _CIRCUITS if broken else ():
        total: Any = sum if kind == "counter" else max
        yield from _family(name, kind, text, ((label, total(map(value, circuits))) for label, circuits in broken))


def _family(name: str, kind: str, text: str, samples: Iterable[tuple[str, float]]) -> Iterator[str]:
    """Yield one metric; samples with the same labels, as of a function with two routes, are added up: Prometheus accepts one."""
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} {kind}"
    totals: dict[str, float] = {}
    for labels, value in samples:
        totals[labels] = totals.get(labels, 0) + value
    for labels, value in totals.items():
        yield f"{name}{{{labels}}} {value}" if labels else f"{name} {value}"


def _histogram(labels: str, stats: Stats) -> Iterator[str]:
    total, power = 0, -1
    for bound in _BOUNDS:
        total += sum(stats.buckets[power + 1 : bound + 1])
        power = bound
        yield f'cliffracer_call_seconds_bucket{{{labels},le="{2**bound / 1e6:g}"}} {total}'
    total += sum(stats.buckets[power + 1 :])
    yield f'cliffracer_call_seconds_bucket{{{labels},le="+Inf"}} {total}'
    yield f"cliffracer_call_seconds_sum{{{labels}}} {stats.seconds:.6f}"
    yield f"cliffracer_call_seconds_count{{{labels}}} {total}"


def _labels(handler: Measured) -> str:
    return f'service="{_escaped(handler.service)}",handler="{_escaped(handler.name)}",kind="{_escaped(handler.kind)}"'


def _whose(consumer: Consumer) -> str:
    return f'service="{_escaped(consumer.service)}",handler="{_escaped(consumer.function)}"'


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _process() -> Iterator[tuple[str, str, str, float]]:
    times = os.times()
    yield "process_cpu_seconds_total", "counter", "CPU time used.", times.user + times.system
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        descriptors = len(list(Path("/proc/self/fd").iterdir()))
    except OSError:  # no /proc here
        return
    yield "process_resident_memory_bytes", "gauge", "Memory in use.", pages * _PAGE
    yield "process_open_fds", "gauge", "Open file descriptors.", descriptors
