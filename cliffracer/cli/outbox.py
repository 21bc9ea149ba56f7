"""``cliffracer db outbox``: events of committed transactions that are not published yet."""

from cliffracer.cli.migrations import with_database
from cliffracer.cli.output import good, print_json, print_table, say, soft, strong
from cliffracer.database import Database
from cliffracer.database import outbox as kept
from cliffracer.database.own import OUTBOX
from cliffracer.database.schema import exists


def outbox(*, release: bool, as_json: bool) -> None:
    """Say what waits and what is parked, or let the latter be tried again."""
    released, lag, parked = with_database(_release if release else _look)
    if as_json:
        print_json({"released": released, "pending": lag.pending, "oldest_seconds": round(lag.oldest, 3), "parked": parked})
        return
    if released:
        say(f"{good('released')} {released}: running services publish them")
    waiting = f"{lag.pending} wait to be published" + (f", the oldest for {lag.oldest:.1f} s" if lag.pending else "")
    say(f"{waiting}; {len(parked)} cannot be published as they are")
    if parked:
        rows = [[strong(str(event.number)), event.subject, event.key or "", f"{event.attempts}", event.error] for event in parked]
        print_table(["number", "subject", "key", "tries", "error"], rows, empty="")
        say(soft("When the cause is mended, have them tried again: cliffracer db outbox --release"))


async def _look(database: Database) -> tuple[int, kept.Lag, list[kept.Parked]]:
    if not await exists(database, OUTBOX):
        return 0, kept.Lag(0, 0, 0.0), []
    return 0, await kept.lag(database), await kept.parked(database)


async def _release(database: Database) -> tuple[int, kept.Lag, list[kept.Parked]]:
    released = await kept.release(database) if await exists(database, OUTBOX) else 0
    return released, *(await _look(database))[1:]
