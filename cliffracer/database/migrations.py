"""Migrations: ordered ``.sql`` files, each applied once, by one replica, and never changed afterwards.

``0007_add_team.sql`` runs in a transaction. One that cannot (CREATE INDEX CONCURRENTLY, VACUUM, ALTER TYPE ... ADD VALUE)
says ``-- cliffracer: no-transaction`` in a line of its own, and its statements run one by one.
"""

import hashlib
import logging
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from time import monotonic
from typing import Literal

import msgspec

from cliffracer.database.database import Database
from cliffracer.database.folders import FOLDER, NAME, is_ours
from cliffracer.database.link import Link, Statement
from cliffracer.database.owntables import HISTORY, HISTORY_TABLE, LOCK, turn
from cliffracer.database.places import places
from cliffracer.database.splitting import statements
from cliffracer.errors import CliffracerError, Internal, InvalidInput, ServiceError, SetupError

log = logging.getLogger("cliffracer.database")

ALONE = re.compile(r"^--\s*cliffracer:\s*no-transaction\s*$", re.MULTILINE)
_NOTICED = (
    "SET client_connection_check_interval TO '1s'",
    "SET tcp_keepalives_idle TO 30; SET tcp_keepalives_interval TO 10; SET tcp_keepalives_count TO 3",
)
"""What has the server notice that who applies is gone, killed or with its machine: it would finish a statement of an hour first, and keep
all from the tables that it has locked. The first needs PostgreSQL 14, and a system that can tell."""
_KNOWN = Statement("SELECT name, checksum, applied_at FROM cliffracer_migrations ORDER BY name")
_WHO = Statement("""
    SELECT pid, coalesce(nullif(application_name, ''), usename, '?') || coalesce(' at ' || host(client_addr), '')
    FROM pg_locks LEFT JOIN pg_stat_activity USING (pid)
    WHERE locktype = 'advisory' AND granted AND objid::bigint = %s AND classid = 0 AND objsubid = 1
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
""")
_TRY = Statement("SELECT pg_try_advisory_lock(%s)")
_UNLOCK = Statement("SELECT pg_advisory_unlock(%s)")
_TRANSACTION = Statement("SELECT txid_current()")
_OUTCOME = Statement("SELECT txid_status(%s)")
_INVALID = Statement("SELECT relname::text FROM pg_index JOIN pg_class c ON c.oid = indexrelid WHERE NOT indisvalid AND c.relkind = 'i'")
_DONE = Statement("INSERT INTO cliffracer_migrations (name, checksum, seconds) VALUES (%s, %s, %s)")


class Migration(msgspec.Struct, frozen=True):
    """One file."""

    name: str
    """The file's name without ``.sql``; its number orders it."""
    text: str
    checksum: str
    alone: bool
    """Not in a transaction."""

    @property
    def number(self) -> int:
        """Its place in the order."""
        return _number(self.name)


class Entry(msgspec.Struct, frozen=True):
    """What is known about one migration."""

    name: str
    state: Literal["applied", "pending", "edited", "missing", "newer"]
    """``edited``: the file is no longer what was applied; ``missing``: applied, and the file is gone; ``newer``: applied after all
    that are here, by a version of the service that came later, as after a rollback."""
    applied_at: datetime | None = None


def _number(name: str) -> int:
    return int(name.partition("_")[0])


def read(folder: Path) -> list[Migration]:
    """Return the migrations of a folder in their order; `SetupError` for a name without number, or a number that is there twice."""
    found: list[Migration] = []
    for path in sorted(folder.glob("*.sql")):
        if not NAME.fullmatch(path.name):
            raise SetupError(f"{path} has no number: call it like 0001_create_users.sql.")
        text = path.read_text(encoding="utf-8").replace("\r\n", "\n")
        checksum = hashlib.sha256(text.encode()).hexdigest()
        found.append(Migration(path.stem, text, checksum, ALONE.search(text) is not None))
    found.sort(key=lambda migration: migration.number)
    for one, other in pairwise(found):
        if one.number == other.number:
            raise SetupError(f"{one.name}.sql and {other.name}.sql have the same number: rename the later one.")
    return found


async def status(database: Database, folder: Path) -> list[Entry]:
    """Return every migration, applied or not, in order; of several databases, the state of the one that is furthest behind."""
    files = read(folder)
    found: dict[str, Entry] = {}
    for place in places(database):
        with place.named():
            async with place.database.link() as link:
                known = await _known(link)
        for entry in _compared(files, known):
            if entry.name not in found or entry.state != "applied":
                found[entry.name] = entry
    return list(found.values())


