"""Handling stored events again: one function of an app is given what its subscription would have brought it since some time.

Nothing is published and no consumer moves: the events are read and handled in this process, one after the other.
"""

import difflib
from collections.abc import AsyncIterator
from datetime import datetime

import msgspec

from cliffracer import runtime
from cliffracer.app import App
from cliffracer.errors import NotFound, ServiceError, SetupError
from cliffracer.messaging.claims import Claims, is_claim
from cliffracer.messaging.contract import Delivered, PartlyFailedError, Start
from cliffracer.messaging.events import EventEndpoint
from cliffracer.messaging.reading import Reader
from cliffracer.messaging.streams import begin, distinct
from cliffracer.settings import Settings
from cliffracer.wire.subjects import matches


class Replayed(msgspec.Struct, frozen=True):
    """What became of one event."""

    sequence: int
    """Its number in the stream."""
    subject: str
    time: datetime
    """When it was stored."""
    error: str | None = None
    """What the function raised; None if it returned, or if nothing was tried."""


async def replay(app: App, function: str, settings: Settings, *, start: Start = "all", dry_run: bool = False) -> AsyncIterator[Replayed]:
    """Yield what becomes of each event that is stored now, from ``start`` on, and that a function of the app subscribes to.

    A failure is in what is yielded and stops nothing. ``dry_run`` only says which events there are. `SetupError` if no function
    has that name, `NotFound` if there are no events at all.
    """
    async with runtime.running(app, settings, doors=False) as up:
        service = up.services[0]
        endpoints = _named(service.subscribers(), function, app.name)
        jetstream, subjects = service.jetstream, service.subjects
        asked = [subjects.event(endpoint.record.subject) for endpoint in endpoints]
        if subjects.stream not in await jetstream.stream_names():
            raise NotFound(f"there are no events: no stream {subjects.stream}")
        claims = Claims(jetstream, subjects.namespace)
        async with Reader(jetstream, subjects.stream, distinct(asked), begin(start)) as reader:
            async for delivery in reader.present():
                if not any(matches(pattern, delivery.subject) for pattern in asked):  # only patterns that overlap have such come
                    continue
                error = None if dry_run else await _handled(endpoints[0], delivery, claims)
                yield Replayed(delivery.stream_seq, subjects.event_name(delivery.subject), delivery.stored, error)


def _named(endpoints: list[EventEndpoint], function: str, app: str) -> list[EventEndpoint]:
    found = [endpoint for endpoint in endpoints if endpoint.record.function.__name__ == function]
    if found:
        return found
    names = sorted({endpoint.record.function.__name__ for endpoint in endpoints})
    near = difflib.get_close_matches(function, names, n=1)
    hint = f" Did you mean {near[0]}?" if near else f" Those that do: {', '.join(names) or 'none'}."
    raise SetupError(f"{app} has no function {function} that subscribes to events.{hint}")


async def _handled(endpoint: EventEndpoint, delivery: Delivered, claims: Claims) -> str | None:
    try:
        if not delivery.payload and is_claim(delivery.headers.block):
            delivery.payload = await claims.redeem(delivery.headers.block)
        await (endpoint.handle_batch([delivery]) if endpoint.record.batch else endpoint.handle(delivery))
    except (ServiceError, PartlyFailedError) as error:
        cause = next(iter(error.failures.values())) if isinstance(error, PartlyFailedError) else error.__cause__ or error
        return f"{type(cause).__name__}: {cause}"
    return None
