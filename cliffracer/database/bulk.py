"""Many rows at once: one statement for some, COPY for many, all of them or none."""

from typing import Any

from cliffracer.database.queries import Queries
from cliffracer.database.statements import Statements

COPY_FROM = 50
"""From so many rows on COPY is the fastest way in (measured: see benchmarks/database)."""


async def create_many(database: Queries, sql: Statements, rows: list[Any]) -> list[Any]:
    """Store rows and return them."""
    if rows:
        params: list[Any] = []
        for row in rows:
            params.extend(sql.table.parameters(row))
        await database.run(sql.bare(sql.inserting(len(rows))), params)
    return rows
