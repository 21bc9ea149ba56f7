"""What has to be reached, beside what was: the same figures whether they flatter or not."""

from collections.abc import Callable

import msgspec

from benchmarks.database.__main__ import TARGETS as DATABASE
from benchmarks.findings import Findings
from benchmarks.measure import Figure, middle
from benchmarks.suites import FEEDS, ONE_PROCESS, RAW

Value = Callable[[Findings], float | None]
OURS = "Cliffracer"
ASYNC, DEF, BOTH = "Cliffracer, async def", "Cliffracer, def", "Cliffracer both ends"
LINE, RULE = "A log line of a call", "An RPC, 64 in flight"
BARE, TASK, STARLETTE = "bare ASGI loop", "nats-py, a task per message", "Starlette + msgspec by hand"


class Target(msgspec.Struct, frozen=True):
    """One line of the table."""

    what: str
    limit: float
    at_most: bool
    unit: str
    value: Value

    def text(self) -> str:
        """Return the target as it is printed."""
        return f"{'≤' if self.at_most else '≥'} {self.limit:g} {self.unit}"

    def met(self, value: float) -> bool:
        """Say whether a figure reaches it."""
        return value <= self.limit if self.at_most else value >= self.limit


def ratio(suite: str, label: str, base: str, figure: Figure) -> Value:
    """Return what reads the median ratio of two contestants off the standings; None if either has no figure."""

    def read(found: Findings) -> float | None:
        rows = {standing.label: standing for standing in found.standings.get(suite, [])}
        return middle(rows[label].ratios(rows[base], figure)) if label in rows and base in rows else None

    return read


def paired(title: str, label: str, base: str, figure: str, *, added: bool = False) -> Value:
    """Return what reads the median ratio of two rows off a paired table: the first by the second.

    ``added``: their difference in microseconds instead.
    """

    def read(found: Findings) -> float | None:
        table = next((table for tables in found.tables.values() for table in tables if table.title == title), None)
        if table is None:
            return None
        rows = {row.label: getattr(row, figure) for row in table.rows}
        pairs = list(zip(rows[label], rows[base], strict=True))
        return middle([ours - theirs if added else ours / theirs for ours, theirs in pairs])

    return read


def _memory(attribute: str) -> Value:
    def read(found: Findings) -> float | None:
        ours = next((row for row in found.footprint.memory if row.label == OURS and not row.reason), None)
        return getattr(ours, attribute) if ours else None

    return read


def _number(group: str, label: str) -> Value:
    def read(found: Findings) -> float | None:
        value = getattr(found.footprint, group).get(label)
        return value if isinstance(value, float) else None

    return read


def _database() -> list[Target]:
    """Return the targets of the database layer, which has them beside its own tables."""
    words = {"cpu": "CPU", "wall": "time"}
    return [
        Target(
            f"database, {each.table}, {each.row}: {words[each.figure]}",
            round(each.most, 2),
            True,
            f"× {each.beside}",
            paired(each.table, each.row, each.beside, each.figure),
        )
        for each in DATABASE
    ]


TARGETS = [
    Target("RPC server, 64 in flight, `async def`: CPU per call", 0.70, True, "× nats-py callback", ratio("rpc", ASYNC, RAW, "cpu")),
    Target("the same with correlation id and traceparent", 0.45, True, "× nats-py callback", ratio("rpc_headers", ASYNC, RAW, "cpu")),
    Target("RPC server: calls/s", 1.4, False, "× nats-py callback", ratio("rpc", ASYNC, RAW, "rate")),
    Target("RPC server: calls/s", 12, False, "× FastStream", ratio("rpc", ASYNC, "FastStream", "rate")),
    Target("plain `def` handler: CPU per call", 0.70, True, "× nats-py callback", ratio("rpc", DEF, RAW, "cpu")),
    Target("RPC client, 64 in flight: CPU per call", 0.30, True, "× nats-py request", ratio("client", OURS, "nats-py request", "cpu")),
    Target("both ends, 64 in flight: calls/s", 1.9, False, "× nats-py", ratio("both", BOTH, "nats-py both ends", "rate")),
    Target("both ends, 64 in flight: calls/s", 8, False, "× FastStream", ratio("both", BOTH, "FastStream both ends", "rate")),
    Target("both ends, one in flight: p50", 1.0, True, "× nats-py", ratio("one", BOTH, "nats-py both ends", "p50")),
    Target("handler awaits 2 ms, 64 in flight: CPU per call", 0.80, True, "× a task per message", ratio("rpc_wait", OURS, TASK, "cpu")),
    Target("handler awaits 2 ms, 64 in flight: calls/s", 1.1, False, "× a task per message", ratio("rpc_wait", OURS, TASK, "rate")),
    Target("core events consumed per second", 1.5, False, "× nats-py callback", ratio("core", OURS, RAW, "rate")),
    Target("durable events consumed per second", 1.2, False, "× nats-py push", ratio("durable", OURS, "nats-py push", "rate")),
    Target("durable events consumed per second", 10, False, "× FastStream push", ratio("durable", OURS, "FastStream push", "rate")),
    Target("`emit` durable, 64 in flight: events/s", 4, False, "× js.publish", ratio("publish", OURS, "nats-py js.publish", "rate")),
    Target("HTTP GET, 64 connections: requests/s", 1.15, False, "× Starlette", ratio("http_get", OURS, STARLETTE, "rate")),
    Target("HTTP POST, 64 connections: requests/s", 1.4, False, "× Starlette", ratio("http_post", OURS, STARLETTE, "rate")),
    Target("HTTP GET, 64 connections: requests/s", 3, False, "× FastAPI", ratio("http_get", OURS, "FastAPI", "rate")),
    Target("HTTP POST, 64 connections: requests/s", 3, False, "× FastAPI", ratio("http_post", OURS, "FastAPI", "rate")),
    *(
        Target(
            f"WebSocket broadcast to 1,000, {how.partition(', ')[2]}: CPU", 1.2, True, "× a bare loop", ratio("broadcast", how, BARE, "cpu")
        )
        for how in FEEDS
    ),
    Target("memory growth over 200,000 calls", 1.0, True, "MB", _memory("growth")),
    Target("memory of an idle service", 45, True, "MB", _memory("idle")),
    Target("`--workers 2`: CPU per call", 1.1, True, "× one process", ratio("workers", "Cliffracer, --workers 2", ONE_PROCESS, "cpu")),
    Target("start to ready, servers warm", 1.0, True, "s", _number("ready", OURS)),
    Target("`import cliffracer`", 120, True, "ms CPU", _number("imports", "import cliffracer")),
    Target("`cliffracer --help`", 300, True, "ms CPU", _number("imports", "cliffracer --help")),
    Target("a log line of a call: CPU", 0.2, True, "× a loguru line", paired(LINE, "log_calls = 1", "loguru, text", "cpu")),
    *_database(),
    *(
        Target(
            f"a known token ({alg}) and a rule, added to an RPC",
            30,
            True,
            "µs CPU",
            paired(RULE, f"@requires, {alg}", "no rule", "cpu", added=True),
        )
        for alg in ("HS256", "EdDSA")
    ),
]
