"""The closed set of failures that cross a service boundary.

    CliffracerError
    ├── SetupError            a mistake in a declaration or a setting: raised before anything is served
    └── ServiceError          raised in a handler, received by its caller, whatever the transport
        ├── InvalidInput      400   the arguments do not fit; ``errors`` lists every one of them
        ├── Unauthenticated   401   nobody, or an identity that does not verify
        ├── Forbidden         403   somebody, who may not do this
        ├── NotFound          404   the thing named is not there
        ├── Conflict          409   it contradicts the present state: a duplicate, a stale version
        ├── TooLarge          413   body, message or header over the limit
        ├── Overloaded        429   come back later (``retry_after`` seconds)
        ├── Cancelled         499   the caller gave up
        ├── Internal          500   a defect; its text stays in the log of the service (``error_id``)
        ├── Unavailable       503   nobody serves it now, or something it needs is away
        └── DeadlineExceeded  504   the time budget of the call is spent

The codes are those of HTTP where HTTP has one (RFC 9110), 499 as nginx uses it.
"""

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any, ClassVar

import msgspec

_SHOWN = 10  # reasons of one invalid input
NOT_PERMITTED = "nats_permissions"
"""The reason of a `Forbidden` from NATS' own permissions: not the caller's fault, who gets an `Internal`."""


class CliffracerError(Exception):
    """Anything that this package raises on purpose."""


class SetupError(CliffracerError):
    """A mistake in a declaration or a setting; the message says what, where, and what to do."""


class ServiceError(CliffracerError):
    """A failure with a code that keeps its class across RPC, events and HTTP.

    ``message`` and ``details`` are sent to the caller, so neither may hold a secret. ``details`` must be encodable as JSON.
    """

    code: ClassVar[int] = 500
    """The code of the error reply over NATS."""
    status: ClassVar[int] = 500
    """The status of the answer over HTTP."""
    title: ClassVar[str] = "Internal Error"
    retryable: ClassVar[bool] = False
    """Whether the same call may succeed a moment later."""

    @cached_property
    def message(self) -> str:
        """What it says; the title, of a subclass whose own ``__init__`` does not call this one's."""
        return self.title

    @cached_property
    def details(self) -> dict[str, Any]:
        """What else it tells, by name."""
        return {}

    def __init__(self, message: str = "", /, **details: Any) -> None:
        given: Any = message  # such as an id, or another exception: NotFound(7)
        self.message = (given if isinstance(given, str) else "" if given is None else str(given)) or self.title
        self.details = details
        super().__init__(self.message)

    def __reduce__(self) -> tuple[Any, ...]:
        """Keep everything through pickle and copies without calling the class, since a subclass may take other arguments."""
        return _revived, (type(self), self.args), self.__dict__


class FieldError(msgspec.Struct, frozen=True):
    """One reason why an input was refused."""

    path: str
    """Where: ``email``, ``items[3].price``; empty for the whole input."""
    message: str
    """Why, in words that may be shown to the caller."""


class InvalidInput(ServiceError):
    """The arguments do not fit the declaration; ``errors`` lists all of them as ``{path, message}``."""

    code = 400
    status = 422
    title = "Invalid Input"

    def __init__(self, message: str = "", /, *, errors: Iterable[FieldError | Mapping[str, str]] = (), **details: Any) -> None:
        found = [e if isinstance(e, FieldError) else msgspec.convert(e, FieldError) for e in errors]
        super().__init__(message, errors=[{"path": e.path, "message": e.message} for e in found], **details)

    @property
    def errors(self) -> list[dict[str, str]]:
        """All reasons, each ``{"path": ..., "message": ...}``."""
        listed: list[dict[str, str]] = self.details.setdefault("errors", [])
        return listed

    def __str__(self) -> str:
        """Return the message and every reason: what a traceback and a log show."""
        if [e["message"] for e in self.errors] == [self.message]:
            return self.message  # which names the path by itself
        reasons = "; ".join(f"{e['path']}: {e['message']}" if e["path"] else e["message"] for e in self.errors[:_SHOWN])
        more = f"; {len(self.errors) - _SHOWN} more" if len(self.errors) > _SHOWN else ""
        return f"{self.message}: {reasons}{more}" if reasons and reasons != self.message else self.message


