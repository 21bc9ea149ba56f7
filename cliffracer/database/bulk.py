"""Many rows at once: one statement for a few, COPY for more, all of them or none.

psycopg's pipeline mode is not used: it saves round trips, and one statement for all rows has only one anyway. Microseconds of CPU per
row of seven columns (``python -m benchmarks.database`` measures it again):

    rows         one INSERT   pipeline   COPY      upsert in one INSERT   in a pipeline
    2                    18         32     39                        25              48
    4                     9         20     20                        15              32
    8                    16         16     11                        19              22
    32                   13         11      6                        14              15
    200                  11          8    1.5                        13              12
    1,000                11          8    1.0                        13              11

PostgreSQL refuses COPY under row-level security; several statements in one transaction take its place there.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from cliffracer.database.culprit import culprit
from cliffracer.database.link import Copy, Statement
from cliffracer.database.names import quoted
from cliffracer.database.queries import Queries
from cliffracer.database.statements import Statements
from cliffracer.database.table import UNSENDABLE
from cliffracer.errors import Conflict, InvalidInput, ServiceError

COPY_FROM = 8
"""From so many rows on COPY is cheaper than one INSERT of several rows (psycopg parses an INSERT of more than 50 values anew each time)."""
CHUNK, LONGEST = 500, 65_535
"""Rows of one INSERT at most, and values: their number has 16 bits in PostgreSQL's protocol."""
NO_COPY = "0A000"
"""The SQLSTATE with which PostgreSQL refuses COPY."""
_SECURED = Statement("SELECT row_security_active(%s::regclass)")


async def secured(store: Queries, sql: Statements) -> bool:
    """Say whether row-level security applies to us on a table, so that COPY would be refused."""
    ((found,),) = await store.rows(_SECURED, [sql.name])
    return bool(found)


async def create_many(store: Queries, sql: Statements, rows: Sequence[Any], *, copying: bool) -> None:
    """Store rows; an error carries the ``index`` of the row that was refused. COPY is used for many if it may be."""
    if not rows:
        return
    if len(rows) < COPY_FROM:
        try:
            await _insert(store, sql, rows)
        except ServiceError as error:
            if store.joined() is None:  # an open transaction takes no more statements after it
                await _try(store, sql, rows, error)
            raise
    elif copying:
        await _copy(store, sql, rows)
    else:
        size = min(CHUNK, LONGEST // len(sql.table.columns))
        async with store.transaction():
            for start in range(0, len(rows), size):
                some = rows[start : start + size]
                try:
                    async with store.transaction():
                        await _insert(store, sql, some, start)
                except ServiceError as error:
                    await _try(store, sql, some, error, start)
                    raise


async def _insert(store: Queries, sql: Statements, rows: Sequence[Any], start: int = 0) -> None:
    try:
        params = [value for values in _parameters(rows, sql.table.exactly) for value in values]
        await store.run(sql.bare(sql.inserting(len(rows))), params)
    except ServiceError as error:
        index = error.details.get("index", culprit(sql.table, rows, error))
        if index is not None:
            error.details["index"] = start + index
        raise


async def _try(store: Queries, sql: Statements, rows: Sequence[Any], refusal: ServiceError, start: int = 0) -> None:
    """Find the refused row where the error does not name it, as under row-level security: store one after the other, and keep none."""
    if "index" in refusal.details or not isinstance(refusal, Conflict | InvalidInput):
        return
    place = -1
    try:
        async with store.transaction():
            for values in _parameters(rows, sql.table.exactly):
                place += 1
                await store.run(sql.insert, values)
            raise refusal  # nothing is kept
    except ServiceError as error:
        if error is not refusal and type(error) is type(refusal):
            refusal.details["index"] = start + place


async def _copy(store: Queries, sql: Statements, rows: Sequence[Any]) -> None:
    types = tuple(column.sql for column in sql.table.columns.values())
    text = f"COPY {quoted(sql.table.name)} ({sql.columns}) FROM STDIN (FORMAT binary)"
    reached = -1

    def parameters() -> Iterator[tuple[Any, ...]]:
        nonlocal reached
        for values in _parameters(rows, sql.table.parameters):
            reached += 1
            yield values

    try:
        await store.copy(Copy(text, types, sql.table), parameters())
    except ServiceError as error:
        if "index" not in error.details:  # foreign keys are checked after all lines are read, so that error has no line number
            here = isinstance(error, InvalidInput) and getattr(error.__cause__, "sqlstate", None) is None
            index = reached if here else culprit(sql.table, rows, error)
            if index is not None:
                error.details["index"] = index
        raise
    except UNSENDABLE as error:
        made = sql.table.misfit(rows[reached], error)
        made.details["index"] = reached
        raise made from error


def _parameters(rows: Sequence[Any], values: Callable[[Any], tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    for index, row in enumerate(rows):
        try:
            yield values(row)
        except InvalidInput as error:
            error.details["index"] = index
            raise
