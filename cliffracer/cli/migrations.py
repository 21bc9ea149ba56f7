"""``cliffracer db``: migrations, planned from the Models and applied in order."""

import asyncio
import logging
import shlex
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any, NoReturn, TypeVar

import msgspec

from cliffracer.app import App
from cliffracer.appdatabase import models_of
from cliffracer.cli.collected import collects
from cliffracer.cli.loading import load_apps, with_app
from cliffracer.cli.output import bad, good, odd, print_json, print_table, say, soft, strong
from cliffracer.cli.reach import with_servers
from cliffracer.database import Database, difference, migrations
from cliffracer.database.folders import FOLDER
from cliffracer.database.model import Model
from cliffracer.database.places import Only, Place, places
from cliffracer.database.schema import foreign_owner_of, with_referenced
from cliffracer.errors import SetupError
from cliffracer.observability import logs
from cliffracer.settings import Settings

T = TypeVar("T")
log = logging.getLogger("cliffracer")
_STATES = {"applied": good, "pending": odd, "edited": bad, "missing": bad, "newer": odd}
_NOTHING = "The database has what the Models have: there is nothing to plan."
_NOTHING_ANYWHERE = "All databases have what the Models have: there is nothing to plan."
_NO_FILES = f"There are no migrations in {FOLDER}/. "
_ALIKE = "bring them to the same state first, by cliffracer db apply, or by hand in cliffracer db psql --shard N."
_FILLED = "SELECT EXISTS (SELECT FROM pg_tables WHERE schemaname = current_schema() AND left(tablename, 11) <> 'cliffracer_')"


def plan(*, apps: tuple[str, ...], name: str, dry_run: bool, as_json: bool) -> None:
    """Write the next migration, or only print it; of several databases, one that is right for all of them."""
    loaded = load_apps(apps)
    models = models_of([app.freeze() for app in loaded])
    for model in _tableless(loaded, models):
        say(odd(f"{model.__name__} has no table: no handler is given a Repository[{model.__name__}]."), err=True)
    found = with_each(lambda database: _planned(database, models))
    made = found[0][1]
    if any(each.statements != made.statements for _, each in found):
        _differ(found, as_json=as_json)
    path = difference.write(FOLDER, made, name) if made.statements and not dry_run else None
    if as_json:
        print_json({"file": None if path is None else str(path), "statements": made.statements, "warnings": made.warnings})
        return
    if not made.statements:
        say(soft(_NOTHING if len(found) == 1 else _NOTHING_ANYWHERE))
        if models and not any(FOLDER.glob("*.sql")):
            say(soft(_begin(shlex.join(["cliffracer", "db", "plan", *apps]), filled=True)))
        return
    for line in made.text().splitlines():
        say(odd(line) if line.startswith("-- WARNING") else line)
    if path is not None:
        say(f"\n{good('written')} {path}  {soft('read it, then: cliffracer db apply')}")


async def _planned(database: Database, models: Sequence[type[Model]]) -> difference.Plan:
    """Return what the Models have and the database has not; `SetupError` where that is perhaps in a file that waits to be applied."""
    made = await difference.plan(database, models)
    entries = await migrations.status(database, FOLDER) if made.statements else []
    if newer := _newer(entries):
        raise SetupError(f"{newer}, so what it made would be planned away. Get {FOLDER}/ of that version first.")
    if pending := [entry.name for entry in entries if entry.state == "pending"]:
        some = f"{', '.join(pending)} in {FOLDER}/ {'is' if len(pending) == 1 else 'are'} not applied yet"
        raise SetupError(
            f"{some}, so what is in there would be planned once more. First: cliffracer db apply, or remove what shall not be applied."
        )
    return made


def _newer(entries: Sequence[migrations.Entry]) -> str:
    names = [entry.name for entry in entries if entry.state == "newer"]
    return f"a newer version has applied {', '.join(names)}" if names else ""


def _tableless(apps: Sequence[App], models: Sequence[type[Model]]) -> Iterator[type[Model]]:
    """Yield the Models that are written beside these apps, and that none of them keeps; what another app has there is its own."""
    kept = {*with_referenced(models)}
    for module in list(sys.modules.values()):
        names = [*getattr(module, "__dict__", {}).values()]
        there = [value for value in names if issubclass(type(value), App)]  # isinstance asks a lazy object of others what it is
        if there and all(any(app is one for one in apps) for app in there):
            found = [value for value in names if issubclass(type(value), type) and issubclass(value, Model)]
            mine = [model for model in found if model.__module__ == module.__name__ and not model.__subclasses__()]
            yield from (model for model in mine if model not in kept)


def _differ(found: list[tuple[Place, difference.Plan]], *, as_json: bool) -> NoReturn:
    if as_json:
        each = [{**_facts(place), "statements": made.statements, "warnings": made.warnings} for place, made in found]
        print_json({"file": None, "databases": each})
    else:
        for place, made in found:
            say(f"{strong(str(place))}\n{made.text().rstrip() or soft('-- has what the Models have')}\n")
        say(f"{bad('The databases differ')}, so no migration is right for all of them: {_ALIKE}", err=True)
    raise SystemExit(1)


