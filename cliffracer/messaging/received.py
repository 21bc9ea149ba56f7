"""An event off the wire as the `Received` that handlers and feeds get."""

from typing import Any

from cliffracer.events import Received
from cliffracer.wire.cloudevents import attributes
from cliffracer.wire.headers import Headers
from cliffracer.wire.subjects import Subjects


def received_from(
    subjects: Subjects, subject: bytes | str, block: bytes | None, data: Any, *, attempt: int = 1, sequence: int = 0
) -> Received[Any]:
    """Return the event, with its CloudEvents attributes from the headers (empty where the sender left them out)."""
    name = subjects.event_name(subject if isinstance(subject, str) else subject.decode("utf-8", "replace"))
    headers = Headers(block)
    event = attributes(headers)
    return Received(
        data=data, subject=name, id=event.id, time=event.time, source=event.source, headers=headers, attempt=attempt, sequence=sequence
    )


class Arrival:
    """An event that has arrived, not parsed yet: most handlers only need its payload, and the rest costs five times as much."""

    __slots__ = ("_attempt", "_block", "_data", "_sequence", "_subject", "_subjects")

    def __init__(  # noqa: PLR0917 - made in one place
        self, subjects: Subjects, subject: bytes | str, block: bytes | None, data: Any, attempt: int, sequence: int
    ) -> None:
        self._subjects = subjects
        self._subject = subject
        self._block = block
        self._data = data
        self._attempt = attempt
        self._sequence = sequence

    def received(self) -> Received[Any]:
        """Return the `Received` for a handler that asks for `Event`."""
        return received_from(self._subjects, self._subject, self._block, self._data, attempt=self._attempt, sequence=self._sequence)