class Unsendable(InvalidInput, ValueError):
    """A subject, name or header value contains what it must not, so nothing was sent. It usually comes from data."""

    def __init__(self, message: str = "", /, *, errors: Iterable[FieldError | Mapping[str, str]] = (), **details: Any) -> None:
        super().__init__(message, errors=errors or [{"path": "", "message": message}], **details)


class Unauthenticated(ServiceError):
    """No identity, or one that does not verify (RFC 6750 ``invalid_token``)."""

    code = status = 401
    title = "Unauthenticated"


class Forbidden(ServiceError):
    """The identity is known and may not do this."""

    code = status = 403
    title = "Forbidden"


class NotFound(ServiceError):
    """The thing that the arguments name is not there."""

    code = status = 404
    title = "Not Found"


class Conflict(ServiceError):
    """The request contradicts the present state: a duplicate, a stale version."""

    code = status = 409
    title = "Conflict"


class TooLarge(ServiceError):
    """A body, message or header is over its limit."""

    code = status = 413
    title = "Content Too Large"


class Overloaded(ServiceError):
    """Too much at once; the call was not started and may be repeated after ``retry_after`` seconds."""

    code = status = 429
    title = "Overloaded"
    retryable = True

    def __init__(self, message: str = "", /, *, retry_after: float = 1.0, **details: Any) -> None:
        seconds = msgspec.convert(retry_after, float)  # a peer may have sent anything
        super().__init__(message, retry_after=max(0.0, seconds), **details)

    @property
    def retry_after(self) -> float:
        """Seconds to wait before another attempt."""
        return float(self.details.setdefault("retry_after", 1.0))


class Cancelled(ServiceError):
    """The caller gave up, so the work was stopped."""

    code = status = 499
    title = "Cancelled"


class Internal(ServiceError):
    """A defect in the service: its text never leaves it; ``error_id`` finds it in the log."""

    code = status = 500
    title = "Internal Error"
    said: str = ""
    """For the log only: the message of the server that refused something. Never sent."""
    statement: str = ""
    """For the log only: the SQL, without the values of parameters."""

    @property
    def error_id(self) -> str | None:
        """The id that the service logged with the traceback."""
        found = self.details.get("error_id")
        return found if isinstance(found, str) else None


class Unavailable(ServiceError):
    """Nobody serves this now, or something that it needs is away.

    It was not done, unless ``details["outcome"]`` is ``unknown``: somebody had begun, and broke off.
    """

    code = status = 503
    title = "Unavailable"
    retryable = True


class DeadlineExceeded(ServiceError):
    """The time budget of the call is spent; repeat it only if it is idempotent."""

    code = status = 504
    title = "Deadline Exceeded"


BY_CODE: dict[int, type[ServiceError]] = {
    kind.code: kind
    for kind in (
        InvalidInput, Unauthenticated, Forbidden, NotFound, Conflict, TooLarge,
        Overloaded, Cancelled, Internal, Unavailable, DeadlineExceeded,
    )
}  # fmt: skip


def rebuild(code: int, message: str, details: dict[str, Any]) -> ServiceError:
    """Return the error that a peer sent, as the class of its code; an unknown code becomes `Internal`."""
    kind = BY_CODE.get(code, Internal)
    try:
        return kind(message, **{str(key): value for key, value in details.items()})
    except (TypeError, ValueError):  # a peer's details need not fit ours: keep the class and the text
        return kind(message)


def _revived(kind: type[ServiceError], args: tuple[Any, ...]) -> ServiceError:
    return kind.__new__(kind, *args)
