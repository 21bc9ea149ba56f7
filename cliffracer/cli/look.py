"""What services tell about themselves by discovery, as rows of figures: for `services`, `top` and whoever else looks."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from cliffracer.cli.loading import start_one
from cliffracer.cli.output import printable
from cliffracer.cli.reach import permitted
from cliffracer.client import AsyncClient
from cliffracer.detail import Detail
from cliffracer.messaging.directory import Figures, Info, Stats, running
from cliffracer.nearest import nearest

_PATIENCE = 0.3  # seconds that the last of many replicas may take
_LATE = 2.5  # the same for one whose health checks take all the time that they have
Row = dict[str, Any]


async def look(client: AsyncClient, name: str) -> list[Row]:
    """Return a row for each replica of a service, or of all services, with a row for each of its handlers in it."""
    infos: list[Info] = await client.directory.ask("INFO", name, patience=_PATIENCE)
    stats: list[Stats] = await client.directory.ask("STATS", name, patience=_PATIENCE, kind=Stats)
    permitted(client, "$SRV.INFO", "$SRV.STATS")
    figures = {found.id: found for found in stats}
    return [_row(info, figures.get(info.id, Stats())) for info in sorted(infos, key=lambda info: (info.name, info.id))]


async def failing(client: AsyncClient, name: str) -> dict[str, list[str]]:
    """Return what fails of the health checks of each replica, by its id: ``events: their stream is full``."""
    infos: list[Info] = await client.directory.ask("INFO", name, patience=_PATIENCE)
    ours = sum("cliffracer" in (info.metadata or {}) for info in infos)  # those of other libraries have no details
    if not ours:
        return {}
    details: list[Detail] = await client.directory.ask("DETAIL", name, patience=_LATE, kind=Detail, expected=ours)
    return {found.id: [f"{check.name}: {check.reason}" for check in found.health if check.reason] for found in details}


async def nobody(client: AsyncClient, name: str, where: str, what: str = "is running") -> str:
    """Return what to say where no service of that name answers: who does, and who was perhaps meant."""
    infos: list[Info] = await client.directory.ask("INFO", patience=_PATIENCE) if name else []
    names = sorted({printable(info.name) for info in infos})
    near = None if name in names else nearest(name, names)  # it may run, and lack what was asked for
    text = f"No service {name} {what} {where}." if name else f"No service {what} {where}. {start_one()}"
    meant = f" Did you mean {near}?" if near else ""
    return f"{text}{running(names)}{meant}"


def since(before: Sequence[Row], now: Sequence[Row], seconds: float) -> None:
    """Put into ``now`` the calls a second and the share of errors since the look ``before``, instead of since the start."""
    old = {row["instance"]: row for row in before}
    for row in now:
        known = old.get(row["instance"])
        past = {(part["kind"], part["name"]): part for part in known["endpoints"]} if known else {}
        _renew(row, known, seconds)
        for part in row["endpoints"]:
            _renew(part, past.get((part["kind"], part["name"])), seconds)


def _renew(row: Row, before: Row | None, seconds: float) -> None:
    was = before or row  # who has just come has done nothing yet
    row.update(_rates(row["calls"] - was["calls"], row["errors"] - was["errors"], seconds))


def by_name(replicas: Iterable[Row]) -> list[Row]:
    """Return one row for all replicas of a service; the slowest handler of the slowest replica tells the durations."""
    found: dict[str, list[Row]] = {}
    for row in replicas:
        found.setdefault(row["name"], []).append(row)
    return [_together(name, rows) for name, rows in found.items()]


def endpoints_by_name(replicas: Iterable[Row]) -> list[Row]:
    """Return one row for each handler, all replicas together."""
    found: dict[tuple[str, str], list[Row]] = {}
    for row in replicas:
        for part in row["endpoints"]:
            found.setdefault((part["kind"], part["name"]), []).append(part)
    return [_together(name, rows) | {"kind": kind} for (kind, name), rows in found.items()]


def _together(name: str, rows: Sequence[Row]) -> Row:
    calls, errors = sum(row["new_calls"] for row in rows), sum(row["new_errors"] for row in rows)
    return {
        "name": name,
        "version": ", ".join(sorted({row.get("version", "") for row in rows})),
        "replicas": len(rows),
        "methods": len({part["name"] for row in rows for part in row.get("endpoints", ()) if part["kind"] == "rpc"}),
        "calls": sum(row["calls"] for row in rows),
        "errors": sum(row["errors"] for row in rows),
        "calls_per_second": round(sum(row["calls_per_second"] for row in rows), 2),
        "error_share": round(errors / calls, 4) if calls else 0.0,
        "p50_ms": max(row["p50_ms"] for row in rows),
        "p95_ms": max(row["p95_ms"] for row in rows),
        "uptime_s": max(row.get("uptime_s", 0) for row in rows),
    }


def _row(info: Info, stats: Stats) -> Row:
    uptime = _uptime(stats.started)
    counted = {figures.name: figures for figures in stats.endpoints}
    parts = [_part("rpc", endpoint.name, endpoint.subject, counted.get(endpoint.name, Figures()), uptime) for endpoint in info.endpoints]
    parts += [_part(figures.kind, figures.name, "", figures, uptime) for figures in stats.handlers]
    calls, errors = sum(part["calls"] for part in parts), sum(part["errors"] for part in parts)
    timed = [one for one in (*stats.endpoints, *stats.handlers) if not one.lasting]
    return {
        "name": info.name,
        "version": info.version,
        "description": info.description,
        "instance": info.id,
        "started": stats.started,
        "uptime_s": uptime,
        "calls": calls,
        "errors": errors,
        **_rates(calls, errors, uptime),
        "p50_ms": max((one.ms("p50_ms") for one in timed), default=0.0),
        "p95_ms": max((one.ms("p95_ms") for one in timed), default=0.0),
        "endpoints": parts,
    }


def _part(kind: str, name: str, subject: str, figures: Figures, uptime: float) -> Row:
    return {
        "kind": kind,
        "name": name,
        "subject": subject,
        "calls": figures.num_requests,
        "errors": figures.num_errors,
        **_rates(figures.num_requests, figures.num_errors, uptime),
        "p50_ms": figures.ms("p50_ms"),
        "p95_ms": figures.ms("p95_ms"),
    }


def _rates(calls: int, errors: int, seconds: float) -> Row:
    return {
        "new_calls": calls,
        "new_errors": errors,
        "calls_per_second": round(calls / max(seconds, 0.1), 2),
        "error_share": round(errors / calls, 4) if calls else 0.0,
    }


def _uptime(started: str) -> float:
    try:
        return max(0.0, round((datetime.now(UTC) - datetime.fromisoformat(started)).total_seconds(), 1))
    except (ValueError, TypeError):
        return 0.0
