"""``cliffracer db outbox``: events of committed transactions that are not published yet."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import click
import msgspec

from cliffracer.cli.migrations import with_database
from cliffracer.cli.output import bad, good, numbered, print_json, print_table, say, soft, strong, sure
from cliffracer.database import Database
from cliffracer.database import outbox as kept
from cliffracer.database.owntables import OUTBOX
from cliffracer.database.places import Place, places
from cliffracer.database.schema import exists
from cliffracer.errors import SetupError

Act = Callable[[Any, Sequence[int] | None], Awaitable[list[int]]]
_ACTS: dict[str, Act] = {"released": kept.release, "discarded": kept.discard}
_CURE = "When the cause is mended, have them tried again: cliffracer db outbox --release. To remove one for good: --discard NUMBER"


class Found(msgspec.Struct):
    """What there is, and what was done with it."""

    lag: kept.Lag = kept.Lag(0, 0, 0.0)
    parked: list[tuple[Place, kept.Parked]] = []
    done: list[int] = []
    failed: dict[int, str] = {}
    several: bool = False
    """Whether the settings name more than one database."""


def outbox(
    *, numbers: tuple[int, ...], release: bool, discard: bool, everything: bool, shard: int | None, dry_run: bool, yes: bool, as_json: bool
) -> None:
    """Say what waits and what is parked; have the latter tried again, or remove it."""
    if release and discard:
        raise click.UsageError("give --release or --discard")
    if not (release or discard) and (numbers or everything or dry_run):
        raise click.UsageError("say what to do with them: --release or --discard")
    if (discard and bool(numbers) == everything) or (release and numbers and everything):
        raise click.UsageError("name the numbers (see `cliffracer db outbox`), or say --all")
    if discard and everything and not (dry_run or yes) and not sure("Discard for good all events that cannot be published?"):
        raise SetupError("Aborted: nothing was discarded.")
    done = "released" if release else "discarded" if discard else ""
    found = with_database(lambda database: _work(database, done, numbers or None, shard, dry_run=dry_run))
    if as_json:
        _print_json(found, "would_be" if dry_run else done)
    else:
        _print(found, done, dry_run=dry_run)
    if found.failed:
        raise SystemExit(1)


async def _work(database: Database, done: str, numbers: Sequence[int] | None, shard: int | None, *, dry_run: bool) -> Found:
    chosen = places(database)
    several = len(chosen) > 1
    if shard is not None and shard >= len(chosen):
        raise click.UsageError(f"--shard {shard}: the settings name {len(chosen)} database{'s' if several else ''}, counted from 0")
    if numbers and several and shard is None:
        raise click.UsageError("each database counts its events by itself: say whose numbers they are by --shard N")
    if shard is not None:
        chosen = [chosen[shard]]
    found = Found(several=several)
    for place in chosen:
        with place.named():
            if await exists(place.database, OUTBOX):
                await _act(place.database, found, done, numbers, dry_run=dry_run)
                found.parked += [(place, event) for event in await kept.parked(place.database)]
                found.lag = found.lag.plus(await kept.lag(place.database))
    found.failed = {number: "no event is parked under this number" for number in numbers or () if number not in found.done}
    return found


async def _act(database: Database, found: Found, done: str, numbers: Sequence[int] | None, *, dry_run: bool) -> None:
    if done:
        found.done += await (kept.chosen if dry_run else _ACTS[done])(database, numbers)


def _print_json(found: Found, done: str) -> None:
    said: dict[str, Any] = {"released": 0} if not done else {done: len(found.done) if done == "released" else found.done}
    if found.failed:
        said["failed"] = found.failed
    parked = [
        {**({"database": place.number, "where": place.where} if found.several else {}), **msgspec.structs.asdict(event)}
        for place, event in found.parked
    ]
    print_json({**said, "pending": found.lag.pending, "oldest_seconds": round(found.lag.oldest, 3), "parked": parked})


def _print(found: Found, done: str, *, dry_run: bool) -> None:
    if dry_run:
        say(f"would be {done}: {numbered(found.done)}")
    elif done == "released" and found.done:
        say(f"{good('released')} {numbered(found.done)}: running services publish them")
    elif done == "discarded" and (found.done or not found.failed):
        say(f"{good('discarded')} {numbered(found.done)}")
    for number, problem in found.failed.items():
        say(f"{bad(f'number {number} was not {done}:')} {problem}", err=True)
    lag = found.lag
    waiting = f"{lag.pending} wait to be published" + (f", the oldest for {lag.oldest:.1f} s" if lag.pending else "")
    say(f"{waiting}; {len(found.parked)} cannot be published as they are")
    if found.parked:
        rows = [
            [
                *([str(place)] if found.several else []),
                strong(str(event.number)),
                event.subject,
                event.key or "",
                f"{event.attempts}",
                event.error,
            ]
            for place, event in found.parked
        ]
        headings = ["number", "subject", "key", "tries", "error"]
        print_table(["database", *headings] if found.several else headings, rows, empty="")
        say(soft(_CURE))
