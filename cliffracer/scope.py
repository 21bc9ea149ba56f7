"""The decorators that `App` and `Group` share: each turns a function into a record and gives the function back."""

from collections.abc import Callable, Iterable
from typing import Any, Literal, Protocol, TypeVar, overload
from weakref import ReferenceType, WeakKeyDictionary, WeakSet, ref

from cliffracer.cron import Cron
from cliffracer.declarations import RETRY, Leader, Rpc, Subscription, Timer, check_plain, names_of, refuse
from cliffracer.errors import SetupError
from cliffracer.events import Event
from cliffracer.options import (
    check_delivery,
    check_part,
    check_start,
    checked,
    deadline_of,
    event_subject,
    missed_of,
    positive,
    rate_of,
    seconds_of,
    unrated,
    waits_of,
)
from cliffracer.routing import Routing
from cliffracer.suggestions import Suggesting
from cliffracer.usage import usage
from cliffracer.wire.subjects import check_name

F = TypeVar("F", bound=Callable[..., Any])
ADDRESSES: WeakKeyDictionary[Any, list[tuple["str | ReferenceType[Group]", str]]] = WeakKeyDictionary()
"""Where each function that was declared with ``rpc`` can be called: ``app.call(function)`` looks here.

It holds names, not apps: an app holds its functions, and neither would ever be freed.
"""


class Part(Protocol):
    """Something ready-made that an app can use, such as `Accounts`."""

    def group(self, app: Any, /) -> "Group":
        """Return what it declares."""


