"""Finds which of many rows an error is about where the server does not say: by its message and our declarations."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import msgspec

from cliffracer.database.columns import Column
from cliffracer.database.failures import key_of
from cliffracer.database.table import Table
from cliffracer.errors import Conflict, InvalidInput, ServiceError

BETWEEN = ", "
"""What stands between the values of a key in the server's words, and may stand in a text as well."""


def culprit(table: Table[Any], rows: Sequence[Any], error: ServiceError) -> int | None:
    """Return the index of the refused row; None if it cannot be told.

    Of rows with the same unique key it is the second, of those that refer to the same missing row the first. For a conditional unique
    key it is not told: only the server can evaluate the condition.
    """
    if not isinstance(error, Conflict | InvalidInput):
        return None
    fields, said = key_of(error.__cause__)
    conditional = _conditional(table, error)
    if not fields:
        named = error.details.get("fields")  # under row-level security the message has no values
        if not named:
            return next((place for place, row in enumerate(rows) if table.explain(row)), None)
        return None if conditional else _again(table, rows, named)
    columns = [table.columns[field] for field in fields if field in table.columns]
    if len(columns) < len(fields):
        return None
    found = [place for place, row in enumerate(rows) if _is_key(columns, row, said)]
    if not found or (conditional and len(found) > 1):
        return None
    return found[1 if isinstance(error, Conflict) and len(found) > 1 else 0]


def _conditional(table: Table[Any], error: ServiceError) -> bool:
    """Say whether the error is about a unique key with a condition (a partial index)."""
    diagnostic = getattr(error.__cause__, "diag", None)
    return diagnostic is not None and any(key.where is not None and key.name == diagnostic.constraint_name for key in table.uniques)


def _again(table: Table[Any], rows: Sequence[Any], fields: Sequence[str]) -> int | None:
    """Return the first row with the same key as an earlier one; NULLs are never equal."""
    columns = [table.columns[field] for field in fields]
    seen = set()
    for place, row in enumerate(rows):
        key = tuple(_sent(column, row) for column in columns)
        if key in seen and None not in key:
            return place
        seen.add(key)
    return None


def _sent(column: Column, row: Any) -> Any:
    value = getattr(row, column.name)
    return value if value is None or column.dump is None else column.dump(value)


def _is_key(columns: Sequence[Column], row: Any, said: str) -> bool:
    """Say whether a row's values are those in the server's message: text is compared as it is, other types as psycopg reads them."""
    for place, column in enumerate(columns):
        value, last = _sent(column, row), place == len(columns) - 1
        if column.sql == "text":
            shown = value if isinstance(value, str) and said.startswith(value) else None
        else:
            shown = said if last else said.partition(BETWEEN)[0]
            shown = shown if _read(column.sql, shown) == (msgspec.json.decode(value) if value and column.json else value) else None
        if shown is None:
            return False
        said = said[len(shown) :]
        if not last:
            if not said.startswith(BETWEEN):
                return False
            said = said[len(BETWEEN) :]
    return not said


@lru_cache(maxsize=64)  # a key is compared with that of every row
def _read(sql: str, text: str) -> Any:
    import psycopg  # noqa: PLC0415 - who opens a database has it; a file of declarations does not import it
    from psycopg.adapt import Transformer  # noqa: PLC0415 - as above

    loader = Transformer().get_loader(psycopg.adapters.types[sql].oid, psycopg.pq.Format.TEXT)
    try:
        return loader.load(text.encode())
    except (psycopg.Error, ValueError, ArithmeticError):
        return None  # not a value that the column can have
