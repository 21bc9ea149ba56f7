"""What an app declares to do to others: what it calls, emits and follows. It is enforced, and permissions are derived from it.

Handlers are declared; what their bodies do cannot be inspected. ``App("orders", calls=["inventory.reserve"],
emits=[OrderChanged])`` declares it. What is left out (None) is not checked.
"""

from collections.abc import Callable, Iterable
from typing import Any, Literal, get_args

import msgspec

from cliffracer.calling import Emission
from cliffracer.declarations import names_of
from cliffracer.errors import SetupError
from cliffracer.events import Event
from cliffracer.wire.subjects import check_name, check_pattern, matches

Use = Literal["delays", "large", "locks", "rooms"]
"""``app.emit(delay=...)`` and ``app.cancel``; payloads over the server's limit; ``app.lock``; ``app.sockets``."""
USES: tuple[str, ...] = get_args(Use)
Kind = Literal["calls", "emits", "follows", "uses"]
_REMEMBERED = 1000  # subjects of events that were allowed
_WORDS = {"calls": "call", "emits": "emit", "follows": "follow", "uses": "use"}


class Bounds(msgspec.Struct, frozen=True):
    """The declaration: patterns of ``service.method`` and of events, and words for ``uses``; None for what is left out."""

    calls: tuple[str, ...] | None = None
    emits: tuple[str, ...] | None = None
    follows: tuple[str, ...] | None = None
    uses: tuple[str, ...] | None = None

    def allow(self, app: str, kind: Kind, what: str) -> None:
        """Raise `SetupError` for what this app has not declared."""
        said: tuple[str, ...] | None = getattr(self, kind)
        if said is None or what in said or (kind != "uses" and any(_covers(pattern, what) for pattern in said)):
            return
        raise SetupError(f"{app} does not say that it will {_WORDS[kind]} {what}. Add it: App({app!r}, {kind}=[..., {what!r}]).")


class Said:
    """The declaration as it was given, read when first needed: functions and groups may be declared after the app."""

    def __init__(
        self,
        app: str,
        address: Callable[[Any], str],
        more: Callable[[], Iterable[str | type[Event]]],
        *,
        calls: Iterable[Any] | None,
        emits: Iterable[str | type[Event]] | None,
        follows: Iterable[str | type[Event]] | None,
        uses: Iterable[Use] | None,
    ) -> None:
        """Store it unread. ``address`` returns the ``service.method`` of an imported function, ``more`` what groups emit."""
        self._app = app
        self._address = address
        self._more = more
        given = {"calls": calls, "emits": emits, "follows": follows, "uses": uses}
        self._given = {kind: None if what is None else names_of(what) for kind, what in given.items()}
        self._bounds: Bounds | None = None
        self._emitted: set[str] = set()
        self.call = None if calls is None else self._call
        """Raises for a call of a method that is not declared; None where nothing is declared."""
        self.emit = None if emits is None and uses is None else self._emit
        """Raises for an event, or a delay, that is not declared; None where nothing is declared."""

    def allow(self, kind: Kind, what: str) -> None:
        """Raise `SetupError` for what is not declared, where anything is."""
        if self._given[kind] is not None:
            (self._bounds or self.read()).allow(self._app, kind, what)

    def read(self) -> Bounds:
        """Return the declaration, read and checked; `SetupError` for a bad word."""
        given = self._given
        emits = None if given["emits"] is None else [*given["emits"], *self._more()]
        try:
            self._bounds = Bounds(
                calls=_each(given["calls"], lambda one: _call(one, self._address)),
                emits=_each(emits, _event),
                follows=_each(given["follows"], _event),
                uses=_each(given["uses"], _use),
            )
        except (TypeError, ValueError) as error:
            raise SetupError(f"App({self._app!r}): {error}.") from None
        return self._bounds

    def _call(self, service: str, method: str) -> None:
        self.allow("calls", f"{service}.{method}")

    def _emit(self, emission: Emission) -> None:
        if emission.subject not in self._emitted:
            self.allow("emits", emission.subject)
            if len(self._emitted) < _REMEMBERED:
                self._emitted.add(emission.subject)
        if emission.delay is not None or emission.at is not None:
            self.allow("uses", "delays")


def _each(given: Iterable[Any] | None, read: Callable[[Any], str]) -> tuple[str, ...] | None:
    return None if given is None else tuple(read(one) for one in given)


def _call(given: Any, address: Callable[[Any], str]) -> str:
    if not isinstance(given, str):
        if not callable(given):
            raise TypeError(f"calls={given!r} names no method: write 'service.method', or the function itself")
        return address(given)
    service, dot, method = given.partition(".")
    check_name(service)
    if dot and method != "*":
        check_name(method)
    return f"{service}.{method or '*'}"


def _event(given: Any) -> str:
    subject = given if isinstance(given, str) else getattr(given, "__subject__", None)
    if subject is None:
        raise ValueError(f"{getattr(given, '__name__', given)!r} has no subject: name one, or give class X(Event, subject='...')")
    return check_pattern(subject)


def _use(given: str) -> str:
    if given not in USES:
        raise ValueError(f"uses={given!r} is none: it can be {', '.join(USES)}")
    return given


def _covers(pattern: str, what: str) -> bool:
    """Say whether a pattern covers ``what``, which may be a pattern too."""
    return matches(pattern, what) and (pattern.endswith(">") or not what.endswith(">"))
