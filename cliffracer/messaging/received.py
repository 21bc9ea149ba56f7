"""An event off the wire as the `Received` that handlers and feeds get."""

from typing import Any

from cliffracer.events import Received
from cliffracer.wire.cloudevents import attributes
from cliffracer.wire.headers import Headers
from cliffracer.wire.subjects import Subjects


def received_from(
    subjects: Subjects, subject: bytes | str, block: bytes | None, data: Any, *, attempt: int = 1, sequence: int = 0
) -> Received[Any]:
    """Return what arrived, its CloudEvents attributes read from the headers (empty where a peer left them out)."""
    name = subjects.event_name(subject if isinstance(subject, str) else subject.decode("utf-8", "replace"))
    headers = Headers(block)
    event = attributes(headers)
    return Received(
        data=data, subject=name, id=event.id, time=event.time, source=event.source, headers=headers, attempt=attempt, sequence=sequence
    )