async def apply(database: Database, folder: Path, *, lock_timeout: float = 10.0, say: Callable[[str], None] = log.warning) -> list[str]:
    """Apply what is pending, to each shard, and return the names; several at once take turns, and later ones find nothing to do.

    An error names the shard, and those before it keep what was applied. A statement that waits ``lock_timeout`` seconds
    for a table gives up, rather than have all queries queue behind it. ``say`` is told for whom it waits, if it takes a while.
    """
    files = read(folder)
    names: dict[str, None] = {}
    for place in places(database):
        with place.named():
            names.update(dict.fromkeys(await _apply_to(place.database, files, lock_timeout, say)))
    return list(names)


async def _apply_to(database: Database, files: list[Migration], lock_timeout: float, say: Callable[[str], None]) -> list[str]:
    applied: list[str] = []
    async with database.link() as link:

        async def attempt() -> bool:
            ((mine,),) = await link.rows(_TRY, [LOCK], None)
            return bool(mine)

        async def waiting() -> None:
            for pid, name in await link.rows(_WHO, [LOCK], None):
                say(f"waiting: {name} changes the schema (to end it: select pg_terminate_backend({pid}))")

        await turn(attempt, within=600.0, waiting=waiting)
        try:
            for migration in _pending(files, await _known(link, create=True)):
                await link.script(f"SET lock_timeout TO {int(lock_timeout * 1000)}", None)
                for setting in _NOTICED:
                    with suppress(Internal, InvalidInput):  # it does not know it, or its system cannot
                        await link.script(setting, None)
                await _run(link, migration)
                applied.append(migration.name)
        except BaseException:  # cancelled, too
            with suppress(ServiceError):  # what failed says more; a connection that is lost, or is mended, holds no lock
                await _leave(link)
            raise
        await _leave(link)
    return applied


async def _leave(link: Link) -> None:
    await link.restore()
    await link.rows(_UNLOCK, [LOCK], None)


def _compared(files: list[Migration], known: dict[str, tuple[str, datetime]]) -> list[Entry]:
    found = []
    for migration in files:
        checksum, moment = known.get(migration.name, (None, None))
        state: Literal["applied", "pending", "edited"] = "applied"
        if checksum is None:
            state = "pending"
        elif checksum != migration.checksum:
            state = "edited"
        found.append(Entry(migration.name, state, moment))
    here = {migration.name for migration in files}
    last = files[-1].number if files else sys.maxsize  # without any, it is the folder that is missing
    for name, (_, moment) in known.items():
        if name not in here:
            found.append(Entry(name, "newer" if _number(name) > last else "missing", moment))
    return sorted(found, key=lambda entry: _number(entry.name))


def _pending(files: list[Migration], known: dict[str, tuple[str, datetime]]) -> list[Migration]:
    """Return what is to be applied; `SetupError` when the history and the files contradict each other.

    Migrations that a newer version has applied are no contradiction: it was rolled back, or is being rolled out.
    """
    entries = _compared(files, known)
    for entry in entries:
        if entry.state == "edited":
            raise SetupError(f"{entry.name}.sql was changed after it was applied: restore it, and put the change into a new migration.")
        if entry.state == "missing":
            raise SetupError(f"{entry.name}.sql was applied and is gone: restore it from version control.")
    waiting = {entry.name for entry in entries if entry.state == "pending"}
    last = max(map(_number, known), default=-1)
    for migration in files:
        if migration.name in waiting and migration.number < last:
            raise SetupError(f"{migration.name}.sql comes before what is applied already ({last:04d}): give it a higher number.")
    return [migration for migration in files if migration.name in waiting]


async def _known(link: Link, *, create: bool = False) -> dict[str, tuple[str, datetime]]:
    ((there,),) = await link.rows(Statement("SELECT to_regclass(%s) IS NOT NULL"), [HISTORY], None)
    if not there:
        if create:
            await link.run(Statement(HISTORY_TABLE), None, None)
        return {}
    return {name: (checksum, moment) for name, checksum, moment in await link.rows(_KNOWN, None, None)}


