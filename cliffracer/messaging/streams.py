"""The streams of a namespace: events, delayed events, durable one-way calls, timers; and what a consumer takes from them."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from cliffracer.durations import moment
from cliffracer.errors import SetupError
from cliffracer.messaging.broker import Start
from cliffracer.messaging.configurations import NANOSECONDS, Configuration, StreamConfig, distinct
from cliffracer.options import STARTS
from cliffracer.wire.subjects import Subjects, named_within


class Source(msgspec.Struct, frozen=True):
    """What a consumer takes: of which stream, which subjects."""

    stream: StreamConfig
    filters: list[str]
    replay: str = ""
    """How the subjects of what is replayed to this consumer begin."""
    only: tuple[str, ...] = ()
    """What is asked for of it; empty: all that the filters let through."""


def durable_name(subjects: Subjects, service: str, function: str, group: str | None = None) -> str:
    """Return the name of a function's consumer: the same in every replica and after every restart."""
    wanted = group or f"{service}-{function}"
    return named_within(subjects.namespace, re.sub(r"[^A-Za-z0-9_-]", "_", wanted))


def events_of(subjects: Subjects, consumer: str, patterns: Sequence[str]) -> Source:
    """Return the events on some patterns, and what is replayed to the consumer."""
    replay = f"{replay_prefix(subjects)}{consumer}."
    only = tuple(subjects.event(pattern) for pattern in patterns)
    return Source(events_stream(subjects), filters_of(subjects, consumer, patterns), replay, only)


def filters_of(subjects: Subjects, consumer: str, patterns: Iterable[str]) -> list[str]:
    """Return the filters of a consumer of events on some patterns, in whichever order they are given."""
    return [*distinct(sorted(subjects.event(pattern) for pattern in patterns)), f"{replay_prefix(subjects)}{consumer}.>"]


def sends_of(subjects: Subjects, service: str) -> Source:
    """Return the one-way calls of a service."""
    return Source(sends_stream(subjects), [subjects.send(service, "*")])


def timer_of(subjects: Subjects, consumer: str) -> Source:
    """Return the ticks of one timer."""
    return Source(timers_stream(subjects), [timer_subject(subjects, consumer)])


def begin(start: Start) -> dict[str, Any]:
    """Return the fields of a consumer that say where it begins."""
    if start in ("new", "all"):
        return {"deliver_policy": start}
    if isinstance(start, int):
        return {"deliver_policy": "by_start_sequence", "opt_start_seq": max(1, start)}
    try:
        since = moment(start)
    except ValueError:
        raise SetupError(f"start={start!r} cannot be read: {STARTS}.") from None
    return {"deliver_policy": "by_start_time", "opt_start_time": since.isoformat().replace("+00:00", "Z")}


def events_stream(subjects: Subjects, *, later: bool = False) -> StreamConfig:
    """Return ``EVENTS``: all events, kept until an operator sets limits; a full stream refuses instead of dropping what it acknowledged.

    Beside the events themselves it takes what is replayed to one function (``cliffracer.replay.<consumer>.<subject>``), and with
    ``later`` those that become due in the stream `later_stream`.
    """
    return StreamConfig(
        name=subjects.stream,
        subjects=[f"{subjects.events}>", f"{replay_prefix(subjects)}>"],
        description="events of all services",
        sources=[_due(subjects)] if later else None,
    )


def sends_stream(subjects: Subjects) -> StreamConfig:
    """Return ``SENDS``: one-way calls, each kept until the service that it is for has handled it."""
    return StreamConfig(
        name=named_within(subjects.namespace, "SENDS"),
        subjects=[f"{subjects.prefix}send.>"],
        description="durable one-way calls",
        retention="workqueue",
    )


def later_stream(subjects: Subjects) -> StreamConfig:
    """Return ``LATER``: delayed events, which the server itself puts under ``cliffracer.due.>`` when they are due (ADR-51).

    It is a stream beside ``EVENTS`` because the server allows schedules only where a full stream discards old messages;
    this one has no limits, so none is.
    """
    return StreamConfig(
        name=named_within(subjects.namespace, "LATER"),
        subjects=[f"{later_prefix(subjects)}>", f"{subjects.prefix}cliffracer.due.>"],
        description="delayed events",
        discard="old",
        allow_msg_schedules=True,
        republish={"src": f"{subjects.prefix}cliffracer.due.>", "dest": subjects.came(">")},
    )


def timers_stream(subjects: Subjects, *, schedules: bool = False) -> StreamConfig:
    """Return ``TIMERS``: the ticks of all timers, which tidy up behind themselves; with ``schedules``, also those that are not due yet."""
    return StreamConfig(
        name=named_within(subjects.namespace, "TIMERS"),
        subjects=[f"{subjects.prefix}cliffracer.timer.>"],
        description="ticks of timers",
        duplicate_window=600 * NANOSECONDS,
        discard="old" if schedules else "new",  # the server wants it; without limits nothing is
        allow_msg_schedules=schedules or None,
    )


def timer_subject(subjects: Subjects, consumer: str) -> str:
    """Return the subject of one timer's ticks."""
    return f"{subjects.prefix}cliffracer.timer.{consumer}"


def tick_subject(subjects: Subjects, consumer: str, due: float) -> str:
    """Return the subject under which a tick waits until it is due."""
    return f"{timer_subject(subjects, consumer)}.{due * 1000:.0f}"


def _due(subjects: Subjects) -> Configuration:
    transform = {"src": f"{subjects.prefix}cliffracer.due.>", "dest": f"{subjects.events}>"}
    return {"name": named_within(subjects.namespace, "LATER"), "subject_transforms": [transform]}


def due_subject(subjects: Subjects, subject: str) -> str:
    """Return where an event goes when it is due, to be taken over into ``EVENTS`` under its own subject."""
    return f"{subjects.prefix}cliffracer.due.{subjects.event_name(subject)}"


def later_prefix(subjects: Subjects) -> str:
    """Return how the subjects of delayed events begin; the event's id follows."""
    return f"{subjects.prefix}cliffracer.later."


def replay_prefix(subjects: Subjects) -> str:
    """Return how subjects of replayed events begin; the consumer's name follows, then the event's subject."""
    return f"{subjects.prefix}cliffracer.replay."
