"""The fixed SQL of one table, made once when the table is first used."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import msgspec

from cliffracer.database.filters import Order
from cliffracer.database.link import Make, Statement
from cliffracer.database.names import listed, quoted
from cliffracer.database.table import Table

# ruff: noqa: S608 - names in these texts are quoted and come from declarations; values are parameters

UNCHANGED = ("id", "created_at")
MARK = '"deleted_at" = %s'
"""The assignment that marks a row as deleted."""


class Statements(msgspec.Struct, frozen=True):
    """The statements for a repository's simplest calls, and the parts of all others."""

    table: Table[Any]
    name: str
    columns: str
    living: str
    """The condition that hides deleted rows; empty without soft delete."""
    select: str
    insert: Statement
    by_id: str
    get: Statement
    remove: Statement

    def rows(self, sql: str) -> Statement:
        """Return a statement whose rows become Structs."""
        return Statement(sql, _factory(self.table), self.table)

    def bare(self, sql: str, *, deleting: bool = False) -> Statement:
        """Return a statement whose rows stay tuples, or that has none."""
        return Statement(sql, table=self.table, deleting=deleting)

    def where(self, condition: str, *, all_rows: bool = False) -> str:
        """Return the WHERE clause for a condition, with deleted rows left out."""
        parts = [part for part in (condition, "" if all_rows else self.living) if part]
        return f" WHERE {' AND '.join(parts)}" if parts else ""

    def update(self, sets: str, condition: str, *, returning: bool = False, all_rows: bool = False) -> Statement:
        """Return the UPDATE of the rows that meet a condition."""
        text = f"UPDATE {self.name} SET {sets}{self.where(condition, all_rows=all_rows)}"
        return self.rows(f"{text} RETURNING {self.columns}") if returning else self.bare(text)

    def delete(self, condition: str) -> Statement:
        """Return the DELETE of the rows that meet a condition, marked as deleted or not."""
        return self.bare(f"DELETE FROM {self.name}{self.where(condition, all_rows=True)}", deleting=True)

    def count(self, condition: str, *, all_rows: bool) -> Statement:
        """Return the query for the number of rows that meet a condition."""
        return self.bare(f"SELECT count(*) FROM {self.name}{self.where(condition, all_rows=all_rows)}")

    def any(self, condition: str, *, all_rows: bool) -> Statement:
        """Return the query that has one row if any meets a condition."""
        return self.bare(f"SELECT 1 FROM {self.name}{self.where(condition, all_rows=all_rows)} LIMIT 1")

    def inserting(self, count: int = 1) -> str:
        """Return the INSERT of several rows."""
        row = f"({', '.join(['%s'] * len(self.table.columns))})"
        return f"INSERT INTO {self.name} ({self.columns}) VALUES {', '.join([row] * count)}"

    def upserting(self, on: Sequence[str]) -> str:
        """Return the INSERT that updates the row that it conflicts with."""
        kept = {*UNCHANGED, *on}
        changes = [f"{quoted(name)} = excluded.{quoted(name)}" for name in self.table.columns if name not in kept and name != "version"]
        if self.table.versioned:
            changes.append(f"{quoted('version')} = {self.name}.{quoted('version')} + 1")
        changes = changes or [f"{quoted(on[0])} = excluded.{quoted(on[0])}"]
        return f"{self.inserting()} ON CONFLICT ({listed(tuple(on))}) DO UPDATE SET {', '.join(changes)} RETURNING {self.columns}"


def ordering(orders: Sequence[Order]) -> str:
    """Return the ORDER BY clause."""
    if not orders:
        return ""
    return " ORDER BY " + ", ".join(f"{quoted(order.column.name)}{' DESC' if order.descending else ''}" for order in orders)


@cache  # one entry per model of the program
def statements_of(table: Table[Any]) -> Statements:
    """Return the statements of a table."""
    name, columns = quoted(table.name), listed(tuple(table.columns))
    key = quoted("id")
    living = f"{quoted('deleted_at')} IS NULL" if table.soft else ""
    select = f"SELECT {columns} FROM {name}"
    alive = f" AND {living}" if living else ""
    values = ", ".join(["%s"] * len(table.columns))
    return Statements(
        table=table,
        name=name,
        columns=columns,
        living=living,
        select=select,
        insert=Statement(f"INSERT INTO {name} ({columns}) VALUES ({values})", table=table),
        by_id=f"{key} = %s",
        get=Statement(f"{select} WHERE {key} = %s{alive}", _factory(table), table),
        remove=Statement(f"DELETE FROM {name} WHERE {key} = %s", table=table, deleting=True),
    )


@cache  # one entry per model of the program
def _factory(table: Table[Any]) -> Any:
    make = table.make

    def factory(_cursor: Any) -> Make:
        return make

    return factory
