"""Models as tables: the statements that create them, and their creation in development."""

import enum
import inspect
import logging
import re
from collections.abc import Iterable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec

from cliffracer.database.columns import JSON, Column
from cliffracer.database.database import Database
from cliffracer.database.link import Statement
from cliffracer.database.model import Model, References
from cliffracer.database.names import listed, quoted
from cliffracer.database.owntables import FOREIGN, HISTORY, LOCK, TABLES, turn
from cliffracer.database.queries import Queries
from cliffracer.database.searching import document
from cliffracer.database.table import Key, Table, short, table_of
from cliffracer.errors import ServiceError, SetupError

log = logging.getLogger("cliffracer.database")

_ONLY_PYTHON = re.compile(r"\\[bB]|\(\?P")
"""Syntax in a pattern that PostgreSQL's regular expressions read differently."""
_LITERALS = (str, int, float, bytes, Decimal, enum.Enum, UUID, date, datetime, time, timedelta)
NO_ACTION = {"restrict": "RESTRICT", "cascade": "CASCADE", "set null": "SET NULL", "no action": "NO ACTION"}


class Definition(msgspec.Struct, frozen=True):
    """Everything that makes one table."""

    table: Table[Any]
    create: str
    later: tuple[str, ...]
    """Foreign keys, indexes and comments: run when all tables are there."""


async def create_missing(database: Database, models: Iterable[type[Model]], *, whoever: bool = False) -> list[str]:
    """Create the tables of these models, and our own, that are not there, and return their names; nothing that exists is changed.

    Where migrations are in use (ours, Alembic's or dbmate's) the models' tables are left to them. With ``whoever`` only to those of other
    tools: a test's own database may be ahead of our migrations.
    """
    definitions = [define(table_of(model)) for model in with_referenced(models)]
    made: dict[str, None] = {}
    for shard in database.shards:
        made.update(dict.fromkeys(await _create_on(shard, definitions, whoever=whoever)))
    if made:
        log.info("created the table%s %s", "s" if len(made) > 1 else "", ", ".join(made))
    return list(made)


async def _create_on(database: Database, definitions: list[Definition], *, whoever: bool) -> list[str]:
    made: list[str] = []

    async def attempt() -> bool:
        made.clear()
        async with database.transaction() as transaction:
            ((mine,),) = await transaction.rows(Statement("SELECT pg_try_advisory_xact_lock(%s)"), [LOCK])
            if mine:
                made.extend(await _create(transaction, definitions, whoever=whoever))
            return bool(mine)

    await turn(attempt)
    return made


async def _create(database: Queries, definitions: list[Definition], *, whoever: bool) -> list[str]:
    made = [name for name in TABLES if not await exists(database, name)]
    for name in made:
        await database.run(Statement(TABLES[name]))
    missing = [definition for definition in definitions if not await exists(database, definition.table.name)]
    owner = await (foreign_owner_of if whoever else owner_of)(database) if missing else None
    if owner is not None:
        names = ", ".join(definition.table.name for definition in missing)
        log.warning("the tables %s are missing and left to %s", names, owner)
        return made
    for definition in missing:
        for pattern in patterns_of(definition.table):  # the server compiles them only when a row is checked
            await _make(database, definition, f"SELECT '' ~ {literal(pattern)}")
        await _make(database, definition, definition.create)
    for definition in missing:
        for statement in definition.later:
            await _make(database, definition, statement)
    return made + [definition.table.name for definition in missing]


async def _make(database: Queries, definition: Definition, statement: str) -> None:
    try:
        await database.run(Statement(statement))
    except ServiceError as error:
        if error.retryable:
            raise
        said = str(error.__cause__ or error).strip().partition("\n")[0]
        name = definition.table.model.__qualname__
        cure = " What it refers to must be a model's table, or be there." if getattr(error.__cause__, "sqlstate", None) == "42P01" else ""
        raise SetupError(f"{name} cannot be made a table: {said}.{cure}") from error


