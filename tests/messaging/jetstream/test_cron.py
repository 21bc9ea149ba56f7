"""When cron expressions are due: fields, names, both day fields, and the days on which clocks change."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cliffracer.cron import Cron
from cliffracer.messaging.plans import At


def due(expression: str, tz: str, after: str, count: int = 3) -> list[str]:
    moment = datetime.fromisoformat(after).replace(tzinfo=UTC)
    found = []
    for _ in range(count):
        following = Cron(expression, tz).after(moment)
        assert following is not None
        moment = following
        found.append(moment.strftime("%m-%d %H:%M:%S" if moment.second else "%m-%d %H:%M"))
    return found


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("*/20 * * * *", ["01-01 00:20", "01-01 00:40", "01-01 01:00"]),
        ("0 9 * * MON-FRI", ["01-01 09:00", "01-02 09:00", "01-03 09:00"]),
        ("0 9 * * 6,7", ["01-06 09:00", "01-07 09:00", "01-13 09:00"]),
        ("30 8 1,15 * *", ["01-01 08:30", "01-15 08:30", "02-01 08:30"]),
        ("0 0 13 * FRI", ["01-05 00:00", "01-12 00:00", "01-13 00:00"]),
        ("0 9 ? * MON", ["01-01 09:00", "01-08 09:00", "01-15 09:00"]),
        ("0 9 1 * ?", ["01-01 09:00", "02-01 09:00", "03-01 09:00"]),
        ("0 9 */2 * MON", ["01-01 09:00", "01-15 09:00", "01-29 09:00"]),
        ("15,45 10 * JAN *", ["01-01 10:15", "01-01 10:45", "01-02 10:15"]),
        ("*/20 0 0 * * *", ["01-01 00:00:20", "01-01 00:00:40", "01-02 00:00"]),
        ("0 0 29 2 *", ["02-29 00:00", "02-29 00:00", "02-29 00:00"]),
        ("@monthly", ["02-01 00:00", "03-01 00:00", "04-01 00:00"]),
    ],
)
def test_an_expression_is_due_when_it_says(expression: str, expected: list[str]):
    """From the first of January 2024, a Monday."""
    assert due(expression, "UTC", "2024-01-01T00:00:00") == expected


def test_a_time_zone_moves_it():
    """Nine o'clock in Berlin is eight in UTC in winter, seven in summer."""
    assert due("0 9 * * *", "Europe/Berlin", "2024-03-29T12:00:00") == ["03-30 08:00", "03-31 07:00", "04-01 07:00"]


def test_a_time_that_is_skipped_is_due_when_clocks_have_moved_on():
    """There is no 02:30 on that Sunday; the job runs all the same, once."""
    assert due("30 2 * * *", "Europe/Berlin", "2024-03-30T12:00:00") == ["03-31 01:30", "04-01 00:30", "04-02 00:30"]


def test_a_time_that_comes_twice_is_due_once():
    """02:30 exists twice on that Sunday."""
    assert due("30 2 * * *", "Europe/Berlin", "2024-10-26T12:00:00") == ["10-27 00:30", "10-28 01:30", "10-29 01:30"]


def test_every_hour_is_every_hour_that_passes():
    """Also in the hour that comes twice."""
    assert due("0 * * * *", "Europe/Berlin", "2024-10-26T23:30:00", 4) == ["10-27 00:00", "10-27 01:00", "10-27 02:00", "10-27 03:00"]


@pytest.mark.parametrize(
    "expression", ["", "* * * *", "60 * * * *", "* 24 * * *", "5-2 * * * *", "*/0 * * * *", "x * * * *", "0 0 30 2 *", "*-3 * * * *"]
)
def test_what_cannot_be_read_is_a_value_error(expression: str):
    """Also an expression that never comes."""
    with pytest.raises(ValueError, match=r"cron expression|is no|never comes"):
        Cron(expression)


def test_an_unknown_time_zone_is_a_value_error():
    """With an example of a known one."""
    for zone in ("Mars/Olympus", "", None):
        with pytest.raises(ValueError, match="Europe/Berlin"):
            Cron("* * * * *", zone)


@given(
    minutes=st.integers(1, 59),
    hours=st.sampled_from(["*", "2", "1-3", "*/5"]),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"]),
    start=st.datetimes(datetime(2023, 1, 1), datetime(2026, 1, 1)),  # noqa: DTZ001
)
def test_times_always_rise(minutes: int, hours: str, zone: str, start: datetime):
    """Whatever the clocks do, the next time is after the last, and fits the minutes."""
    cron = Cron(f"*/{minutes} {hours} * * *", zone)
    moment = start.replace(tzinfo=UTC)
    for _ in range(20):
        following = cron.after(moment)
        assert following is not None
        assert moment < following < moment + timedelta(days=3)
        moment = following


@contextmanager
def steps() -> Iterator[list[str]]:
    """Give what is called, and gone on with, in the block: it costs as much, on whatever machine."""
    called: list[str] = []

    def note(frame: Any, event: str, _: object) -> None:
        if event.endswith("call"):
            called.append(frame.f_code.co_name)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        yield called
    finally:
        sys.setprofile(before)


@pytest.mark.parametrize("expression", ["* * * * * *", "* * 8-23 * * *", "* 8-23 * * * *"])
def test_what_is_due_each_second_is_found_without_a_look_at_every_second(expression: str):
    """Late in the day too, the next time and the last one: whoever looks for one holds up all else that its process does."""
    late = datetime(2024, 1, 1, 23, 59, tzinfo=UTC)
    plan = At(Cron(expression, "Europe/Berlin"))
    for find in (plan.after, plan.until):
        with steps() as called:
            find(late.timestamp())
        assert len(called) < 50_000


@given(
    minutes=st.sampled_from(["0 *", "0 */7", "*/20 *", "* 30-40"]),
    hours=st.sampled_from(["*", "2", "1-3", "*/6"]),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "Australia/Lord_Howe", "Antarctica/Troll"]),
    start=st.datetimes(datetime(2024, 3, 29), datetime(2024, 4, 8)),  # noqa: DTZ001
)
def test_the_last_time_is_the_one_before_the_next(minutes: str, hours: str, zone: str, start: datetime):
    """From wherever it is looked for between two times, or at one."""
    plan = At(Cron(f"{minutes} {hours} * * *", zone))
    times = [plan.after(start.replace(tzinfo=UTC).timestamp())]
    for _ in range(3):
        times.append(plan.after(times[-1]))
    for one, other in pairwise(times):
        assert [plan.until(moment) for moment in (one, (one + other) / 2, other - 0.001, other)] == [one, one, one, other]
