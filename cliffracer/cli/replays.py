"""``cliffracer replay``: give stored events to a function again."""

import asyncio
from contextlib import ExitStack

import click

from cliffracer.cli.loading import load
from cliffracer.cli.output import bad, good, print_line, printable, say, soft, strong
from cliffracer.cli.reach import soon, with_servers
from cliffracer.durations import moment
from cliffracer.observability import logs
from cliffracer.replaying import replay
from cliffracer.settings import Settings


def run(*, app: str, function: str, since: str, dry_run: bool, as_json: bool) -> None:
    """Replay and print what became of each event."""
    loaded = load(app)
    if len(loaded) != 1:
        raise click.UsageError(f"{app} names {len(loaded)} apps: name one, as in {app}:app")
    start = _start(since)
    settings = soon(Settings.load())
    logs.configure(settings)
    database = loaded[0].freeze().needs_database
    settings.require_servers(nats=True, database=database)
    count = failed = 0

    async def work(settings: Settings) -> None:
        nonlocal count, failed
        async for event in replay(loaded[0], function, settings, start=start, dry_run=dry_run):
            count += 1
            failed += event.error is not None
            if as_json:
                print_line({"sequence": event.sequence, "subject": event.subject, "time": event.time.isoformat(), "error": event.error})
            elif dry_run or event.error is not None:
                error = f" {bad(printable(event.error))}" if event.error else ""
                say(f"{event.sequence} {strong(printable(event.subject))} {soft(event.time.isoformat(timespec='seconds'))}{error}")

    with ExitStack() as stack:
        asyncio.run(work(with_servers(settings, stack, database=database)))
    if not as_json:
        events = "1 event" if count == 1 else f"{count} events"
        say(soft(f"{events}: nothing was handled") if dry_run else f"{good('handled')} {count - failed} of {events}")
    if failed:
        raise SystemExit(1)


def _start(since: str) -> int | str:
    """Return where to begin; what cannot be read is a mistake of who typed it."""
    if since.isdecimal():
        return int(since)
    try:
        if since not in {"all", "new"}:
            moment(since)
    except ValueError:
        known = "all, a sequence's number, a time as 2026-01-31T12:00:00Z, or how long ago as 1h"
        raise click.UsageError(f"--since {since!r} cannot be read: give {known}") from None
    return since
