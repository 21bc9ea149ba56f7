"""Outside production a database is brought up to date by itself: pending migrations, then what the Models have and it lacks."""

import hashlib
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from cliffracer.database.database import Database
from cliffracer.database.difference import Plan, plan
from cliffracer.database.folders import FOLDER, is_ours
from cliffracer.database.link import Statement
from cliffracer.database.migrations import apply, read, remind
from cliffracer.database.model import Model
from cliffracer.database.owntables import HISTORY, LOCK, turn
from cliffracer.database.schema import create_missing, define, exists, foreign_owner_of, with_referenced
from cliffracer.database.table import table_of
from cliffracer.errors import ServiceError

log = logging.getLogger("cliffracer.database")

_TRY = Statement("SELECT pg_try_advisory_xact_lock(%s)")


Purpose = Literal["test", "embedded", "development"]
"""Whose database it is: that of one test, a developer's own (embedded), or one that others may use as well."""


async def prepare(
    database: Database, models: Iterable[type[Model]], purpose: Purpose, folder: Path = FOLDER, *, planning: str = "cliffracer db plan"
) -> None:
    """Apply pending migrations of the folder, make missing tables, and bring those of an embedded database up to their Models.

    Elsewhere, and where migrations are in use, differences are only logged, unless a newer version has made them; where another tool
    has its migrations, the Models' tables are left alone. A change that would lose data is never made, only logged, with the command
    for ``planning`` it.
    """
    given, behind = list(models), False
    if is_ours(folder) and not any([await foreign_owner_of(shard) for shard in database.shards]):
        await apply(database, folder)
        behind = await remind(database, folder)
    await create_missing(database, given, whoever=purpose == "test")
    for shard in database.shards if given and purpose != "test" and not behind else ():
        await _change(shard, given, planning, allowed=purpose == "embedded")


def purpose_of(models: Iterable[type[Model]]) -> str:
    """Return a checksum of everything that `prepare` depends on."""
    definitions = [define(table_of(model)) for model in with_referenced(models)]
    texts = [text for definition in definitions for text in (definition.create, *definition.later)]
    texts += [f"{migration.name} {migration.checksum}" for migration in read(FOLDER)] if is_ours(FOLDER) else []
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


async def _change(database: Database, models: list[type[Model]], planning: str, *, allowed: bool) -> None:
    if await foreign_owner_of(database) is not None:
        return
    allowed = allowed and not await exists(database, HISTORY)
    made = Plan()

    async def attempt() -> bool:
        nonlocal made
        async with database.transaction() as transaction:
            ((mine,),) = await transaction.rows(_TRY, [LOCK])
            if mine:
                made = await plan(database, models)
                for statement in made.statements if allowed and not made.loses else ():
                    await transaction.run(Statement(statement))
            return bool(mine)

    try:
        await turn(attempt)
    except ServiceError as error:
        log.warning("tables cannot be changed to what their Models say: %s", error.__cause__ or error)
        _warn(made)
        return
    if not made.statements:
        return
    if not allowed or made.loses:
        log.warning("the Models and the tables differ; `%s` writes the migration", planning)
        _warn(made)
    else:
        log.info("changed tables to what their Models say: %s", "; ".join(made.statements))


def _warn(made: Plan) -> None:
    for warning in made.warnings:
        log.warning("%s", warning)
