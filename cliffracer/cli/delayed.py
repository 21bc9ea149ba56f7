"""``cliffracer delayed`` and ``cliffracer cancel``: events that are not due yet."""

import asyncio
from datetime import UTC, datetime

import click
import msgspec

from cliffracer.cli.output import good, print_json, print_table, printable, say, strong, tell
from cliffracer.cli.reach import looked, nothing_at, reach_settings, reached
from cliffracer.client import AsyncClient
from cliffracer.durations import worded
from cliffracer.errors import NotFound
from cliffracer.messaging.broker import Delayed
from cliffracer.wire.subjects import check_pattern, matches


def ls(*, pattern: str, as_json: bool) -> None:
    """Print the table, what is due first above."""
    try:
        check_pattern(pattern)
    except ValueError as error:
        raise click.UsageError(str(error)) from None

    async def ask(client: AsyncClient) -> list[Delayed]:
        return [event async for event in client.link.backend.delayed() if matches(pattern, event.subject)]

    nothing: list[Delayed] = []
    settings = reach_settings()
    found = sorted(asyncio.run(looked(settings, ask, nothing)), key=lambda event: event.due)
    if as_json:
        print_json(msgspec.to_builtins(found))
        return
    now = datetime.now(UTC)
    rows = [
        [strong(printable(e.subject)), worded(max(0, int((e.due - now).total_seconds()))), f"{e.due.astimezone():%Y-%m-%d %H:%M:%S}",
         e.size, printable(e.id)]
        for e in found
    ]  # fmt: skip
    print_table(["event", "due in", "at", "bytes", "id"], rows, empty=nothing_at(settings, "No event waits until it is due"))


def cancel(*, ids: tuple[str, ...], as_json: bool) -> None:
    """Take them back; exit code 1 if one of them is not there."""

    async def run() -> dict[str, bool]:
        async with reached(reach_settings()) as client:
            return {event_id: await client.cancel(event_id) for event_id in ids}

    done = asyncio.run(run())
    if as_json:
        print_json([{"id": event_id, "cancelled": cancelled} for event_id, cancelled in done.items()])
    for event_id, cancelled in done.items() if not as_json else ():
        if cancelled:
            say(f"{good('cancelled')} {printable(event_id)}")
        else:
            tell(NotFound(f"no event of the id {event_id} waits, or none any more: see `cliffracer delayed`"))
    if not all(done.values()):
        raise SystemExit(1)
