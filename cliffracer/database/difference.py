"""What separates the models from the database, as the statements of the next migration.

Both sides are read from PostgreSQL's own catalogue: the models' tables are created in a schema of their own, inside a
transaction that is rolled back. So `CHECK (age >= 0)` is compared as PostgreSQL would spell it, not as we do.
"""

import re
import sys
from collections.abc import Iterable
from pathlib import Path

import msgspec

from cliffracer.database.database import Database
from cliffracer.database.link import Statement
from cliffracer.database.migrations import read
from cliffracer.database.model import Model
from cliffracer.database.names import quoted
from cliffracer.database.owntables import TABLES
from cliffracer.database.queries import Queries
from cliffracer.database.schema import Definition, define, literal, with_referenced
from cliffracer.database.table import table_of

SHADOW = "cliffracer_shadow"
DOCSTRINGS = sys.flags.optimize < 2
"""Whether classes have theirs: that of a Model is its table's comment, which ``python -OO`` is not to take away."""
_COLUMNS = Statement("""
SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
       pg_get_expr(d.adbin, d.adrelid), coalesce(col_description(c.oid, a.attnum), '')
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
WHERE c.relnamespace = %s::regnamespace AND c.relname = ANY(%s) AND c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY c.relname, a.attnum
""")
_CONSTRAINTS = Statement("""
SELECT c.relname, k.conname, pg_get_constraintdef(k.oid)
FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
WHERE c.relnamespace = %s::regnamespace AND c.relname = ANY(%s) AND k.contype IN ('p', 'u', 'f', 'c')
ORDER BY k.contype <> 'f', k.conname
""")
_INDEXES = Statement("""
SELECT c.relname, i.relname, pg_get_indexdef(i.oid)
FROM pg_index x JOIN pg_class c ON c.oid = x.indrelid JOIN pg_class i ON i.oid = x.indexrelid
WHERE c.relnamespace = %s::regnamespace AND c.relname = ANY(%s)
  AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.oid AND k.conrelid = c.oid)
ORDER BY i.relname
""")
_COMMENTS = Statement("""
SELECT relname, coalesce(obj_description(oid, 'pg_class'), '') FROM pg_class
WHERE relnamespace = %s::regnamespace AND relname = ANY(%s) AND relkind IN ('r', 'p')
""")


class Field(msgspec.Struct, frozen=True):
    """A column as it is in the catalogue."""

    type: str
    required: bool
    default: str | None
    comment: str


class Shape(msgspec.Struct):
    """A table as it is in the catalogue."""

    columns: dict[str, Field] = {}
    constraints: dict[str, str] = {}
    indexes: dict[str, str] = {}
    comment: str = ""


class Plan(msgspec.Struct):
    """What the next migration does."""

    statements: list[str] = []
    warnings: list[str] = []
    """What would be lost, or may fail because of existing rows."""
    loses: bool = False
    """Whether something may be lost."""

    def text(self) -> str:
        """Return the migration's text."""
        head = "".join(f"-- WARNING: {warning}\n" for warning in self.warnings)
        return head + "".join(f"{statement};\n" for statement in self.statements)


async def plan(database: Database, models: Iterable[type[Model]]) -> Plan:
    """Return the statements that make the database what the models say; none if it is."""
    definitions = [define(table_of(model)) for model in with_referenced(models)]
    names = [*TABLES, *(definition.table.name for definition in definitions)]
    have: dict[str, Shape] = {}
    want: dict[str, Shape] = {}

    class Undone(Exception):
        pass

    try:
        async with database.transaction() as transaction:
            ((schema, path),) = await transaction.rows(Statement("SELECT current_schema(), current_setting('search_path')"))
            have = await _shapes(transaction, schema, names)
            await transaction.run(Statement(f"CREATE SCHEMA {SHADOW}"))
            await transaction.rows(Statement("SELECT set_config('search_path', %s, true)"), [f"{SHADOW}, {path}"])
            for text in TABLES.values():
                await transaction.run(Statement(text))
            for definition in definitions:
                await transaction.run(Statement(definition.create))
            for definition in definitions:
                for statement in definition.later:
                    await transaction.run(Statement(statement))
            want = await _shapes(transaction, SHADOW, names)
            raise Undone  # noqa: TRY301 - the way out of a transaction
    except Undone:
        pass
    return _difference(definitions, have, want)


def write(folder: Path, made: Plan, name: str = "change") -> Path:
    """Write a plan as the next migration of a folder, and return its file."""
    folder.mkdir(parents=True, exist_ok=True)
    number = max((migration.number for migration in read(folder)), default=0) + 1
    word = re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_") or "change"
    path = folder / f"{number:04d}_{word}.sql"
    path.write_text(made.text(), encoding="utf-8")
    return path


async def _shapes(database: Queries, schema: str, names: list[str]) -> dict[str, Shape]:
    found: dict[str, Shape] = {}
    for table, comment in await database.rows(_COMMENTS, [schema, names]):
        found[table] = Shape({}, {}, {}, comment)
    for table, column, *rest in await database.rows(_COLUMNS, [schema, names]):
        found[table].columns[column] = Field(*rest)
    for table, name, text in await database.rows(_CONSTRAINTS, [schema, names]):
        found[table].constraints[name] = text
    for table, name, text in await database.rows(_INDEXES, [schema, names]):
        found[table].indexes[name] = text.replace(f" ON {schema}.", " ON ").replace(f' ON "{schema}".', " ON ")
    return found