class Scope(Suggesting, Routing):
    """Collects declarations; it never connects and starts nothing."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.groups: list[tuple[Group, str]] = []

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    # -- RPC, events, timers ---------------------------------------------------------------------------------------

    @overload
    def rpc(self, function: F, /) -> F: ...
    @overload
    def rpc(
        self,
        /,
        *,
        name: str | None = None,
        deadline: float | str | None = None,
        limit: int | None = None,
        rate: str | None = None,
        idempotent: bool | None = None,
        retry: Iterable[float | str] = RETRY,
    ) -> Callable[[F], F]: ...
    @usage("@app.rpc")
    def rpc(
        self,
        function: Any = None,
        /,
        *,
        name: str | None = None,
        deadline: float | str | None = None,
        limit: int | None = None,
        rate: str | None = None,
        idempotent: bool | None = None,
        retry: Iterable[float | str] = RETRY,
    ) -> Any:
        """Answer ``<service>.<name>`` over NATS; ``name`` is the function's if not given.

        ``deadline``: seconds that one call may take; ``limit``: calls at once (settings.limit if not given); ``rate``: how often
        it may be called, in all replicas together: ``"10/s per identity"``, ``"5/m per address"``, ``"100/s"``. ``idempotent=True``
        tells callers that a call may be done twice, so that a `Retry` of theirs repeats it also when nobody knows what became of the
        first; a function that answers GET, PUT or DELETE as well is taken for that unless it says False (RFC 9110). ``retry``: a one-way
        call (``send``) that fails is tried again after so many seconds (1, 5, 30 and 120), then parked: ``cliffracer dead`` has it.
        """
        _check_function(function, "rpc", "name")

        def declare(function: F) -> F:
            check_plain(function)
            called = name or function.__name__
            checked(function, check_name, called)
            limited, until = positive(function, "limit", limit), deadline_of(function, deadline)
            self._declare(Rpc(function, called, until, limited, rate_of(function, rate), idempotent, waits_of(function, retry)))
            ADDRESSES.setdefault(function, []).append((ref(self) if isinstance(self, Group) else self.name, called))
            return function

        return declare if function is None else declare(function)

    @usage("@app.on('user.created')", unless=Event, several="For several subjects, put one @app.on above the other.")
    def on(
        self,
        subject: str | type[Event],
        *,
        durable: bool = True,
        each: bool = False,
        group: str | None = None,
        ordered: bool = False,
        retry: Iterable[float | str] = RETRY,
        batch: int | None = None,
        within: float | str = 0.05,
        limit: int = 100,
        start: Any = "new",
        once: bool = False,
        deadline: float | str | None = None,
        rate: str | None = None,
    ) -> Callable[[F], F]:
        """Handle events on a subject (``*`` and a final ``>`` allowed), or of a typed `Event`.

        Durable events are delivered at least once per subscribing function, across restarts, and acknowledged after the function
        returned; a failure is redelivered after ``retry[n]`` seconds (1, 5, 30 and 120), then parked. ``each`` gives every
        replica its own copy, ``durable=False`` one to all of them together: both over core NATS, at most once. ``start`` says
        where a function that is new begins: ``new``, ``all``, a sequence, a time, or how long ago (``"1h"``); afterwards it goes
        on where it was. Functions with one ``group`` share their events. ``ordered=True`` handles those of one ``key`` in order;
        ``batch=100`` hands over a list, of what came ``within`` seconds; ``once=True`` has an effect in the database exactly
        once. ``limit`` is how many are in hand at once, in each replica; ``deadline`` how many seconds one may take. ``rate`` is
        how often the function is called, as for `rpc`: events over it wait, in hand, and that is no attempt; without ``durable``
        they are dropped. A batch is one call.
        """

        def declare(function: F) -> F:
            self._declare(
                check_delivery(
                    Subscription(
                        function,
                        event_subject(function, subject),
                        durable=durable and not each,
                        each=each,
                        group=None if group is None else checked(function, check_name, group),
                        ordered=ordered,
                        retry=waits_of(function, retry),
                        batch=positive(function, "batch", batch),
                        within=seconds_of(function, within) or 0.0,
                        limit=positive(function, "limit", limit) or 100,
                        start=check_start(function, start),
                        once=once,
                        deadline=deadline_of(function, deadline),
                        rate=rate_of(function, rate),
                    )
                )
            )
            return function

        return declare

    @usage("@app.every('30s')")
    def every(
        self,
        interval: float | str,
        *,
        each: bool = False,
        missed: Literal["once", "skip"] = "once",
        deadline: float | str | None = None,
        rate: None = None,
    ) -> Callable[[F], F]:
        """Run each ``interval`` (seconds, or ``"1h"``): once per cluster and without overlap, or with ``each`` in every replica.

        ``missed``: what was due while no replica was there, or while the function still ran, is made up for ``once``,
        or left out (``skip``). ``deadline`` is how many seconds one run may take. A ``rate`` is refused: nobody calls a timer.
        """

        def declare(function: F) -> F:
            unrated(function, rate)
            wait = seconds_of(function, interval)
            if not wait:
                raise refuse(function, "a timer needs an interval over 0", "Write @app.every('30s').")
            self._declare(
                Timer(function, every=wait, each=each, missed=missed_of(function, missed), deadline=deadline_of(function, deadline))
            )
            return function

        return declare

    @usage("@app.cron('0 9 * * MON-FRI')")
    def cron(
        self,
        expression: str,
        *,
        tz: str = "UTC",
        each: bool = False,
        missed: Literal["once", "skip"] = "once",
        deadline: float | str | None = None,
        rate: None = None,
    ) -> Callable[[F], F]:
        """Run when a cron expression says (``"0 9 * * MON-FRI"``, six fields with seconds first) in the time zone ``tz``.

        ``each``, ``missed``, ``deadline`` and ``rate`` as for `every`.
        """

        def declare(function: F) -> F:
            unrated(function, rate)
            try:
                Cron(expression, tz)
            except ValueError as error:
                raise refuse(function, str(error), "Write @app.cron('0 9 * * MON-FRI', tz='Europe/Berlin').") from None
            self._declare(
                Timer(
                    function,
                    cron=expression,
                    tz=tz,
                    each=each,
                    missed=missed_of(function, missed),
                    deadline=deadline_of(function, deadline),
                )
            )
            return function

        return declare

    @overload
    def leader(self, function: F, /) -> F: ...
    @overload
    def leader(self, /, *, ttl: float | str = 15.0) -> Callable[[F], F]: ...
    @usage("@app.leader")
    def leader(self, function: Any = None, /, *, ttl: float | str = 15.0, rate: None = None) -> Any:
        """Run a function in one replica of the cluster while it runs; when that is gone for ``ttl`` seconds, it begins in another.

        It is cancelled when this replica loses the lead, if it is an ``async def``: nobody can end a thread. If it returns, its work is
        done; if it raises, it begins again, here or elsewhere.
        A ``rate`` is refused: nobody calls it.
        """
        _check_function(function, "leader", "ttl")

        def declare(function: F) -> F:
            unrated(function, rate)
            lease = seconds_of(function, ttl)
            if not lease:
                raise refuse(function, "a leader needs a ttl over 0", "Write @app.leader(ttl='15s').")
            self._declare(Leader(function, lease))
            return function

        return declare if function is None else declare(function)

    # -- parts ------------------------------------------------------------------------------------------------------

    @usage("app.use(Accounts())")
    def use(self, part: Part) -> None:
        """Take over a ready-made part, such as ``app.use(Accounts())``: the group that its ``group(app)`` returns."""
        check_part(self.name, part)
        self.include(part.group(self))

    @usage("app.include(group)")
    def include(self, group: "Group", prefix: str = "") -> None:
        """Take over everything that a group declares, now and until start, its paths under its own and this ``prefix``."""
        self._open()
        check_part(self.name, group, Group)
        if prefix and not prefix.startswith("/"):
            raise SetupError(f"group {group.name!r} in {self.name!r}: prefix {prefix!r} does not begin with /. Write '/{prefix}'.")
        if group is not self and _holds(group, self):
            raise SetupError(f"group {group.name!r} includes {self.name!r}, so that cannot include it. Keep one of them.")
        if group is self or any(known is group for known, _ in self.groups):
            raise SetupError(f"group {group.name!r} is included twice in {self.name!r}. Keep one include.")
        self.groups.append((group, prefix))
        group.included_by.add(self)


class Group(Scope):
    """A part of an app, with the same decorators, in a module of its own; ``app.include(group)`` takes it over."""

    _prefixed = True

    @usage("Group('admin')")
    def __init__(self, name: str, *, prefix: str = "", emits: Iterable[str | type[Event]] = ()) -> None:
        """Name the part. ``prefix`` goes before its paths; ``emits``: what its functions emit, beside what the app says that it does."""
        try:
            super().__init__(check_name(name))
        except ValueError as error:
            raise SetupError(f"Group({name!r}): {error}.") from None
        self.emits = names_of(emits)
        if prefix and (not prefix.startswith("/") or prefix.endswith("/")):
            raise SetupError(f"group {name!r}: prefix {prefix!r} must begin with / and not end with it, as in '/admin'.")
        self.prefix = prefix
        self.included_by: WeakSet[Scope] = WeakSet()
        """The apps and groups that include it; only their names are used."""

    def parents(self) -> list[Scope]:
        """Return the apps and groups that include this one."""
        return list(self.included_by)


def _holds(group: Group, scope: Scope) -> bool:
    """Say whether a group is a scope, or includes it."""
    return group is scope or any(_holds(inner, scope) for inner, _ in group.groups)


def _check_function(given: Any, decorator: str, option: str) -> None:
    """Refuse an option that was given by position: only the function may be."""
    if given is None:
        return
    if not callable(given) and not isinstance(given, staticmethod | classmethod):
        raise SetupError(f"@app.{decorator}({given!r}): its options have names. Write @app.{decorator}({option}={given!r}).")
    check_plain(given)
