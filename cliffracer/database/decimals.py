"""Limits on Decimals: msgspec has none for them. The table's check keeps them; what it cannot see or say is here."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec

from cliffracer.database.columns import Column, misfit

_LIMITS: tuple[tuple[str, str, Callable[[Any, Any], bool]], ...] = (
    ("gt", ">", lambda value, limit: value > limit),
    ("ge", ">=", lambda value, limit: value >= limit),
    ("lt", "<", lambda value, limit: value < limit),
    ("le", "<=", lambda value, limit: value <= limit),
)


def limited(column: Column) -> Column:
    """Return the column; one of Decimals with limits refuses NaN, which PostgreSQL takes for greater than any number."""
    if column.plain is not Decimal or not _limits(column):
        return column
    return msgspec.structs.replace(column, dump=_number(column.name))


def beyond(column: Column, value: Any) -> str | None:
    """Return which limit of its field a Decimal is beyond, in words; None if it is within all of them."""
    if column.plain is not Decimal:
        return None
    return next((f"Expected `decimal` {sign} {limit}" for sign, limit, within in _limits(column) if not within(value, limit)), None)


def _limits(column: Column) -> list[tuple[str, Decimal, Callable[[Any, Any], bool]]]:
    given = [(sign, getattr(meta, name), within) for meta in column.metas for name, sign, within in _LIMITS]
    return [(sign, Decimal(str(limit)), within) for sign, limit, within in given if limit is not None]


def _number(name: str) -> Callable[[Any], Any]:
    def checked(value: Any) -> Any:
        if value.is_nan() if isinstance(value, Decimal) else value != value:  # noqa: PLR0124 - a float's NaN
            raise misfit(name, "must be a number")
        return value

    return checked