def _difference(definitions: list[Definition], have: dict[str, Shape], want: dict[str, Shape]) -> Plan:
    made = Plan([], [])
    later: list[str] = []
    for name, text in TABLES.items():
        if name not in have:
            made.statements.append(text.strip())
    for definition in definitions:
        name = definition.table.name
        if name not in have:
            made.statements.append(definition.create)
            later += definition.later
    for name, shape in want.items():
        if name in have and name not in TABLES:
            _changes(name, have[name], shape, made)
    made.statements += later
    return made


def _changes(name: str, old: Shape, new: Shape, made: Plan) -> None:
    table = quoted(name)
    fresh = [column for column in new.columns if column not in old.columns]
    for constraint in _outdated(name, old.constraints, new.constraints):
        made.statements.append(f"ALTER TABLE {table} DROP CONSTRAINT {quoted(constraint)}")
        if old.constraints[constraint].startswith("UNIQUE"):
            made.warnings.append(f"{constraint} is dropped, and replicas that upsert by it fail: apply this when they are gone.")
    made.statements += [f"DROP INDEX {quoted(index)}" for index in _outdated(name, old.indexes, new.indexes)]
    for column in fresh:
        _added(name, column, new.columns[column], made)
    for column, field in new.columns.items():
        if column in old.columns and old.columns[column] != field:
            _altered(name, column, old.columns[column], field, made)
    for column in old.columns:
        if column not in new.columns:
            gone = old.columns[column]
            _dropped(name, column, gone, [other for other in fresh if new.columns[other].type == gone.type], made)
    _ruled(name, old, new, made)
    if old.comment != new.comment and (new.comment or DOCSTRINGS):
        made.statements.append(f"COMMENT ON TABLE {table} IS {literal(new.comment or None)}")


def _ruled(table: str, old: Shape, new: Shape, made: Plan) -> None:
    rules = {name: text for name, text in new.constraints.items() if old.constraints.get(name) != text}
    indexes = {name: text for name, text in new.indexes.items() if old.indexes.get(name) != text}
    made.statements += [f"ALTER TABLE {quoted(table)} ADD CONSTRAINT {quoted(name)} {text}" for name, text in rules.items()]
    made.statements += indexes.values()
    for name in [*rules, *(name for name, text in indexes.items() if text.startswith("CREATE UNIQUE"))]:
        made.warnings.append(f"{name} is checked against every row of {table} that is there, and against what replicas without it store.")


def _outdated(table: str, old: dict[str, str], new: dict[str, str]) -> list[str]:
    """Return the constraints or indexes to drop: changed ones, and those named by us that no model asks for any more."""
    return [name for name, text in old.items() if new.get(name) != text and (name in new or _ours(table, name))]


def _dropped(table: str, column: str, old: Field, alike: list[str], made: Plan) -> None:
    warning = f"{table}.{column} is dropped with everything in it, and replicas that still have it fail: apply this when they are gone"
    if old.required and not old.default:
        warning += f", and before the first without it starts: ALTER TABLE {quoted(table)} ALTER COLUMN {quoted(column)} DROP NOT NULL"
    warning += "."
    if alike:
        rename = f"ALTER TABLE {quoted(table)} RENAME COLUMN {quoted(column)} TO {quoted(alike[0])}"
        warning += f" If it is {alike[0]} now, write instead: {rename}."
    made.warnings.append(warning)
    made.loses = True
    made.statements.append(f"ALTER TABLE {quoted(table)} DROP COLUMN {quoted(column)}")


def _ours(table: str, name: str) -> bool:
    """Say whether a constraint or index is named as we name them; all others stay."""
    return name.startswith(f"{table}_") and name.endswith(("_key", "_check", "_fkey", "_idx"))


def _added(table: str, column: str, field: Field, made: Plan) -> None:
    parts = [quoted(column), field.type, "NOT NULL" if field.required else "", f"DEFAULT {field.default}" if field.default else ""]
    made.statements.append(f"ALTER TABLE {quoted(table)} ADD COLUMN {' '.join(part for part in parts if part)}")
    if field.required and not field.default:
        fails = f"this fails if {table} has rows, and replicas without it can insert none"
        made.warnings.append(f"{table}.{column} is required and has no default: {fails}. Give the field a default.")
    if field.comment:
        made.statements.append(f"COMMENT ON COLUMN {quoted(table)}.{quoted(column)} IS {literal(field.comment)}")


def _altered(table: str, column: str, old: Field, new: Field, made: Plan) -> None:
    head = f"ALTER TABLE {quoted(table)} ALTER COLUMN {quoted(column)}"
    if old.type != new.type:
        if old.default:
            made.statements.append(f"{head} DROP DEFAULT")
        made.statements.append(f"{head} TYPE {new.type} USING {quoted(column)}::{new.type}")
        made.warnings.append(f"{table}.{column} changes from {old.type} to {new.type}: this rewrites the table, and values may not fit.")
        made.loses = True
    if old.default != new.default or (old.type != new.type and new.default):
        made.statements.append(f"{head} SET DEFAULT {new.default}" if new.default else f"{head} DROP DEFAULT")
    if old.required != new.required:
        made.statements.append(f"{head} {'SET' if new.required else 'DROP'} NOT NULL")
        if new.required:
            made.warnings.append(
                f"{table}.{column} becomes required: this fails if a row has none, and replicas that insert none fail then."
            )
    if old.comment != new.comment:
        made.statements.append(f"COMMENT ON COLUMN {quoted(table)}.{quoted(column)} IS {literal(new.comment or None)}")
