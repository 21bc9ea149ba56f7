"""Limits on Decimals, which msgspec does not support. The table's check enforces them; here is what it cannot check or report."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec

from cliffracer.database.columns import Column, misfit
from cliffracer.wire.limits import NAMES, Limits


def limited(column: Column) -> Column:
    """Return the column; one of Decimals with limits refuses NaN, which PostgreSQL takes for greater than any number."""
    return msgspec.structs.replace(column, dump=_number(column.name)) if _limits(column) else column


def beyond(column: Column, value: Any) -> str | None:
    """Return which limit of its field a Decimal is beyond, in words; None if it is within all of them."""
    return next((message for limits in _limits(column) for message in limits.broken(value, finite=False)), None)


def _limits(column: Column) -> list[Limits]:
    if column.plain is not Decimal:
        return []
    return [Limits(meta) for meta in column.metas if any(getattr(meta, name) is not None for name in NAMES)]


def _number(name: str) -> Callable[[Any], Any]:
    def checked(value: Any) -> Any:
        if value.is_nan() if isinstance(value, Decimal) else value != value:  # noqa: PLR0124 - a float's NaN
            raise misfit(name, "must be a number")
        return value

    return checked
