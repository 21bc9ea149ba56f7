"""The decorators that `App` and `Group` share: each turns a function into a record and gives the function back."""

import inspect
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType
from typing import Any, Literal, TypeVar, get_origin, overload
from weakref import WeakKeyDictionary, WeakSet

import msgspec

from cliffracer import declarations
from cliffracer.cron import Cron
from cliffracer.declarations import Function, HealthCheck, Provider, Record, Route, Rpc, Socket, Subscription, Timer, Value, refuse, where
from cliffracer.durations import seconds
from cliffracer.errors import SetupError
from cliffracer.events import Event
from cliffracer.shapes import Shape, check_path, claim, shape_of, socket_shape
from cliffracer.signature import Signature, check_event, check_none, read, yielded
from cliffracer.wire.subjects import check_name, check_pattern

F = TypeVar("F", bound=Callable[..., Any])
E = TypeVar("E", bound=Exception)
ADDRESSES: WeakKeyDictionary[Any, list[tuple["Scope", str]]] = WeakKeyDictionary()
"""Where each function that was declared with ``rpc`` can be called; how ``app.call(function)`` finds it."""


class Declared(msgspec.Struct, frozen=True):
    """A record with what its function's signature promises; ``signature`` is None while an annotation is not defined yet."""

    record: Record
    signature: Signature | None
    shape: Shape | None = None


