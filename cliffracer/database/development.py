"""What a database gets by itself outside of production: pending migrations, and what the Models have and it has not."""

import hashlib
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cliffracer.database.difference import Plan, plan
from cliffracer.database.link import Statement
from cliffracer.database.migrations import FOLDER, NAME, apply, read
from cliffracer.database.model import Model
from cliffracer.database.own import HISTORY, LOCK, turn
from cliffracer.database.schema import create_missing, define, exists, foreign_owner_of, with_referenced
from cliffracer.database.table import table_of
from cliffracer.errors import ServiceError

log = logging.getLogger("cliffracer.database")

_TRY = Statement("SELECT pg_try_advisory_xact_lock(%s)")


async def prepare(database: Any, models: Iterable[type[Model]], *, changing: bool, folder: Path = FOLDER) -> None:
    """Apply pending migrations of the folder, make missing tables, and with ``changing`` bring tables up to their Models.

    Where migrations are in use, a difference is told and left to them; where another tool keeps its own, nothing of the
    Models is touched. A change that would lose something is never made, only told.
    """
    given = list(models)
    if is_ours(folder) and not any([await foreign_owner_of(shard) for shard in database.shards]):
        await apply(database, folder)
    await create_missing(database, given, whoever=not changing)
    if changing and given:
        for shard in database.shards:
            await _change(shard, given)


def purpose_of(models: Iterable[type[Model]], folder: Path = FOLDER) -> str:
    """Return a checksum of everything that decides what `prepare` makes."""
    definitions = [define(table_of(model)) for model in with_referenced(models)]
    texts = [text for definition in definitions for text in (definition.create, *definition.later)]
    texts += [f"{migration.name} {migration.checksum}" for migration in read(folder)] if is_ours(folder) else []
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


def is_ours(folder: Path) -> bool:
    """Say whether a folder holds migrations, all of them named as ours are: others' are left alone."""
    names = [path.name for path in folder.glob("*.sql")]
    return bool(names) and all(NAME.fullmatch(name) for name in names)


async def _change(database: Any, models: list[type[Model]]) -> None:
    if await foreign_owner_of(database) is not None:
        return
    migrated = await exists(database, HISTORY)
    made = Plan()

    async def attempt() -> bool:
        nonlocal made
        async with database.transaction() as transaction:
            ((mine,),) = await transaction.rows(_TRY, [LOCK])
            if mine:
                made = await plan(database, models)
                for statement in made.statements if not (migrated or made.loses) else ():
                    await transaction.run(Statement(statement))
            return bool(mine)

    try:
        await turn(attempt)
    except ServiceError as error:
        log.warning("tables cannot be changed to what their Models say: %s. %s", error.__cause__ or error, " ".join(made.warnings))
        return
    if not made.statements:
        return
    if migrated or made.loses:
        log.warning("the Models and the tables differ; `cliffracer db plan` writes the migration. %s", " ".join(made.warnings))
    else:
        log.info("changed tables to what their Models say: %s", "; ".join(made.statements))
