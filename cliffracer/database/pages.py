"""Keyset pagination: a page begins after the last row seen, so rows that come and go meanwhile cause no gaps and no duplicates."""

import base64
import re
from collections.abc import Iterator, Sequence
from math import isfinite
from typing import Any, Generic, TypeVar
from uuid import UUID

import msgspec

from cliffracer.database.columns import misfit
from cliffracer.database.filters import Order, Where, orders
from cliffracer.database.model import Model
from cliffracer.database.names import quoted
from cliffracer.database.queries import Queries
from cliffracer.database.statements import Statements, ordering
from cliffracer.database.table import Table
from cliffracer.errors import InvalidInput

T = TypeVar("T")
_ID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


class Page(msgspec.Struct, Generic[T]):
    """Some rows, and where the next ones begin: ``for user in page``, ``len(page)``, ``page[-1]``."""

    items: list[T]
    """The rows."""
    next: str | None
    """What ``page(after=...)`` takes; None when these rows are the last."""

    def __iter__(self) -> Iterator[T]:
        """Yield the rows."""
        return iter(self.items)

    def __len__(self) -> int:
        """Return how many rows there are."""
        return len(self.items)

    def __getitem__(self, place: int) -> T:
        """Return one of the rows."""
        return self.items[place]


class Turn(msgspec.Struct, frozen=True):
    """Which page is asked for."""

    after: Any
    limit: int
    order_by: str | Sequence[str] | None
    deleted: bool = False
    """Whether rows that are only marked as deleted are among them."""


async def page_of(database: Queries, sql: Statements, where: Where, turn: Turn) -> Page[Any]:
    """Return one page."""
    sorting = total_order(sql.table, turn.order_by)
    parts, params = [where.sql] if where.sql else [], list(where.params)
    if turn.after is not None:
        condition, more = _beyond(sorting, _opened(sorting, turn.after))
        parts.append(condition)
        params.extend(more)
    text = f"{sql.select}{sql.where(' AND '.join(parts), all_rows=turn.deleted)}{ordering(sorting)} LIMIT %s"
    found = await database.rows(sql.rows(text), [*params, turn.limit + 1])
    items = found[: turn.limit]
    return Page(items, sealed(sorting, items[-1]) if len(found) > turn.limit else None)


def total_order(table: Table[Any], order_by: str | Sequence[str] | None) -> list[Order]:
    """Return the order with the id added last, so that no two rows are equal."""
    sorting = orders(table, order_by or "id")
    for order in sorting:
        if order.column.nullable or order.column.json:
            raise misfit("order_by", f"{order.column.name} cannot order pages: it may be empty or is a document")
    if all(order.column.name != "id" for order in sorting):
        sorting.append(Order(table.columns["id"], sorting[-1].descending))
    return sorting


def _beyond(sorting: list[Order], last: list[Any]) -> tuple[str, list[Any]]:
    if len({order.descending for order in sorting}) == 1:  # one comparison of rows, which one index answers
        sign = "<" if sorting[0].descending else ">"
        names = ", ".join(quoted(order.column.name) for order in sorting)
        marks = ", ".join(f"%s::{order.column.sql}" for order in sorting)
        return f"({names}) {sign} ({marks})", last
    alternatives, params = [], []
    for place, order in enumerate(sorting):
        equal = [f"{quoted(before.column.name)} = %s" for before in sorting[:place]]
        alternatives.append(" AND ".join([*equal, f"{quoted(order.column.name)} {'<' if order.descending else '>'} %s"]))
        params.extend([*last[:place], last[place]])
    return f"(({') OR ('.join(alternatives)}))", params


def sealed(sorting: list[Order], row: Any) -> str:
    """Return the cursor that stands behind a row."""
    values = [_written(getattr(row, order.column.name)) for order in sorting]
    return base64.urlsafe_b64encode(msgspec.json.encode(values)).rstrip(b"=").decode()


def _written(value: Any) -> Any:
    """Return a value as JSON can hold it: numbers that are not finite would become null."""
    return str(value) if isinstance(value, float) and not isfinite(value) else value


def _opened(sorting: list[Order], cursor: Any) -> list[Any]:
    """Return the values after which a page begins, from a cursor or a row, or from an id in the order of ids."""
    try:
        if isinstance(cursor, Model):
            return [order.column.value(getattr(cursor, order.column.name)) for order in sorting]
        if isinstance(cursor, UUID) or (isinstance(cursor, str) and _ID.fullmatch(cursor)):
            (order,) = sorting
            return [order.column.value(cursor)]
        values = msgspec.json.decode(base64.urlsafe_b64decode(f"{cursor}{'=' * (-len(cursor) % 4)}"), type=list[Any])
        if len(values) != len(sorting) or None in values:
            raise ValueError("made for another order")  # noqa: TRY301 - one message for whatever is wrong with it
        return [order.column.value(value) for order, value in zip(sorting, values, strict=True)]
    except (ValueError, TypeError, AttributeError, RecursionError, msgspec.MsgspecError, InvalidInput) as error:
        raise misfit("after", "is not a cursor of this query") from error
