"""Durations as people write them: ``30s``, ``1.5h``, ``1h30m``, or seconds as a number; and moments, absolute or as a duration ago."""

import math
import re
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhdw])")
_WHOLE = re.compile(rf"(?:{_PART.pattern})+")


def seconds(value: float | str | timedelta) -> float:
    """Return a length of time in seconds; ValueError for one that cannot be read, is negative or is not finite."""
    if isinstance(value, timedelta):
        found = value.total_seconds()
    elif isinstance(value, str):
        text = value.strip().lower()
        if _WHOLE.fullmatch(text):
            found = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
        else:
            found = _number(text, value)
    else:
        found = float(value)
    if not math.isfinite(found) or found < 0:
        raise ValueError(f"{value!r} is no length of time: it must be finite and not negative")
    return found


def _number(text: str, value: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{value!r} is no length of time: write seconds, or 500ms, 30s, 10m, 1h, 1h30m, 7d") from None


def moment(value: str | datetime | timedelta) -> datetime:
    """Return a moment: itself, ISO 8601, or how long ago (``1h``); one without a zone is local. ValueError for one that cannot be read."""
    if isinstance(value, datetime):
        return value.astimezone(UTC)
    if isinstance(value, str):
        with suppress(ValueError):  # then it is a length of time
            return datetime.fromisoformat(value).astimezone(UTC)
    return ago(value)


def ago(value: float | str | timedelta) -> datetime:
    """Return the moment that is so long ago, or 1970: there is nothing older. ValueError for a length of time that cannot be read."""
    return datetime.fromtimestamp(max(0.0, time.time() - seconds(value)), UTC)


def worded(value: float) -> str:
    """Return seconds as people write them, and as `seconds` reads them: ``1h30m``, ``45s``, ``250ms``."""
    if value < 1:
        return f"{value * 1000:g}ms" if value else "0s"
    left, words = value, ""
    for unit, size in (("d", 86400.0), ("h", 3600.0), ("m", 60.0)):
        count, left = divmod(left, size)
        words += f"{count:.0f}{unit}" if count else ""
    return words + (f"{left:g}s" if left or not words else "")
