"""Events as users see them: typed ones that they declare, and what arrives."""

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, cast, dataclass_transform

import msgspec

from cliffracer.errors import SetupError
from cliffracer.wire.subjects import check_literal, check_pattern

T = TypeVar("T")


@dataclass_transform(field_specifiers=(msgspec.field,))
class EventMeta(msgspec.StructMeta):
    """Takes ``subject=`` from the class line; everything else is msgspec's."""

    __subject__: str | None

    def __new__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], *, subject: str | None = None, **options: Any) -> Any:
        """Make the Struct and remember its subject; a bad subject is a `SetupError`."""
        made = super().__new__(cls, name, bases, namespace, **options)
        if subject is not None:
            try:
                made.__subject__ = check_literal(subject)
            except ValueError as error:
                raise SetupError(
                    f"class {name}: {error}. Give it a literal subject, as in class {name}(Event, subject='user.created')."
                ) from None
        return made


class Event(msgspec.Struct, metaclass=EventMeta):
    """An event: the base of typed ones, and the annotation under which a handler is given what arrived.

    ``class UserCreated(Event, subject="user.created")`` types both sides: ``@app.on(UserCreated)`` and
    ``await app.emit(UserCreated(...))``. A keyword-only parameter annotated `Event` gets a `Received`;
    annotated ``Received[UserCreated]``, its payload is one, and editors know its fields.
    """

    __subject__: ClassVar[str | None] = None

    if (
        TYPE_CHECKING
    ):  # a handler's ``event: Event`` is a Received; without annotations, so that typed events may have fields of these names
        data = subject = id = time = source = headers = attempt = sequence = cast("Any", None)


class Received(Event, Generic[T], kw_only=True, weakref=True):
    """One event as it arrived: its payload and what NATS and CloudEvents say about it."""

    data: T
    """The payload, as the handler, or whoever follows, declares it."""
    subject: str
    """The subject that it was emitted on, without ``events.`` or a namespace."""
    id: str = ""
    """The event's id, as `emit` gave it (``ce-id``); what duplicates are told by."""
    time: datetime | None = None
    """When it was emitted (``ce-time``)."""
    source: str = ""
    """The service that emitted it (``ce-source``)."""
    headers: Mapping[str, str] = {}
    """The headers that came with it; look-up ignores case."""
    attempt: int = 1
    """1 at first; counts deliveries of a durable event."""
    sequence: int = 0
    """Its number in the stream; 0 for an event that no stream holds."""


def followed(pattern: str | type[Event], data: Any) -> tuple[str, Any]:
    """Return the subject to listen to and the type of its data; a typed event has both."""
    if isinstance(pattern, str):
        return check_pattern(pattern), data
    if pattern.__subject__ is None:
        raise SetupError(f"{pattern.__name__} has no subject. Give it one: class {pattern.__name__}(Event, subject='user.created').")
    return pattern.__subject__, pattern if data is Any else data


class Rejected(Exception):
    """Raised by a handler that refuses an event or one-way call for good, ``Rejected("no such user")``: it is parked at once.

    A batch handler names those that it refuses, ``Rejected({2: "no such user"})``: they are tried again as declared, the others are done.
    """

    def __init__(self, reasons: Mapping[int, Any] | str) -> None:
        self.final = isinstance(reasons, str)
        """Whether another attempt is pointless."""
        self.reasons: dict[int, str] = {} if isinstance(reasons, str) else {index: str(reason) for index, reason in reasons.items()}
        super().__init__(reasons if isinstance(reasons, str) else "; ".join(f"{index}: {why}" for index, why in self.reasons.items()))

    def __reduce__(self) -> tuple[Any, ...]:
        """Keep the reasons through pickle and copies, which would pass the text in their place."""
        return type(self), (str(self) if self.final else self.reasons,), self.__dict__
