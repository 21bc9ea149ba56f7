"""``cliffracer services`` and ``top``: who runs, and how it goes."""

import asyncio
import sys
import time
from datetime import UTC, datetime
from typing import Any

import click

from cliffracer.cli.output import bad, print_json, print_line, print_table, say, soft, strong, table
from cliffracer.cli.reach import looked_at, reach_settings, reached
from cliffracer.client import AsyncClient
from cliffracer.durations import worded
from cliffracer.messaging.directory import Info, Stats

_PATIENCE = 0.3  # seconds that the last of many replicas may take
_FIGURES = ("calls", "errors", "p50 ms", "p95 ms", "up for")
_NOTHING = {"rate": 0.0, "errors": 0, "p50_ms": 0.0, "p95_ms": 0.0, "replicas": 0}
Row = dict[str, Any]


def services(*, name: str, as_json: bool) -> None:
    """Print who runs."""
    settings = reach_settings()

    async def ask() -> list[Row]:
        async with reached(settings) as client:
            return await _look(client, name)

    found = asyncio.run(ask())
    if as_json:
        print_json(found)
        return
    nobody = f"{f'No service {name}' if name else 'No service'} is running {looked_at(settings)}."
    if name:
        _print_one(found, nobody)
        return
    rows = [[strong(r["name"]), r["version"], r["replicas"], len(r["methods"]), *_figures(r)] for r in _by_name(found)]
    print_table(["service", "version", "replicas", "methods", *_FIGURES], rows, empty=nobody)


def top(*, name: str, interval: float, count: int | None, as_json: bool) -> None:
    """Print figures again and again."""
    settings = reach_settings()
    live = sys.stdout.isatty() and not as_json

    async def watch() -> None:
        async with reached(settings) as client:
            before, then, left = await _look(client, name), time.monotonic(), count
            while left is None or left:
                await asyncio.sleep(interval)
                now, moment = await _look(client, name), time.monotonic()
                rows = _rates(before, now, moment - then, methods=bool(name))
                before, then = now, moment
                left = None if left is None else left - 1
                if as_json:
                    print_line({"time": datetime.now(UTC), "rows": rows})
                else:
                    _draw(rows, f"{name or 'services'} {looked_at(settings)}", live=live)

    asyncio.run(watch())


def _draw(rows: list[Row], title: str, *, live: bool) -> None:
    shown = [[strong(r["name"]), r["rate"], _errors(r["errors"]), r["p50_ms"], r["p95_ms"], r["replicas"]] for r in rows]
    lines = table(["name", "calls/s", "errors", "p50 ms", "p95 ms", "replicas"], shown) if shown else [soft("Nobody is there.")]
    head = f"{soft(f'{datetime.now():%H:%M:%S}')}  {soft(title)}"  # noqa: DTZ005 - for whoever looks, in their time
    if live:
        click.clear()
    say("\n".join([head, "", *lines, ""]))


def _rates(before: list[Row], now: list[Row], seconds: float, *, methods: bool) -> list[Row]:
    """Return calls a second and new errors since the last look; replicas of one service together."""
    old = {r["instance"]: r for r in before}
    found: dict[str, Row] = {}
    for replica in now:
        known = old.get(replica["instance"], replica)
        past = {e["name"]: e for e in known["endpoints"]}
        for part in replica["endpoints"] if methods else [replica]:
            was = past.get(part["name"], part) if methods else known
            row = found.setdefault(part["name"], {"name": part["name"], **_NOTHING})
            row["rate"] = round(row["rate"] + (part["calls"] - was["calls"]) / seconds, 1)
            row["errors"] += part["errors"] - was["errors"]
            row["p50_ms"], row["p95_ms"] = max(row["p50_ms"], part["p50_ms"]), max(row["p95_ms"], part["p95_ms"])
            row["replicas"] += 1
    return sorted(found.values(), key=lambda row: (-row["rate"], row["name"]))


def _print_one(found: list[Row], nobody: str) -> None:
    if found:
        first = found[0]
        say(f"{strong(first['name'])} {first['version']}  {soft(first['description'])}".rstrip())
        say()
    rows = [[soft(r["instance"][-8:]), e["name"], *_figures({**r, **e})] for r in found for e in r["endpoints"]]
    print_table(["replica", "method", *_FIGURES], rows, empty=nobody)


def _figures(row: Row) -> list[object]:
    return [row["calls"], _errors(row["errors"]), row["p50_ms"], row["p95_ms"], _age(row["started"])]


def _errors(number: int) -> str:
    return bad(str(number)) if number else soft("0")


def _age(started: str) -> str:
    try:
        seconds = (datetime.now(UTC) - datetime.fromisoformat(started)).total_seconds()
    except (ValueError, TypeError):
        return ""
    return worded(max(0, int(seconds if seconds < 3600 else seconds // 60 * 60)))


async def _look(client: AsyncClient, name: str) -> list[Row]:
    infos: list[Info] = await client.directory.ask("INFO", name, patience=_PATIENCE)
    stats: list[Stats] = await client.directory.ask("STATS", name, patience=_PATIENCE, kind=Stats)
    figures = {found.id: found for found in stats}
    return [_row(info, figures.get(info.id, Stats())) for info in sorted(infos, key=lambda info: (info.name, info.id))]


def _row(info: Info, stats: Stats) -> Row:
    counted = {endpoint.name: endpoint for endpoint in stats.endpoints}
    endpoints = []
    for endpoint in info.endpoints:
        figures = counted.get(endpoint.name)
        data = figures.data if figures is not None and isinstance(figures.data, dict) else {}
        endpoints.append(
            {
                "name": endpoint.name,
                "subject": endpoint.subject,
                "calls": figures.num_requests if figures else 0,
                "errors": figures.num_errors if figures else 0,
                "p50_ms": data.get("p50_ms", 0.0),
                "p95_ms": data.get("p95_ms", 0.0),
            }
        )
    return {
        "name": info.name,
        "version": info.version,
        "description": info.description,
        "instance": info.id,
        "started": stats.started,
        "calls": sum(e.num_requests for e in stats.endpoints),
        "errors": sum(e.num_errors for e in stats.endpoints),
        "p50_ms": max((e["p50_ms"] for e in endpoints), default=0.0),
        "p95_ms": max((e["p95_ms"] for e in endpoints), default=0.0),
        "endpoints": endpoints,
    }


def _by_name(replicas: list[Row]) -> list[Row]:
    """Return one row for all replicas of a service; the slowest method tells the durations."""
    found: dict[str, Row] = {}
    for row in replicas:
        known = found.setdefault(
            row["name"], {**row, "replicas": 0, "methods": set(), "calls": 0, "errors": 0, "p50_ms": 0.0, "p95_ms": 0.0, "versions": set()}
        )
        known["replicas"] += 1
        known["versions"].add(row["version"])
        known["version"] = ", ".join(sorted(known["versions"]))
        known["methods"] |= {endpoint["name"] for endpoint in row["endpoints"]}
        known["calls"] += row["calls"]
        known["errors"] += row["errors"]
        known["p50_ms"], known["p95_ms"] = max(known["p50_ms"], row["p50_ms"]), max(known["p95_ms"], row["p95_ms"])
        known["started"] = min(known["started"], row["started"])
    return list(found.values())