async def _run(link: Link, migration: Migration) -> None:
    began = monotonic()
    log.info("applying %s", migration.name)
    if migration.alone:
        await _one_by_one(link, migration)
        await link.restore()
        await link.run(_DONE, [migration.name, migration.checksum, monotonic() - began], None)
        return
    await link.script("BEGIN", None)
    transaction = await _transaction(link)
    try:
        await link.script(migration.text, None)
        await link.restore()  # or the history would be sought on the search path of a pg_dump
        if await _transaction(link) == transaction:
            await link.run(_DONE, [migration.name, migration.checksum, monotonic() - began], None)
            await link.commit(None)
            return
    except ServiceError as error:
        raise _failed(migration, error, await _undone(link, migration, transaction, error)) from error
    await link.rollback(None)
    raise SetupError(
        f"{migration.name}.sql ends its transaction by itself, and {await _left_of(transaction, link)}. Take COMMIT and ROLLBACK out of it."
    )


async def _undone(link: Link, migration: Migration, transaction: int, error: ServiceError) -> str:
    """Undo a migration and return what was kept of it; if the connection was lost at its end, that cannot be told."""
    try:
        await link.rollback(None)
        return await _left_of(transaction, link)
    except ServiceError:
        sure = "outcome" not in error.details and "commit" not in migration.text.lower()
        return "nothing of it was kept" if sure else "whether it was kept cliffracer db status tells"


async def _transaction(link: Link) -> int:
    """Return the id of the open transaction; without one it is that of the query itself, another one each time."""
    ((number,),) = await link.rows(_TRANSACTION, None, None)
    return int(number)


async def _left_of(transaction: int, link: Link) -> str:
    """Return what became of the transaction that was opened for a migration: the migration itself may have ended it."""
    ((outcome,),) = await link.rows(_OUTCOME, [transaction], None)
    return "what stands before its COMMIT was kept: undo that by hand" if outcome == "committed" else "nothing of it was kept"


async def _one_by_one(link: Link, migration: Migration) -> None:
    parts = statements(migration.text)
    for place, part in enumerate(parts):
        try:
            await link.script(part, None)
        except ServiceError as error:
            kept = f"its first {place} of {len(parts)} statements were kept"
            if link.broken():
                await link.rollback(None)
                kept = "the statements before its last BEGIN were kept"
            drops = ""
            with suppress(ServiceError):  # the connection may be what was lost
                drops = await _drops(link, migration)
            do = "make them repeatable (IF NOT EXISTS)" + (f" and run {drops}, since what is left there is invalid," if drops else "")
            raise _failed(migration, error, f"{kept}; {do} before the next try") from error
    if drops := await _drops(link, migration):
        raise SetupError(
            f"{migration.name}.sql came to its end, but an index of it is invalid, since making it failed or was broken off, and serves "
            f"no query: IF NOT EXISTS took it for there. Run {drops}, then apply again."
        )
    if await _transaction(link) == await _transaction(link):
        await link.rollback(None)
        raise SetupError(f"{migration.name}.sql begins a transaction and does not end it: what stands after its last BEGIN was not kept.")


async def _drops(link: Link, migration: Migration) -> str:
    """Return what removes the invalid indexes of a migration: CREATE INDEX CONCURRENTLY leaves one where it fails, or is killed."""
    names = [name for (name,) in await link.rows(_INVALID, None, None) if re.search(rf"(?i)\b{re.escape(name)}\b", migration.text)]
    return "; ".join(f'DROP INDEX "{name}"' for name in names)


def _failed(migration: Migration, error: ServiceError, kept: str) -> SetupError:
    """Return the error with PostgreSQL's own message: a person at a terminal may read it, unlike a caller of a service."""
    cause = error.__cause__
    said = str(cause or error).strip()
    position = getattr(getattr(cause, "diag", None), "statement_position", None)
    line = f" in line {migration.text[: int(position)].count(chr(10)) + 1}" if position and not migration.alone else ""
    return SetupError(f"{migration.name}.sql failed{line}, and {kept}: {said}")


async def remind(database: Database, folder: Path = FOLDER) -> bool:
    """Log what is pending where nothing is applied by itself, and what a newer version has applied; return whether one has."""
    if not is_ours(folder):
        return False
    try:
        entries = await status(database, folder)
    except CliffracerError as error:  # such as a user that may not read the history
        log.warning("whether migrations are pending cannot be told: %s", error)
        return False
    if newer := [entry.name for entry in entries if entry.state == "newer"]:
        log.warning("a newer version than this has applied the migrations %s, whose files are not here", _some(newer))
    if waiting := [entry.name for entry in entries if entry.state not in {"applied", "newer"}]:
        log.warning("not applied as they are here: the migrations %s; see cliffracer db status", _some(waiting))
    return bool(newer)


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
