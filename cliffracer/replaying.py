"""Replays stored events: one function of an app gets what its subscription has delivered since some time.

Nothing is published and no consumer moves: the events are read and handled in this process, one after the other.
"""

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import msgspec

from cliffracer import runtime
from cliffracer.app import App
from cliffracer.errors import ServiceError, SetupError
from cliffracer.messaging.broker import Backend, Delivered, PartlyFailedError, Start
from cliffracer.messaging.deadletters import cause, in_one_line
from cliffracer.messaging.events import EventEndpoint
from cliffracer.nearest import nearest
from cliffracer.settings import Settings


class Replayed(msgspec.Struct, frozen=True):
    """The outcome for one event."""

    sequence: int
    """Its number in the stream."""
    subject: str
    time: datetime
    """When it was stored."""
    error: str | None = None
    """What the function raised; None if it returned, or if nothing was tried."""


async def replay(app: App, function: str, settings: Settings, *, start: Start = "all", dry_run: bool = False) -> AsyncIterator[Replayed]:
    """Yield the outcome for each stored event, from ``start`` on, that a function of the app subscribes to.

    A failure is part of the outcome and stops nothing. ``dry_run`` only lists the events. `SetupError` if no function
    has that name, `NotFound` if there are no events at all, or their stream is deleted meanwhile.
    """
    async with runtime.running(app, settings, doors=False) as up:
        service = up.services[0]
        endpoints = _named(service.subscribers(), function, app.name)
        backend, patterns = service.backend, [endpoint.record.subject for endpoint in endpoints]
        async for delivery in backend.stored(patterns, start):
            error = None if dry_run else await _handled(endpoints[0], delivery, backend)
            stored = datetime.fromtimestamp(delivery.timestamp / 1e9, UTC)
            yield Replayed(delivery.stream_seq, service.subjects.event_name(delivery.subject), stored, error)


def _named(endpoints: list[EventEndpoint], function: str, app: str) -> list[EventEndpoint]:
    found = [endpoint for endpoint in endpoints if endpoint.record.function.__name__ == function]
    if found:
        return found
    names = sorted({endpoint.record.function.__name__ for endpoint in endpoints})
    near = nearest(function, names)
    hint = f" Did you mean {near}?" if near else f" Those that do: {', '.join(names) or 'none'}."
    raise SetupError(f"{app} has no function {function} that subscribes to events.{hint}")


async def _handled(endpoint: EventEndpoint, delivery: Delivered, backend: Backend) -> str | None:
    try:
        await backend.whole(delivery)
        await (endpoint.handle_batch([delivery]) if endpoint.record.batch else endpoint.handle(delivery))
    except PartlyFailedError as error:
        return in_one_line(cause(next(iter(error.failures.values()))))
    except ServiceError as error:
        return in_one_line(cause(error))
    return None
