"""The streams of a namespace: events, and durable one-way calls."""

from cliffracer.messaging.configurations import StreamConfig
from cliffracer.wire.subjects import Subjects, named_within


def events_stream(subjects: Subjects, *, version: tuple[int, ...], replicas: int = 1) -> StreamConfig:
    """Return ``EVENTS``: all events, kept until an operator sets limits; a full stream refuses instead of dropping what it acknowledged.

    Beside the events themselves it takes what is replayed to one function (``cliffracer.replay.<consumer>.<subject>``).
    """
    return StreamConfig(
        name=subjects.stream,
        subjects=[f"{subjects.events}>", f"{replay_prefix(subjects)}>"],
        description="events of all services",
        num_replicas=replicas,
        allow_msg_ttl=True if version >= (2, 11) else None,
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


def replay_prefix(subjects: Subjects) -> str:
    """Return how subjects of replayed events begin; the consumer's name follows, then the event's subject."""
    return f"{subjects.prefix}cliffracer.replay."