class Scope:
    """Collects declarations; it never connects and starts nothing."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.declared: list[Declared] = []
        self.providers: list[Provider] = []
        self.middlewares: list[Function] = []
        self.mappings: list[declarations.Mapping] = []
        self.startup: list[Function] = []
        self.shutdown: list[Function] = []
        self.checks: list[HealthCheck] = []
        self.statics: list[declarations.Static] = []
        self.groups: list[tuple[Group, str]] = []
        self.live = 0
        """How many runtimes serve these declarations now; while there is one, nothing can be added."""

    # -- RPC, events, timers ---------------------------------------------------------------------------------------

    @overload
    def rpc(self, function: F, /) -> F: ...
    @overload
    def rpc(self, /, *, name: str | None = None, deadline: float | str | None = None, limit: int | None = None) -> Callable[[F], F]: ...
    def rpc(
        self, function: Any = None, /, *, name: str | None = None, deadline: float | str | None = None, limit: int | None = None
    ) -> Any:
        """Answer ``<service>.<name>`` over NATS; ``name`` is the function's if not given.

        ``deadline``: seconds that one call may take; ``limit``: calls at once (settings.limit if not given).
        """

        def declare(function: F) -> F:
            called = name or function.__name__
            _checked(function, check_name, called)
            self._declare(Rpc(function, called, _seconds(function, deadline), _positive(function, "limit", limit)))
            ADDRESSES.setdefault(function, []).append((self, called))
            return function

        return declare if function is None else declare(function)

    def on(
        self,
        subject: str | type[Event],
        *,
        durable: bool = True,
        each: bool = False,
        group: str | None = None,
        ordered: bool = False,
        retry: Iterable[float | str] = (1, 5, 30, 120),
        batch: int | None = None,
        within: float | str = 0.05,
        limit: int = 100,
        start: Any = "new",
        once: bool = False,
        deadline: float | str | None = None,
    ) -> Callable[[F], F]:
        """Handle events on a subject (``*`` and a final ``>`` allowed), or of a typed `Event`.

        Durable events are delivered at least once per subscribing function, across restarts, and acknowledged after the
        function returned; a failure is redelivered after ``retry[n]`` seconds, then parked. ``each`` gives every replica
        its own copy, ``durable=False`` takes them from core NATS, at most once.
        """

        def declare(function: F) -> F:
            self._declare(
                Subscription(
                    function,
                    _event_subject(function, subject),
                    durable=durable and not each,
                    each=each,
                    group=None if group is None else _checked(function, check_name, group),
                    ordered=ordered,
                    retry=tuple(_seconds(function, wait) or 0.0 for wait in retry),
                    batch=_positive(function, "batch", batch),
                    within=_seconds(function, within) or 0.0,
                    limit=_positive(function, "limit", limit) or 100,
                    start=start,
                    once=once,
                    deadline=_seconds(function, deadline),
                )
            )
            return function

        return declare

    def every(
        self, interval: float | str, *, each: bool = False, missed: Literal["once", "skip"] = "once", deadline: float | str | None = None
    ) -> Callable[[F], F]:
        """Run each ``interval`` (seconds, or ``"1h"``): once per cluster and without overlap, or with ``each`` in every replica.

        ``missed``: what was due while no replica was there, or while the function still ran, is made up for ``once``,
        or left out (``skip``).
        """

        def declare(function: F) -> F:
            wait = _seconds(function, interval)
            if not wait:
                raise refuse(function, "a timer needs an interval over 0", "Write @app.every('30s').")
            self._declare(Timer(function, every=wait, each=each, missed=missed, deadline=_seconds(function, deadline)))
            return function

        return declare

    def cron(
        self,
        expression: str,
        *,
        tz: str = "UTC",
        each: bool = False,
        missed: Literal["once", "skip"] = "once",
        deadline: float | str | None = None,
    ) -> Callable[[F], F]:
        """Run when a cron expression says (``"0 9 * * MON-FRI"``, six fields with seconds first) in a time zone; options as `every`."""

        def declare(function: F) -> F:
            try:
                Cron(expression, tz)
            except ValueError as error:
                raise refuse(function, str(error), "Write @app.cron('0 9 * * MON-FRI', tz='Europe/Berlin').") from None
            self._declare(Timer(function, cron=expression, tz=tz, each=each, missed=missed, deadline=_seconds(function, deadline)))
            return function

        return declare

    # -- HTTP and WebSockets ---------------------------------------------------------------------------------------

    def route(
        self,
        path: str,
        *,
        methods: Iterable[str],
        status: int | None = None,
        deadline: float | str | None = None,
        limit: int | None = None,
        tags: Iterable[str] = (),
    ) -> Callable[[F], F]:
        """Answer HTTP methods on a path; ``status`` is that of a good answer (200, or 204 for ``-> None``)."""
        names = tuple(method.upper() for method in methods)

        def declare(function: F) -> F:
            if status is not None and not 100 <= status <= 599:
                raise refuse(function, f"status {status} is no HTTP status", "Use 200 to 599.")
            record = Route(
                function, check_path(function, path), names, status, _seconds(function, deadline), _positive(function, "limit", limit), tuple(tags)
            )
            self._declare(record)
            return function

        return declare

    def get(self, path: str, **options: Any) -> Callable[[F], F]:
        """Answer GET on a path; options as `route`."""
        return self.route(path, methods=("GET",), **options)

    def post(self, path: str, **options: Any) -> Callable[[F], F]:
        """Answer POST on a path; options as `route`."""
        return self.route(path, methods=("POST",), **options)

    def put(self, path: str, **options: Any) -> Callable[[F], F]:
        """Answer PUT on a path; options as `route`."""
        return self.route(path, methods=("PUT",), **options)

    def patch(self, path: str, **options: Any) -> Callable[[F], F]:
        """Answer PATCH on a path; options as `route`."""
        return self.route(path, methods=("PATCH",), **options)

    def delete(self, path: str, **options: Any) -> Callable[[F], F]:
        """Answer DELETE on a path; options as `route`."""
        return self.route(path, methods=("DELETE",), **options)

    def websocket(self, path: str, *, limit: int | None = None) -> Callable[[F], F]:
        """Serve a WebSocket on a path; what an async generator yields goes to the client as JSON."""

        def declare(function: F) -> F:
            self._declare(Socket(function, check_path(function, path), _positive(function, "limit", limit)))
            return function

        return declare

    def static(self, path: str, folder: str | Path) -> None:
        """Serve the files of a folder under a path, with ETags; hashed names are cached for ever."""
        if not path.startswith("/"):
            raise SetupError(f"static path {path!r} does not begin with /. Write '/{path}'.")
        if not Path(folder).is_dir():
            raise SetupError(f"static folder {str(folder)!r} is not there. Give the path of a folder.")
        self._open()
        self.statics.append(declarations.Static(path.rstrip("/") or "/", Path(folder)))

    # -- what surrounds a call -------------------------------------------------------------------------------------

    @overload
    def provide(self, function: F, /) -> F: ...
    @overload
    def provide(self, /, *, scope: Literal["app", "call"] = "app") -> Callable[[F], F]: ...
    def provide(self, function: Any = None, /, *, scope: Literal["app", "call"] = "app") -> Any:
        """Provide what a function's return annotation names, to keyword-only parameters of that type.

        A generator's part after ``yield`` runs at shutdown, or with ``scope="call"`` after the call. An object that is
        no function is provided as it is, under its class.
        """

        def declare(function: Any) -> Any:
            self._open()
            if scope not in {"app", "call"}:
                raise refuse(function, f"scope {scope!r} is none", "Use 'app' or 'call'.")
            if isinstance(function, type):
                raise refuse(function, "a class is no provider", "Write a function that returns one, with the class as its return annotation.")
            if not inspect.isroutine(function):
                self._provide(Provider(Value(function), type(function)))
                return function
            signature = _readable(function, read)
            check_none(signature, "a provider")
            provides = yielded(signature.returns)
            if provides in {Any, None, type(None)}:
                raise refuse(function, "a provider has no return annotation", "Name what it provides, as in -> Mailer.")
            self._provide(Provider(function, provides, scope))
            return function

        return declare if function is None else declare(function)

    def middleware(self, function: F) -> F:
        """Wrap every kind of handler: ``async def fn(context, proceed)``, in declared order, the first outermost."""
        self._open()
        self.middlewares.append(function)
        return function

    def on_error(self, error: type[E]) -> Callable[[F], F]:
        """Map an exception class (and its subclasses): the function takes the exception and returns or raises a `ServiceError`."""
        if not (isinstance(error, type) and issubclass(error, Exception)):
            raise SetupError(f"on_error takes an exception class, not {error!r}.")

        def declare(function: F) -> F:
            self._open()
            for known in self.mappings:
                if known.error is error:
                    raise refuse(function, f"{error.__name__} is mapped already, by {where(known.function)}", "Keep one of them.")
            self.mappings.append(declarations.Mapping(function, error))
            return function

        return declare

    def on_startup(self, function: F) -> F:
        """Run once when NATS, database and providers are there and before anything is served."""
        self._open()
        check_none(_readable(function, read), "a startup hook")
        self.startup.append(function)
        return function

    def on_shutdown(self, function: F) -> F:
        """Run once when accepted work has finished and before providers close."""
        self._open()
        check_none(_readable(function, read), "a shutdown hook")
        self.shutdown.append(function)
        return function

    def health_check(self, name: str, *, critical: bool = True) -> Callable[[F], F]:
        """Add a check to ``/health/detailed``; returning False or raising fails it, and readiness if it is critical."""

        def declare(function: F) -> F:
            self._open()
            check_none(_readable(function, read), "a health check")
            if any(check.name == name for check in self.checks):
                raise refuse(function, f"there is a health check {name!r} already", "Give it another name.")
            self.checks.append(HealthCheck(function, name, critical))
            return function

        return declare

    def include(self, group: "Group", prefix: str = "") -> None:
        """Take over everything that a group declares, now and until start, its paths under both prefixes."""
        self._open()
        if group is self or any(known is group for known, _ in self.groups):
            raise SetupError(f"group {group.name!r} is included twice in {self.name!r}. Keep one include.")
        self.groups.append((group, prefix))
        group.included_by.add(self)

    # -- inside ----------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        if self.live:
            raise SetupError(f"{self.name} is running, so nothing can be declared on it any more. Declare at module level, before it starts.")

    def _provide(self, provider: Provider) -> None:
        for known in self.providers:
            if known.provides == provider.provides:
                raise refuse(provider.function, f"{provider.provides} is provided already, by {where(known.function)}", "Keep one provider.")
        self.providers.append(provider)

    def _declare(self, record: Record) -> None:
        self._open()
        check_duplicates([*(d.record for d in self.declared), record])
        try:
            signature = _readable(record.function, read)
        except NameError:
            self.declared.append(Declared(record, None))  # an annotation that is defined further down: read at freeze
            return
        self.declared.append(complete(record, signature))


class Group(Scope):
    """A part of an app, with the same decorators, in a module of its own; ``app.include(group)`` takes it over."""

    def __init__(self, name: str, *, prefix: str = "") -> None:
        super().__init__(name)
        if prefix and (not prefix.startswith("/") or prefix.endswith("/")):
            raise SetupError(f"group {name!r}: prefix {prefix!r} must begin with / and not end with it, as in '/admin'.")
        self.prefix = prefix
        self.included_by: WeakSet[Scope] = WeakSet()
        """Whose services its functions answer in; only names are taken from them."""

    def parents(self) -> list[Scope]:
        """Return the apps and groups that include this one."""
        return list(self.included_by)


def complete(record: Record, signature: Signature) -> Declared:
    """Return a record with its signature and shape, checked for its kind."""
    if isinstance(record, Route):
        return Declared(record, signature, shape_of(signature, record.path, record.methods))
    if isinstance(record, Socket):
        return Declared(record, signature, socket_shape(signature, record.path))
    if isinstance(record, Subscription):
        check_event(signature)
    if isinstance(record, Timer):
        check_none(signature, "a timer")
    return Declared(record, signature)


def check_duplicates(records: list[Record]) -> None:
    """Raise `SetupError` naming both places if two records claim one name, route or subscription."""
    seen: dict[tuple[Any, ...], Record] = {}
    for record in records:
        for key, shown in _claims(record):
            other = seen.setdefault(key, record)
            if other is not record:
                raise refuse(record.function, f"{shown} is declared already, by {where(other.function)}", "Rename or remove one of them.")


def _claims(record: Record) -> list[tuple[tuple[Any, ...], str]]:
    match record:
        case Rpc(name=name):
            return [(("rpc", name), f"RPC {name}")]
        case Route(path=path, methods=methods):
            return [(("http", method, claim(path)), f"route {method} {path}") for method in methods]
        case Socket(path=path):
            return [(("socket", claim(path)), f"WebSocket {path}")]
        case Subscription(function=function, subject=subject, group=group):
            name = group or function.__name__
            return [(("event", name, subject), f"event {subject} for {name}")]
        case Timer(function=function):
            return [(("timer", function.__name__), f"timer {function.__name__}")]


def _readable(function: Function, reader: Callable[..., Signature]) -> Signature:
    try:
        return reader(function)
    except NameError:
        return reader(function, _callers_names())


def _callers_names() -> dict[str, Any]:
    """Return the local names where a decorator stands: annotations written as text may mean them."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001: the documented way to a caller's names
    while frame is not None and frame.f_globals.get("__name__", "").startswith("cliffracer."):
        frame = frame.f_back
    return dict(frame.f_locals) if frame is not None else {}


def _event_subject(function: Function, subject: str | type[Event]) -> str:
    if isinstance(subject, str):
        return _checked(function, check_pattern, subject)
    if isinstance(subject, type) and get_origin(subject) is None and issubclass(subject, Event) and subject.__subject__:
        return subject.__subject__
    raise refuse(function, f"{subject!r} names no event", "Give a subject such as 'user.created', or a class with one: class X(Event, subject='...').")


def _checked(function: Function, check: Callable[[str], str], text: str) -> str:
    try:
        return check(text)
    except ValueError as error:
        raise refuse(function, str(error), "Correct it.") from None


def _seconds(function: Function, value: float | str | None) -> float | None:
    try:
        return None if value is None else seconds(value)
    except ValueError as error:
        raise refuse(function, str(error), "Correct it.") from None


def _positive(function: Function, name: str, value: int | None) -> int | None:
    if value is not None and value < 1:
        raise refuse(function, f"{name}={value} lets nothing through", "Use 1 or more, or leave it out.")
    return value
