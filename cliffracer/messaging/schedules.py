"""Message schedules of the server (ADR-51): it stores a message on another subject when it is due, by its own clock."""

from collections.abc import Mapping
from datetime import UTC, datetime

from cliffracer.messaging.jetstream import JetStream
from cliffracer.wire.headers import MESSAGE_ID

SINCE = (2, 12)
"""The first version of nats-server with schedules."""
_SCHEDULE, _TARGET, _AT = "Nats-Schedule", "Nats-Schedule-Target", "@at "


def keeps_schedules(jetstream: JetStream) -> bool:
    """Say whether the server has schedules."""
    return jetstream.version >= SINCE


def scheduled(at: float, target: str) -> dict[str, str]:
    """Return the headers of a message that is to be stored on ``target`` at a POSIX time; one of the past at once."""
    return {_SCHEDULE: f"{_AT}{datetime.fromtimestamp(at, UTC).isoformat().replace('+00:00', 'Z')}", _TARGET: target}


def read_schedule(headers: Mapping[str, str]) -> tuple[datetime, str] | None:
    """Return when a message is due, and its subject then; None for a schedule that is not a single moment, which we never write."""
    try:
        due = datetime.fromisoformat(headers.get(_SCHEDULE, "").removeprefix(_AT))
    except ValueError:
        return None
    return (due if due.tzinfo else due.replace(tzinfo=UTC)), headers.get(_TARGET, "")


def without_schedule(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers of what is stored at once instead: without what the server put there, or goes by."""
    return {name: value for name, value in headers.items() if name == MESSAGE_ID or not name.startswith("Nats-")}
