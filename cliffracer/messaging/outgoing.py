"""Durable messages of one app on their way out: events and one-way calls, each stored in its stream before the caller goes on."""

from collections.abc import Callable, Mapping
from typing import Any

from cliffracer.calling import Emission
from cliffracer.messaging.bus import Bus
from cliffracer.messaging.ensuring import ensure_stream
from cliffracer.messaging.jetstream import JetStream
from cliffracer.messaging.publishing import Publisher
from cliffracer.messaging.streams import events_stream, sends_stream
from cliffracer.wire.subjects import Subjects

Open = Callable[[], Any]


class Outgoing:
    """Publishes with acknowledgement; the streams are made when the first message finds none."""

    def __init__(self, bus: Bus, subjects: Subjects) -> None:
        self.jetstream = JetStream(bus)
        self._subjects = subjects
        self._events = Publisher(self.jetstream, recover=self._ensure_events)
        self._sends = Publisher(self.jetstream, recover=self._ensure_sends)

    async def store(self, emission: Emission, subject: str, payload: bytes, headers: Mapping[str, str], *, timeout: float) -> None:
        """Return once the message is stored; `Unavailable` or `DeadlineExceeded` if it was not, or may not have been, in time."""
        publisher = self._events if subject.startswith(self._subjects.events) else self._sends
        await publisher.publish(subject, payload, headers, timeout=timeout)

    async def _ensure_events(self) -> None:
        await ensure_stream(self.jetstream, events_stream(self._subjects), namespace=self._subjects.namespace)

    async def _ensure_sends(self) -> None:
        await ensure_stream(self.jetstream, sends_stream(self._subjects), namespace=self._subjects.namespace)
