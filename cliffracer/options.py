"""Options of decorators, read and checked: a mistake is a `SetupError` that names the function."""

from collections.abc import Callable
from typing import get_origin

from cliffracer.declarations import Function, refuse
from cliffracer.durations import seconds
from cliffracer.events import Event
from cliffracer.wire.subjects import check_pattern


def event_subject(function: Function, subject: str | type[Event]) -> str:
    if isinstance(subject, str):
        return checked(function, check_pattern, subject)
    if isinstance(subject, type) and get_origin(subject) is None and issubclass(subject, Event) and subject.__subject__:
        return subject.__subject__
    raise refuse(
        function,
        f"{subject!r} names no event",
        "Give a subject such as 'user.created', or a class with one: class X(Event, subject='...').",
    )


def checked(function: Function, check: Callable[[str], str], text: str) -> str:
    try:
        return check(text)
    except ValueError as error:
        raise refuse(function, str(error), "Correct it.") from None


def seconds_of(function: Function, value: float | str | None) -> float | None:
    try:
        return None if value is None else seconds(value)
    except ValueError as error:
        raise refuse(function, str(error), "Correct it.") from None


def positive(function: Function, name: str, value: int | None) -> int | None:
    if value is not None and value < 1:
        raise refuse(function, f"{name}={value} lets nothing through", "Use 1 or more, or leave it out.")
    return value