def apply(*, apps: tuple[str, ...], as_json: bool) -> None:
    """Apply what is pending, to one database after the other. Apps are only looked for, as a mistake in a name."""
    if apps:
        load_apps(apps)

    lines = not as_json and collects()

    def note(text: str, mark: Callable[[str], str] = soft, *, err: bool = True) -> None:
        log.info("%s", text) if lines else say(mark(text), err=err)

    def told(place: Place, names: list[str]) -> None:
        where = {} if isinstance(place, Only) else _facts(place)
        for name in names:
            if lines:
                log.info("applied %s", name, extra={"migration": name, **where})
            else:
                say(f"{good('applied')} {name}{f'  {soft(str(place))}' if where else ''}")

    async def work(database: Database) -> list[str]:
        names = await migrations.apply(database, FOLDER, say=note)
        if newer := _newer(await migrations.status(database, FOLDER)):
            note(f"Here {newer}: that is fine for this version if what it needs is still there.", odd)
        return names

    found = with_each(work, None if as_json else told, quiet=not lines)
    every = list(dict.fromkeys(name for _, names in found for name in names))
    if as_json:
        each = [{**_facts(place), "applied": names} for place, names in found]
        print_json({"applied": every, **({"databases": each} if len(found) > 1 else {})})
    elif not every:
        begin = _begin(with_app("cliffracer db plan"), filled=False)
        note("Nothing is pending." if any(FOLDER.glob("*.sql")) else _NO_FILES + begin, err=False)


def status(*, apps: tuple[str, ...], as_json: bool) -> None:
    """Print every migration; exit code 1 if one contradicts what was applied. Apps are only looked for, as a mistake in a name."""
    if apps:
        load_apps(apps)
    looked = with_each(_looked)
    found = [(place, entry) for place, (entries, _) in looked for entry in entries]
    several = any(not isinstance(place, Only) for place, _ in found)
    if as_json:
        print_json([{**(_facts(place) if several else {}), **msgspec.structs.asdict(entry)} for place, entry in found])
    else:
        rows = [
            [
                *([str(place)] if several else []),
                strong(entry.name),
                _STATES[entry.state](entry.state),
                entry.applied_at and f"{entry.applied_at.astimezone():%Y-%m-%d %H:%M}",
            ]
            for place, entry in found
        ]
        headings = [*(["database"] if several else []), "migration", "state", "applied"]
        begin = _begin(with_app("cliffracer db plan"), filled=any(filled for _, (_, filled) in looked))
        print_table(headings, rows, empty=_NO_FILES + begin)
    raise SystemExit(1 if any(entry.state in {"edited", "missing"} for _, entry in found) else 0)


async def _looked(database: Database) -> tuple[list[migrations.Entry], bool]:
    """Return what is known of the migrations; of a database without, also whether it has tables, so that the first finds nothing to do."""
    entries = await migrations.status(database, FOLDER)
    return entries, not entries and await foreign_owner_of(database) is None and await database.fetch_value(bool, _FILLED) is True


def _begin(plan: str, *, filled: bool) -> str:
    """Return how the first migration comes about, in a database that may have what it would make."""
    if not filled:
        return f"The first: {plan}"
    empty = "DATABASE_URL of one" if Settings.load().databases else "cliffracer servers reset"
    return f"`run` made the tables that are there. To have migrations make them, plan against an empty database: {empty}, then {plan}"


def _facts(place: Place) -> dict[str, Any]:
    return {"database": place.number, "where": place.where}


def with_each(
    work: Callable[[Database], Awaitable[T]], told: Callable[[Place, T], None] | None = None, *, quiet: bool = True
) -> list[tuple[Place, T]]:
    """Return what is found on each database of the settings, told of each as soon as it is; an error says which it was."""

    async def each(database: Database) -> list[tuple[Place, T]]:
        found = []
        for place in places(database):
            with place.named():
                made = await work(place.database)
            found.append((place, made))
            if told is not None:
                told(place, made)
        return found

    return with_database(each, quiet=quiet)


def with_database(work: Callable[[Database], Awaitable[T]], *, quiet: bool = True) -> T:
    """Return what is found on the databases of the settings; ``quiet`` logs errors only, unless a level is set."""
    settings = Settings.load()
    settings.require_servers(nats=False, database=True)
    logs.configure(settings.changed(log_level="ERROR") if quiet and not settings.given("log_level") else settings)

    async def run(given: Settings) -> T:
        async with Database.open(given, name="cliffracer db", wait=given.wait if given.given("wait") else 0.0) as database:
            return await work(database)

    with ExitStack() as stack:
        return asyncio.run(run(with_servers(settings, stack, nats=False, database=True)))