async def owner_of(database: Queries) -> str | None:
    """Return which tool's migrations make the tables of this database, and how they are run; None if none do."""
    if await exists(database, HISTORY):
        return "the migrations: run `cliffracer db plan` and `cliffracer db apply`"
    return await foreign_owner_of(database)


async def foreign_owner_of(database: Queries) -> str | None:
    """Return which other tool makes the tables of this database; None if none does."""
    for table, tool in FOREIGN.items():
        if await exists(database, table):
            return f"{tool}, whose history is here"
    return None


async def exists(database: Queries, name: str) -> bool:
    """Say whether a table of this name is there, on the search path."""
    ((found,),) = await database.rows(Statement("SELECT to_regclass(%s) IS NOT NULL"), [quoted(name)])
    return bool(found)


def with_referenced(models: Iterable[type[Model]]) -> list[type[Model]]:
    """Return the models and all that they refer to by class, each once."""
    found: dict[type[Model], None] = {}
    waiting = list(models)
    while waiting:
        model = waiting.pop(0)
        if model in found:
            continue
        found[model] = None
        for column in table_of(model).columns.values():
            reference = column.marked(References)
            if reference is not None and not isinstance(reference.target, str):
                waiting.append(reference.target)
    names = [table_of(model).name for model in found]
    for name in names:
        if names.count(name) > 1:
            same = ", ".join(model.__qualname__ for model in found if table_of(model).name == name)
            raise SetupError(f"{same} are all kept in the table {name}. Give each its own __tablename__.")
    return list(found)


def define(table: Table[Any]) -> Definition:
    """Return the statements for a table."""
    name = quoted(table.name)
    lines = [_column(column) for column in table.columns.values()]
    lines.append(f"CONSTRAINT {quoted(short(f'{table.name}_pkey'))} PRIMARY KEY ({quoted('id')})")
    lines += [f"CONSTRAINT {quoted(key.name)} UNIQUE ({listed(key.fields)})" for key in table.uniques if key.where is None]
    for column in table.columns.values():
        checks = checks_of(column)
        if checks:
            lines.append(f"CONSTRAINT {quoted(check_name(table, column))} CHECK ({' AND '.join(checks)})")
    body = ",\n    ".join(lines)
    return Definition(table, f"CREATE TABLE {name} (\n    {body}\n)", (*_foreign(table), *_indexes(table), *_comments(table)))


def check_name(table: Table[Any], column: Column) -> str:
    """Return the name of a column's check; errors find the field by it."""
    return short(f"{table.name}_{column.name}_check")


def literal(value: Any) -> str:
    """Return a declared value as SQL."""
    if isinstance(value, enum.Enum):
        value = value.value
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | Decimal):
        return str(value)
    if isinstance(value, float):
        return repr(value) if value - value == 0 else f"'{value}'::double precision"  # not so for nan and inf
    return _literal(value)


def _literal(value: Any) -> str:
    if isinstance(value, bytes):
        return f"'\\x{value.hex()}'::bytea"
    if isinstance(value, timedelta):
        return f"'{value.days} days {value.seconds} seconds {value.microseconds} microseconds'::interval"
    return "'" + str(value).replace("'", "''") + "'"


def default_of(column: Column) -> str | None:
    """Return the SQL default of a column, for rows that somebody else writes and for columns added later; None without one."""
    if column.name in {"created_at", "updated_at"}:
        return "now()"
    if column.default is not msgspec.NODEFAULT:
        if column.default is None:
            return None
        if column.json:
            return f"{literal(msgspec.json.encode(column.default).decode())}::jsonb"
        return literal(column.default) if isinstance(column.default, _LITERALS) else None
    if column.factory in {list, tuple, set, frozenset}:
        return "'[]'::jsonb"
    return "'{}'::jsonb" if column.factory is dict else None


