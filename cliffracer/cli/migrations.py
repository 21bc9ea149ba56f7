"""``cliffracer db``: migrations, planned from the Models and applied in order."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from typing import TypeVar

from cliffracer.cli.loading import load_apps
from cliffracer.cli.output import bad, good, odd, print_json, print_table, say, soft, strong
from cliffracer.cli.reach import with_servers
from cliffracer.database import Database, difference, migrations
from cliffracer.database.migrations import FOLDER
from cliffracer.observability import logs
from cliffracer.settings import Settings
from cliffracer.stored import models_of

T = TypeVar("T")
_STATES = {"applied": good, "pending": odd, "edited": bad, "missing": bad}
_NOTHING = "The database has what the Models have: there is nothing to plan."
_BEGIN = "`run` made these tables by itself. To have migrations make them, plan against an empty database: cliffracer servers reset"


def plan(*, apps: tuple[str, ...], name: str, dry_run: bool, as_json: bool) -> None:
    """Write the next migration, or only print it."""
    models = models_of([app.freeze() for app in load_apps(apps)])
    made = with_database(lambda database: difference.plan(database, models))
    path = difference.write(FOLDER, made, name) if made.statements and not dry_run else None
    if as_json:
        print_json({"file": None if path is None else str(path), "statements": made.statements, "warnings": made.warnings})
        return
    if not made.statements:
        say(soft(_NOTHING))
        if models and not any(FOLDER.glob("*.sql")):
            say(soft(_BEGIN))
        return
    say(made.text().rstrip())
    for warning in made.warnings:
        say(f"{odd('Look at this:')} {warning}", err=True)
    if path is not None:
        say(f"\n{good('written')} {path}  {soft('read it, then: cliffracer db apply')}")


def apply(*, as_json: bool) -> None:
    """Apply what is pending."""
    names = with_database(lambda database: migrations.apply(database, FOLDER))
    if as_json:
        print_json({"applied": names})
        return
    for name in names:
        say(f"{good('applied')} {name}")
    if not names:
        say(soft("Nothing is pending."))


def status(*, as_json: bool) -> None:
    """Print every migration; exit code 1 if one contradicts what was applied."""
    found = with_database(lambda database: migrations.status(database, FOLDER))
    if as_json:
        print_json(found)
    else:
        rows = [
            [strong(entry.name), _STATES[entry.state](entry.state), entry.applied_at and f"{entry.applied_at.astimezone():%Y-%m-%d %H:%M}"]
            for entry in found
        ]
        print_table(["migration", "state", "applied"], rows, empty=f"There are no migrations in {FOLDER}/. The first: cliffracer db plan")
    raise SystemExit(1 if any(entry.state in {"edited", "missing"} for entry in found) else 0)


def with_database(work: Callable[[Database], Awaitable[T]]) -> T:
    settings = Settings.load()
    settings.require_servers(nats=False, database=True)
    logs.configure(settings if settings.given("log_level") else settings.changed(log_level="ERROR"))

    async def run(given: Settings) -> T:
        async with Database.open(given, name="cliffracer db", wait=given.wait if given.given("wait") else 0.0) as database:
            return await work(database)

    with ExitStack() as stack:
        return asyncio.run(run(settings if settings.database_urls else with_servers(settings, stack, nats=False, database=True)))
