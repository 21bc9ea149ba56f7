"""The streams of a namespace: events, delayed events, durable one-way calls."""

from cliffracer.messaging.configurations import Configuration, StreamConfig
from cliffracer.wire.subjects import Subjects, named_within


def events_stream(subjects: Subjects, *, replicas: int = 1, later: bool = False) -> StreamConfig:
    """Return ``EVENTS``: all events, kept until an operator sets limits; a full stream refuses instead of dropping what it acknowledged.

    Beside the events themselves it takes what is replayed to one function (``cliffracer.replay.<consumer>.<subject>``), and with
    ``later`` those that become due in the stream `later_stream`.
    """
    return StreamConfig(
        name=subjects.stream,
        subjects=[f"{subjects.events}>", f"{replay_prefix(subjects)}>"],
        description="events of all services",
        num_replicas=replicas,
        sources=[_due(subjects)] if later else None,
    )


def sends_stream(subjects: Subjects, *, replicas: int = 1) -> StreamConfig:
    """Return ``SENDS``: one-way calls, each kept until the service that it is for has handled it."""
    return StreamConfig(
        name=named_within(subjects.namespace, "SENDS"),
        subjects=[f"{subjects.prefix}send.>"],
        description="durable one-way calls",
        retention="workqueue",
        num_replicas=replicas,
    )


def later_stream(subjects: Subjects, *, replicas: int = 1) -> StreamConfig:
    """Return ``LATER``: delayed events, which the server itself puts under ``cliffracer.due.>`` when they are due (ADR-51).

    It is a stream beside ``EVENTS`` because the server allows schedules only where a full stream discards old messages;
    this one has no limits, so none is.
    """
    return StreamConfig(
        name=named_within(subjects.namespace, "LATER"),
        subjects=[f"{later_prefix(subjects)}>", f"{subjects.prefix}cliffracer.due.>"],
        description="delayed events",
        discard="old",
        num_replicas=replicas,
        allow_msg_schedules=True,
    )


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
