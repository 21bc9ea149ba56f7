"""Options of decorators, read and checked: a mistake is a `SetupError` that names the function."""

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any, TypedDict, get_origin

from cliffracer.declarations import Function, Subscription, refuse
from cliffracer.durations import moment, seconds
from cliffracer.errors import SetupError
from cliffracer.events import Event
from cliffracer.resilience.rates import Rate
from cliffracer.wire.subjects import check_pattern


class RouteOptions(TypedDict, total=False):
    """What `route` and its siblings take beside the path: editors complete it, type checkers find what is misspelt."""

    status: int | None
    deadline: float | str | None
    limit: int | None
    tags: Iterable[str]
    rate: str | None


STARTS = "new, all, a sequence, a time as 2026-01-31T12:00:00Z, or how long ago as 1h"
_DURABLE = ("ordered", "retry", "batch", "start", "once")  # what a stream is needed for
_PAIRS = (("ordered", "batch", "events in order come one by one"),)


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
    except (TypeError, ValueError) as error:
        raise refuse(function, str(error), "Correct it.") from None


def seconds_of(function: Function, value: float | str | None) -> float | None:
    try:
        return None if value is None else seconds(value)
    except (TypeError, ValueError) as error:
        raise refuse(function, str(error), "Correct it.") from None


def waits_of(function: Function, retry: Any) -> tuple[float, ...]:
    """Return the seconds before each further attempt."""
    if isinstance(retry, str) or not isinstance(retry, Iterable):
        raise refuse(function, f"retry={retry!r} says no times", "Give one for each further attempt, as in retry=(1, 5, '2m').")
    return tuple(seconds_of(function, wait) or 0.0 for wait in retry)


def positive(function: Function, name: str, value: int | None) -> int | None:
    if value is not None and (not isinstance(value, int) or value is True):
        raise refuse(function, f"{name}={value!r} is no whole number", "Use 1 or more, or leave it out.")
    if value is not None and value < 1:
        raise refuse(function, f"{name}={value} lets nothing through", "Use 1 or more, or leave it out.")
    return value


def deadline_of(function: Function, given: float | str | None) -> float | None:
    """Return a deadline in seconds; `SetupError` for one that every call would be past."""
    found = seconds_of(function, given)
    if found == 0:
        raise refuse(function, f"deadline={given!r} leaves no time for anything", "Give more than 0, or leave it out.")
    return found


def rate_of(function: Function, text: str | None) -> Rate | None:
    try:
        return None if text is None else Rate.read(str(text))
    except ValueError as error:
        raise refuse(function, str(error), "Correct it.") from None


def unrated(function: Function, rate: Any) -> None:
    """Raise SetupError for a rate of what nobody calls."""
    if rate is not None:
        cure = "Leave it out: its own times say how often it runs."
        raise refuse(function, f"rate={rate!r} is of calls, and nobody calls a timer or a leader", cure)


def missed_of(function: Function, missed: Any) -> Any:
    if missed not in {"once", "skip"}:
        raise refuse(function, f"missed {missed!r} is none", "Use 'once' or 'skip'.")
    return missed


def check_start(function: Function, start: Any) -> Any:
    if type(start) is int and start < 1:
        raise refuse(function, f"start={start} is no sequence: they begin at 1", f"Give {STARTS}.")
    if type(start) is int or start in ("new", "all"):
        return start
    try:
        if not isinstance(start, str | datetime | timedelta):
            raise ValueError  # noqa: TRY301, TRY004 - one answer to all of them
        moment(start)
    except ValueError:
        raise refuse(function, f"start={start!r} cannot be read", f"Give {STARTS}.") from None
    return start


def check_delivery(record: Subscription) -> Subscription:
    """Return a subscription whose options go together; `SetupError` rather than one of them ignored in silence."""
    defaults = Subscription(record.function, record.subject)
    given = {name for name in _DURABLE if getattr(record, name) != getattr(defaults, name)}
    if not record.durable and given:
        manner, names = "each=True" if record.each else "durable=False", ", ".join(sorted(given))
        raise refuse(record.function, f"{names} needs a durable subscription, and {manner} makes it none", "Leave out one or the other.")
    if record.batch is None and record.within != defaults.within:
        raise refuse(record.function, "within is how long a batch is waited for, and there is none", "Add batch=100, or leave it out.")
    for one, other, why in _PAIRS:
        if {one, other} <= given:
            raise refuse(record.function, f"{one} and {other} exclude each other: {why}", "Leave one of them out.")
    if record.group is not None and record.each:
        problem = "a group shares its events, and each=True hands every replica its own copy"
        raise refuse(record.function, problem, "Leave out one or the other.")
    if record.rate is not None and record.each:
        problem = "a rate is of all replicas together, and each=True hands every one its own copy"
        raise refuse(record.function, problem, "Leave out one or the other.")
    if record.rate is not None and record.rate.per == "address":
        raise refuse(record.function, "events come from no address", "Write the rate 'per identity', or of everybody.")
    return record


def check_part(app: str, given: Any, wanted: type | None = None) -> None:
    """Raise SetupError, which says what to write, if ``given`` is no group (``wanted``), or is no part that makes one."""
    if isinstance(given, wanted) if wanted else hasattr(given, "group") and not isinstance(given, type):
        return
    if isinstance(given, type):
        raise SetupError(f"{app!r} takes what a class makes, not the class. Write {given.__name__}(...), with parentheses.")
    noun = type(given).__name__ + (f" {given.name!r}" if hasattr(given, "name") else "")
    if wanted is None:
        raise SetupError(f"{app!r} can use a part such as Accounts(), and {noun} is none. A Group is taken over by include.")
    cure = f"Write app.use({noun}(...))." if hasattr(given, "group") else "Another service of its own is run beside it."
    raise SetupError(f"{app!r} can include a Group, and {noun} is none. {cure}")
