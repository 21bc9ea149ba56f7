"""``cliffracer services`` and ``top``: who runs, and how it goes, once or until Ctrl-C."""

import asyncio
import os
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import click

from cliffracer.cli.loading import start_one
from cliffracer.cli.look import Row, by_name, endpoints_by_name, failing, look, nobody, since
from cliffracer.cli.output import bad, fitted_table, odd, print_json, print_line, print_table, printable, say, soft, strong
from cliffracer.cli.reach import looked, looked_at, reach_settings, reached
from cliffracer.client import AsyncClient
from cliffracer.durations import worded
from cliffracer.errors import NotFound, Unavailable
from cliffracer.settings import Settings

_FIGURES = ("calls", "calls/s", "errors", "p50 ms", "p95 ms", "up for")
_SPARE = ("up for", "version", "replicas", "calls")  # go on a narrow terminal, this one first
_INSIDE = ("new_calls", "new_errors")  # what the others are made of
Table = tuple[list[str], list[list[object]]]


def services(*, name: str, watch: bool, interval: float, count: int | None, as_json: bool) -> None:
    """Print who runs, once or again and again; `NotFound` where the one that was asked for does not, unless it is waited for."""
    settings = reach_settings()
    if watch:
        tell = _teller(f"{name or 'services'} {looked_at(settings)}", lambda found: _table(found, name), name, as_json=as_json)
        _again(settings, name, interval, count, tell)
        return

    async def ask(client: AsyncClient) -> tuple[list[Row], str]:
        rows, troubles = await asyncio.gather(look(client, name), failing(client, name))
        for row in rows:
            row["failing"] = troubles.get(row["instance"], [])
        return rows, "" if rows else await nobody(client, name, looked_at(settings))

    nothing: tuple[list[Row], str] = ([], "")
    found, empty = asyncio.run(looked(settings, ask, nothing))
    if not found and not empty:
        empty = f"No service{f' {name}' if name else ''} is running {looked_at(settings)}. {start_one()}"
    if name and not found:
        raise NotFound(empty)
    if as_json:
        print_json([_public(row) for row in found])
        return
    if name and found:
        called, version, words = (printable(found[0][key]) for key in ("name", "version", "description"))
        say(f"{strong(called)} {version}  {soft(words)}".rstrip())
        say()
    print_table(*_table(found, name), empty=empty, spare=_SPARE)
    for row in found:
        for trouble in row["failing"]:
            say(odd(printable(f"{row['name']} {row['instance'][:8]}: {trouble}")))


def top(*, name: str, interval: float, count: int | None, as_json: bool) -> None:
    """Print the busiest first, again and again."""
    settings = reach_settings()

    def shown(found: list[Row]) -> Table:
        rows = sorted(_grouped(found, name), key=lambda row: (-row["calls_per_second"], row["name"]))
        return (
            ["name", "calls/s", "errors", "p50 ms", "p95 ms", "replicas"],
            [[strong(printable(r["name"])), r["calls_per_second"], _share(r), *_took(r), r["replicas"]] for r in rows],
        )

    _again(settings, name, interval, count, _teller(f"{name or 'services'} {looked_at(settings)}", shown, name, as_json=as_json))


Tell = Callable[[list[Row], bool], None]
"""Takes one look, and whether NATS was there."""


def _again(settings: Settings, name: str, interval: float, count: int | None, tell: Tell) -> None:
    """Look every ``interval`` seconds and have it told; figures are those since the look before."""

    async def watch() -> None:
        async with reached(settings, starts=True) as client:  # who follows may have come first
            (before, _), then, left = await _looked(client, name), time.monotonic(), count
            while left is None or left:
                await asyncio.sleep(interval)
                (now, connected), moment = await _looked(client, name), time.monotonic()
                since(before, now, moment - then)
                before, then = now, moment
                left = None if left is None else left - 1
                tell(now, connected)

    asyncio.run(watch())


async def _looked(client: AsyncClient, name: str) -> tuple[list[Row], bool]:
    """Return one look, and whether NATS answered: of one that hangs the connection ends only after a while."""
    try:
        return await look(client, name), True
    except Unavailable:
        return [], False


def _teller(title: str, shown: Callable[[list[Row]], Table], name: str, *, as_json: bool) -> Tell:
    """Return what prints one look: over the one before on a terminal that can."""
    live = sys.stdout.isatty() and not as_json and os.environ.get("TERM") != "dumb"

    def tell(found: list[Row], connected: bool) -> None:
        if as_json:
            print_line({"time": datetime.now(UTC), "connected": connected, "rows": [_public(row) for row in _grouped(found, name)]})
            return
        lines = (
            fitted_table(*shown(found), spare=_SPARE)
            if found
            else [soft("Nobody is there.") if connected else bad("NATS is away: looking until it is back.")]
        )
        if live:
            click.clear()
        say("\n".join([soft(f"{datetime.now():%H:%M:%S}  {title}"), "", *lines, ""]))  # noqa: DTZ005 - for whoever looks, in their time

    return tell


def _grouped(found: list[Row], name: str) -> list[Row]:
    return endpoints_by_name(found) if name else by_name(found)


def _table(found: list[Row], name: str) -> Table:
    """Return headings and rows: of services, or of the handlers of each replica of one."""
    if not name:
        rows = [[strong(printable(r["name"])), printable(r["version"]), r["replicas"], *_figures(r)] for r in by_name(found)]
        return ["service", "version", "replicas", *_FIGURES], rows
    several = len(found) > 1
    rows = [
        [
            *([soft(printable(r["instance"][:8]))] if several else []),
            soft(printable(e["kind"])),
            printable(e["name"]),
            *_figures({**r, **e}),
        ]
        for r in found
        for e in r["endpoints"]
    ]
    return [*(["replica"] if several else []), "", "handler", *_FIGURES], rows


def _figures(row: Row) -> list[object]:
    uptime = int(row["uptime_s"])
    age = worded(uptime if uptime < 3600 else uptime // 60 * 60)
    return [row["calls"], row["calls_per_second"], _share(row), *_took(row), age]


def _took(row: Row) -> tuple[object, object]:
    """Return how long calls took; nothing where none was timed, which is not the same as at once."""
    return row["p50_ms"] or None, row["p95_ms"] or None


def _share(row: Row) -> str:
    share = row["error_share"] * 100
    if not share:
        return soft("0 %")
    return bad(f"{share:.1f} %" if share >= 0.1 else "<0.1 %")


def _public(row: Row) -> dict[str, Any]:
    shown = {key: value for key, value in row.items() if key not in _INSIDE}
    if "endpoints" in shown:
        shown["endpoints"] = [_public(part) for part in row["endpoints"]]
    return shown
