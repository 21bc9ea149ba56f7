"""Short ways to publish and to consume."""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from cliffracer.messaging.consumption import Consumption
from cliffracer.messaging.ensuring import ensure_stream
from cliffracer.messaging.jetstream import JetStream
from cliffracer.messaging.ordered import Ordered
from cliffracer.messaging.publishing import Publisher
from cliffracer.messaging.singleflight import SingleFlight
from cliffracer.messaging.streams import events_stream
from cliffracer.wire.subjects import Subjects


def publisher(jetstream: JetStream, subjects: Subjects) -> Publisher:
    """A publisher of events that makes their stream if it is absent."""
    return Publisher(jetstream, recover=SingleFlight(lambda: ensure_stream(jetstream, events_stream(subjects))))


def asked_of(jetstream: JetStream, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, int]]:
    """The requests for messages that are made from now on, each added when it is."""
    asked: list[dict[str, int]] = []
    send = jetstream.bus.publish

    def sending(subject: bytes, payload: bytes, *rest: Any, **options: Any) -> None:
        if b".MSG.NEXT." in subject:
            asked.append(msgspec.json.decode(payload))
        send(subject, payload, *rest, **options)

    monkeypatch.setattr(jetstream.bus, "publish", sending)
    return asked


class Running:
    """A consumption that is drained at the end of its block."""

    def __init__(self, consumption: Consumption) -> None:
        self.consumption = consumption

    async def __aenter__(self) -> Consumption:
        await self.consumption.start()
        return self.consumption

    async def __aexit__(self, *_: object) -> None:
        await self.consumption.drain(5.0)


def consuming(
    jetstream: JetStream,
    subjects: Subjects,
    handle: Callable[[Any], Awaitable[object]],
    pattern: str | list[str] = "user.created",
    function: str = "welcome",
    **options: Any,
) -> Running:
    """Consume events by a function of the service ``users``."""
    kind = Ordered if options.pop("ordered", False) else Consumption
    return Running(kind(jetstream, subjects, "users", function, pattern, handle, **options))
