"""What surrounds the calls of an app or group: providers, middleware, error mapping, hooks, health checks."""

import inspect
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import timedelta
from typing import Any, Literal, TypeVar, overload

from cliffracer.caching.cached import Cached, StoreName, cached
from cliffracer.checking import check_probes, readable
from cliffracer.context import Context
from cliffracer.declarations import Function, HealthCheck, Mapping, Provider, Value, check_plain, refuse, shape_of, where
from cliffracer.errors import SetupError
from cliffracer.providers import check_one_each, key_of
from cliffracer.signature import Signature, bare, check_none, check_returning, settled, yielded
from cliffracer.usage import usage

F = TypeVar("F", bound=Callable[..., Any])
E = TypeVar("E", bound=Exception)
T = TypeVar("T")
_MAKERS: tuple[Any, ...] = (contextmanager, asynccontextmanager)
_MADE = frozenset(make(iter).__code__ for make in _MAKERS)
"""The code of what `contextlib` makes of a generator; what its context managers decorate is made in the same file."""
Around = TypeVar("Around", bound=Callable[[Context, Callable[[], Coroutine[Any, Any, Any]]], Awaitable[Any]])


class Surroundings:
    """Collects what surrounds calls; `Scope` adds the handlers."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.providers: list[Provider] = []
        self._unread: list[tuple[Function, Literal["app", "call"]]] = []
        self.middlewares: list[Function] = []
        self.mappings: list[Mapping] = []
        self.startup: list[Function] = []
        self.shutdown: list[Function] = []
        self.checks: list[HealthCheck] = []
        self.accesses: list[Function] = []
        self.kept: list[Cached] = []
        self.live = 0
        """How many runtimes serve these declarations now; as long as any does, nothing can be added."""

    @usage("@app.cached('30s')")
    def cached(
        self,
        ttl: float | str | timedelta,
        *,
        tags: str | Iterable[str] = (),
        store: StoreName = "memory",
        stale: float | str | timedelta = 0,
        shared: bool = False,
        vary: Callable[[Context | None], Any] | None = None,
    ) -> Callable[[F], F]:
        """Keep the answers of a function for ``ttl`` while the app runs: of an RPC, a GET, or any function that only looks.

        Whoever asks while an answer is being made waits for that one. ``tags`` name what an answer is made of, ``"user:{user_id}"`` with
        arguments in it, for ``app.cache.forget(tag=...)``. ``store``: ``memory``, or ``nats`` or ``redis``, which all replicas share.
        ``stale``: for how long after that the old answer does while a new one is made, or cannot be made. Callers share answers only if
        they are the same to every rule; ``shared=True`` says that all get the same, ``vary(context)`` what else tells answers apart.
        Rules, rates and middleware come before it. Errors and None are not kept, nor is anything that is read in an open transaction.
        """

        def keep(function: F) -> F:
            self._open()
            check_plain(function)
            wrapped, record = cached(function, ttl, tags, store, stale, shared, vary)
            with suppress(NameError):  # an annotation that is defined further down: read at freeze
                record.signature = readable(function)
            self.kept.append(record)
            return wrapped

        return keep

    @overload
    def provide(self, function: T, /) -> T: ...
    @overload
    def provide(self, /, *, scope: Literal["app", "call"] = "app") -> Callable[[F], F]: ...
    @usage("@app.provide")
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
                raise refuse(
                    function, "a class is no provider", "Write a function that returns one, with the class as its return annotation."
                )
            if not inspect.isroutine(function):
                self._provide(Provider(Value(function), type(function)))
                return function
            maker = _generator_of(function)
            try:
                self._provide(_provider(readable(maker), scope))
            except NameError:
                self._unread.append((maker, scope))  # an annotation that is defined further down: read at freeze
            return function

        return declare if function is None else declare(function)

    @usage("@app.middleware")
    def middleware(self, function: Around) -> Around:
        """Wrap every kind of handler: ``async def fn(context, proceed)``, in declared order, the first outermost.

        That of an app is around all handlers, that of a group, inside it, around those of the group.
        """
        self._open()
        _check_around(function)
        self.middlewares.append(function)
        return function

    @usage("@app.on_error(ValueError)", unless=object)
    def on_error(self, error: type[E]) -> Callable[[F], F]:
        """Map an exception class (and its subclasses): the function takes the exception and returns or raises a `ServiceError`.

        It is for what handlers, their middleware and their providers raise; input that does not fit is refused before any of them runs.
        That of an app is for all handlers, that of a group for those of the group. The class that is nearest to the exception's counts;
        of one that both map, the group's does.
        """
        given: Any = error
        if not (isinstance(given, type) and issubclass(given, Exception)):
            raise SetupError(f"on_error takes an exception class, not {error!r}.")

        def declare(function: F) -> F:
            self._open()
            _check_one(function, "an error mapping", "error")
            for known in self.mappings:
                if known.error is error:
                    raise refuse(function, f"{error.__name__} is mapped already, by {where(known.function)}", "Keep one of them.")
            self.mappings.append(Mapping(function, error))
            return function

        return declare

    @usage("@app.on_access")
    def on_access(self, function: F) -> F:
        """Be told of every call, let in or refused, also where everybody may: ``def audit(access)``, an `Access`; it may be async."""
        self._open()
        _check_one(function, "who is told of accesses", "access")
        self.accesses.append(function)
        return function

    @usage("@app.on_startup")
    def on_startup(self, function: F) -> F:
        """Run once when NATS, database and providers are there and before anything is served."""
        self._open()
        _check_hook(function, "a startup hook")
        self.startup.append(function)
        return function

    @usage("@app.on_shutdown")
    def on_shutdown(self, function: F) -> F:
        """Run once when accepted work has finished and before providers close, in what is left of ``settings.drain``, at least a second."""
        self._open()
        _check_hook(function, "a shutdown hook")
        self.shutdown.append(function)
        return function

    @usage("@app.health_check('disk')")
    def health_check(self, name: str, *, critical: bool = True) -> Callable[[F], F]:
        """Add a check to ``/health/detailed``; returning False or raising fails it, and readiness if it is critical."""

        def declare(function: F) -> F:
            self._open()
            _check_hook(function, "a health check")
            if not isinstance(critical, bool):
                raise refuse(function, f"critical={critical!r} says neither yes nor no", "Use True or False.")
            check = HealthCheck(function, name, critical)
            check_probes([*self.checks, check])
            self.checks.append(check)
            return function

        return declare

    def provided(self) -> list[Provider]:
        """Return the providers, now that all names are defined; `SetupError` for an annotation with one that is not."""
        while self._unread:
            function, scope = self._unread[0]
            self._provide(_provider(settled(function), scope))
            del self._unread[0]
        return self.providers

    # -- inside ----------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        if self.live:
            raise SetupError(
                f"{self.name} is running, so nothing can be declared on it any more. Declare at module level, before it starts."
            )

    def _provide(self, provider: Provider) -> None:
        check_one_each([*self.providers, provider])
        self.providers.append(provider)


def _provider(signature: Signature, scope: Literal["app", "call"]) -> Provider:
    check_none(signature, "a provider")
    provides = bare(yielded(signature.returns))
    if provides in {Any, None, type(None)}:
        raise refuse(signature.function, "a provider has no return annotation", "Name what it provides, as in -> Mailer.")
    return Provider(signature.function, key_of(provides), scope, optional=key_of(provides) != provides)


def _generator_of(function: Any) -> Function:
    """Return the generator below ``contextlib.asynccontextmanager`` or ``contextmanager``: we make the same of it, and enter it."""
    inside: Function = function.__wrapped__ if getattr(function, "__code__", None) in _MADE else function
    return inside


def _check_hook(function: Function, what: str) -> None:
    with suppress(NameError):  # an annotation that is defined further down: read at freeze
        signature = readable(function)
        check_none(signature, what)
        check_returning(signature, what)


def _check_around(function: Any) -> None:
    """Refuse middleware that could not be called with a context and what proceeds, and then be awaited."""
    cure = "Write: async def fn(context, proceed): return await proceed()"
    if isinstance(function, type):
        raise refuse(function, "a class is no middleware", f"{cure} ASGI middleware is added by app.add_middleware.")
    if (inspect.isfunction(function) or inspect.ismethod(function)) and not inspect.iscoroutinefunction(function):
        raise refuse(function, "middleware must be async", cure)
    shape = shape_of(function)
    try:
        shape.bind(None, None)
    except TypeError:
        raise refuse(function, "middleware takes two arguments", cure) from None
    if len(shape.parameters) != 2:
        raise refuse(function, "middleware takes two arguments", cure)


def _check_one(function: Callable[..., Any], what: str, name: str) -> None:
    """Refuse a function that cannot be called with one argument, before there is something to call it for."""
    try:
        shape_of(function).bind(None)
    except TypeError:
        raise refuse(function, f"{what} is called with one argument", f"Write: def {function.__name__}({name})") from None
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise refuse(function, f"it yields, and nobody takes what {what} yields", "Have it return instead.")