def checks_of(column: Column) -> list[str]:
    """Return the conditions that a column's `Meta`, `Literal` or `Enum` sets."""
    name = quoted(column.name)
    checks = [f"{name} IN ({', '.join(literal(choice) for choice in column.choices)})"] if column.choices else []
    length = {"text": "char_length({})", "bytea": "octet_length({})"}.get(column.sql, "jsonb_array_length({})")
    length = length.format(name)
    listlike = column.sql != JSON or _is_list(column)
    for meta in column.metas:
        for sign, limit in ((">", meta.gt), (">=", meta.ge), ("<", meta.lt), ("<=", meta.le)):
            if limit is not None:
                checks.append(f"{name} {sign} {literal(limit)}")
        if meta.multiple_of is not None and column.sql in {"bigint", "numeric"}:
            checks.append(f"mod({name}, {literal(meta.multiple_of)}) = 0")
        if meta.min_length is not None and listlike:
            checks.append(f"{length} >= {meta.min_length}")
        if meta.max_length is not None and listlike:
            checks.append(f"{length} <= {meta.max_length}")
        pattern = _pattern(column, meta)
        if pattern is not None:
            checks.append(f"{name} ~ {literal(pattern)}")
    return checks


def patterns_of(table: Table[Any]) -> list[str]:
    """Return the regular expressions among a table's checks."""
    found = (_pattern(column, meta) for column in table.columns.values() for meta in column.metas)
    return [pattern for pattern in found if pattern is not None]


def _pattern(column: Column, meta: msgspec.Meta) -> str | None:
    pattern = meta.pattern
    return pattern if pattern and column.sql == "text" and not _ONLY_PYTHON.search(pattern) else None


def _is_list(column: Column) -> bool:
    kind = getattr(column.kind, "__origin__", column.kind)
    kind = getattr(kind, "__origin__", kind)
    return kind in {list, tuple, set, frozenset}


def _column(column: Column) -> str:
    default = default_of(column)
    parts = [quoted(column.name), column.sql, "" if column.nullable else "NOT NULL", f"DEFAULT {default}" if default else ""]
    return " ".join(part for part in parts if part)


def _foreign(table: Table[Any]) -> list[str]:
    found = []
    for column in table.columns.values():
        reference: References | None = column.marked(References)
        if reference is not None:
            key = quoted(short(f"{table.name}_{column.name}_fkey"))
            action = NO_ACTION[reference.on_delete]
            target = f"{quoted(reference.tablename)} ({quoted('id')})"
            rule = f"FOREIGN KEY ({quoted(column.name)}) REFERENCES {target} ON DELETE {action}"
            found.append(f"ALTER TABLE {quoted(table.name)} ADD CONSTRAINT {key} {rule}")
    return found


def _indexes(table: Table[Any]) -> list[str]:
    found = [_index(table, key, unique=True) for key in table.uniques if key.where is not None]
    found += [_index(table, key, unique=False) for key in table.indexes]
    if table.search:
        name = quoted(short(f"{table.name}_search_idx"))
        found.append(f"CREATE INDEX {name} ON {quoted(table.name)} USING gin (({document(table)}))")
    return found


def _index(table: Table[Any], key: Key, *, unique: bool) -> str:
    where = f" WHERE {key.where}" if key.where else ""
    kind = "UNIQUE INDEX" if unique else "INDEX"
    return f"CREATE {kind} {quoted(key.name)} ON {quoted(table.name)} USING {key.method} ({listed(key.fields)}){where}"


def _comments(table: Table[Any]) -> list[str]:
    found = []
    text = inspect.cleandoc(table.model.__doc__ or "").partition("\n")[0]
    if text:
        found.append(f"COMMENT ON TABLE {quoted(table.name)} IS {literal(text)}")
    for column in table.columns.values():
        name = f"{quoted(table.name)}.{quoted(column.name)}"
        found += [f"COMMENT ON COLUMN {name} IS {literal(meta.description)}" for meta in column.metas if meta.description]
    return found
