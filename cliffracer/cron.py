"""Cron expressions: when they are due next, in a time zone.

Five fields (minute, hour, day of month, month, day of week) or six (seconds first); ``*``, lists, ranges, steps, names,
``@hourly`` and the like; ``?`` is ``*``. If both day fields are restricted, with no ``*`` in either, either may fit, as in every cron.

At a change of clocks: a time that is skipped is due when the clocks have moved on, one that comes twice is due the first time;
an expression for every hour is due in each hour that passes.
"""

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta

_SHORT = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_MONTH_NAMES = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_MONTHS = {name: number for number, name in enumerate(_MONTH_NAMES, 1)}
_DAYS = {name: number for number, name in enumerate(("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"))}
_FIELDS: tuple[tuple[str, int, int, dict[str, int]], ...] = (
    ("second", 0, 59, {}),
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day of month", 1, 31, {}),
    ("month", 1, 12, _MONTHS),
    ("day of week", 0, 7, _DAYS),
)
_PART = re.compile(r"(\*|[0-9A-Z]+)(?:-([0-9A-Z]+))?(?:/([0-9]+))?")
_RESTRICTED = re.compile(r"[^*?]+")  # a day field, as crontab(5) has it: without * it may fit instead of the other one
_YEARS = 9  # February 29 comes within eight
_SHIFT = timedelta(hours=2)  # more than clocks are put forward by: where they are within an hour, its end is not its last moment


class Cron:
    """A parsed expression. ValueError for one that cannot be read, that never comes, or for an unknown time zone."""

    def __init__(self, expression: str, tz: str = "UTC") -> None:
        self.expression = expression
        self.tz = tz
        from zoneinfo import ZoneInfo, ZoneInfoNotFoundError  # noqa: PLC0415 - only who goes by the clock pays for importing it

        try:
            self._zone = ZoneInfo(tz)
        except (ZoneInfoNotFoundError, TypeError, ValueError, OSError):
            raise ValueError(f"{tz!r} is no time zone: write one as Europe/Berlin, or UTC") from None
        fields = _SHORT.get(expression.strip().lower(), expression).upper().split()
        if len(fields) == 5:
            fields.insert(0, "0")
        if len(fields) != 6:
            raise ValueError(
                f"{expression!r} is no cron expression: five fields (minute hour day month weekday), or six with seconds first"
            )
        parsed = [_parse(text, *field) for text, field in zip(fields, _FIELDS, strict=True)]
        self._seconds, self._minutes, self._hours, self._days, self._months, weekdays = (sorted(values) for values in parsed)
        self._weekdays = {day % 7 for day in weekdays}
        self._any_hour = len(self._hours) == 24
        self._any_day = not _RESTRICTED.fullmatch(fields[3])
        self._any_weekday = not _RESTRICTED.fullmatch(fields[5])
        if self.after(datetime(2024, 1, 1, tzinfo=UTC)) is None:
            raise ValueError(f"{expression!r} never comes: no month has such a day")

    def after(self, moment: datetime) -> datetime | None:
        """Return the first time after a moment, in UTC; None if there is none within years."""
        local = moment.astimezone(self._zone)
        day = local.date() - timedelta(days=1)  # a skipped time of yesterday may be due today
        for number in range(366 * _YEARS):
            for due in self._of(day + timedelta(days=number), moment):
                if due > moment:
                    return due
        return None

    def _of(self, day: date, moment: datetime) -> Iterator[datetime]:
        """Yield the times of a day, in order, but for hours and minutes that were over at a moment: a day has 86,400 seconds."""
        if not self._fits(day):
            return
        if self._any_hour:
            yield from self._each_hour(day, moment)
            return
        last = None
        for hour in self._hours:
            if self._utc(day, hour, 59, 59) + _SHIFT <= moment:
                continue
            for minute in self._minutes:
                if self._utc(day, hour, minute, 59) <= moment:
                    continue
                for second in self._seconds:
                    due = self._utc(day, hour, minute, second)
                    if last is None or due > last:
                        yield due
                        last = due

    def _each_hour(self, day: date, moment: datetime) -> Iterator[datetime]:
        """Yield the times of an expression for every hour: by what passes, not by what the clock shows."""
        hour = self._utc(day, 0, 0, 0)
        while hour.astimezone(self._zone).date() <= day:
            for minute in self._minutes if hour + timedelta(hours=1) > moment else ():
                begin = hour + timedelta(minutes=minute)
                for second in self._seconds if begin + timedelta(minutes=1) > moment else ():
                    yield begin + timedelta(seconds=second)
            hour += timedelta(hours=1)

    def _utc(self, day: date, hour: int, minute: int, second: int) -> datetime:
        return datetime.combine(day, time(hour, minute, second), self._zone).astimezone(UTC)

    def _fits(self, day: date) -> bool:
        if day.month not in self._months:
            return False
        by_month, by_week = day.day in self._days, day.isoweekday() % 7 in self._weekdays
        if self._any_day or self._any_weekday:
            return by_month and by_week
        return by_month or by_week

    def __repr__(self) -> str:
        return f"Cron({self.expression!r}, {self.tz!r})"


def _parse(text: str, name: str, low: int, high: int, names: dict[str, int]) -> set[int]:
    found: set[int] = set()
    for part in text.split(","):
        match = _PART.fullmatch("*" if part == "?" else part)
        if match is None:
            raise ValueError(f"{part!r} cannot be read as {name} of a cron expression")
        first, last, step = match[1], match[2], int(match[3] or 1)
        if first == "*":
            begin, end = low, high
        else:
            begin = _value(first, name, low, high, names)
            end = _value(last, name, low, high, names) if last else (high if match[3] else begin)
        if step < 1 or begin > end or (first == "*" and last):
            raise ValueError(f"{part!r} cannot be read as {name} of a cron expression: from {low} to {high}, rising")
        found.update(range(begin, end + 1, step))
    return found


def _value(text: str, name: str, low: int, high: int, names: dict[str, int]) -> int:
    value = names.get(text, int(text) if text.isdigit() and len(text) < 4 else -1)
    if not low <= value <= high:
        raise ValueError(f"{text!r} is no {name}: from {low} to {high}")
    return value
