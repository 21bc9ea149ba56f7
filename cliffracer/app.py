"""The app: what a service declares, and how it calls others while it runs."""

import importlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, Unpack, overload

import msgspec

from cliffracer.addresses import address_of, called, merged
from cliffracer.bounds import Said, Use
from cliffracer.caching.cache import Cache
from cliffracer.caching.cached import Cached, check_kept
from cliffracer.caching.providers import check_providers
from cliffracer.calling import EmitOptions, Held, Link, Service, Yields, emission, loop_here, nearest_link, own
from cliffracer.checking import Declared, check_duplicates, check_probes, check_reached, complete, once_each
from cliffracer.declarations import Route, Socket, surrounded
from cliffracer.durations import seconds
from cliffracer.errors import SetupError
from cliffracer.events import Event, Received, followed
from cliffracer.frozen import Frozen
from cliffracer.payloads import check_parameters
from cliffracer.providers import check_one_each
from cliffracer.resilience.fallbacks import NONE
from cliffracer.resilience.guard import Guards
from cliffracer.resilience.policies import Breaker, Retry, length
from cliffracer.resilience.proxies import guarded
from cliffracer.rooms import Sockets
from cliffracer.scope import Group, Scope
from cliffracer.shapes import check_path
from cliffracer.signature import settled
from cliffracer.usage import usage
from cliffracer.wire.subjects import check_name

if TYPE_CHECKING:  # types that users see; at run time declaring must not import what connects
    from cliffracer.database.model import Model
    from cliffracer.database.repository import Repository

E = TypeVar("E", bound=Event)
M = TypeVar("M", bound="Model")
P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class App(Scope):
    """A service: ``app = App("user_service", version="1.0.0")`` at module level, then decorators.

    ``cliffracer run module:app`` serves it. While it runs, `call`, `service`, `emit` and `events` reach other services;
    in a script, ``async with app.connected():`` makes them work without serving anything.
    """

    @usage("App('users')")
    def __init__(
        self,
        name: str,
        *,
        version: str = "0.1.0",
        description: str = "",
        calls: Iterable[Any] | None = None,
        emits: Iterable[str | type[Event]] | None = None,
        follows: Iterable[str | type[Event]] | None = None,
        uses: Iterable[Use] | None = None,
    ) -> None:
        """Name the service, and say what it does to others: it is held to what is said, and ``cliffracer permissions`` allows no more.

        ``version`` and ``description`` are what discovery and the documents tell of it.
        ``calls``: ``"inventory.reserve"``, ``"inventory"`` (all of it) or an imported function; ``emits`` and ``follows`` (what
        ``app.events`` is asked for): subjects, patterns or `Event` classes; ``uses``: ``delays`` (``emit(delay=...)``), ``large``
        (payloads over the server's limit), ``locks``, ``rooms``. What is left out is not checked.
        """
        try:
            super().__init__(check_name(name))
        except ValueError as error:
            raise SetupError(f"App({name!r}): {error}.") from None
        self.version, self.description = version, description
        self._may = Said(name, called, self._more, calls=calls, emits=emits, follows=follows, uses=uses)
        self._proxies: dict[str, None] = {}
        self._links: list[tuple[Link, object]] = []
        self._models: list[type] = []
        self.cache = Cache(self._cached, name)
        """Invalidates cached answers: ``await app.cache.forget(tag="users")``."""
        self.guards = Guards()
        """Retries and breakers of the services that it calls; metrics and health read them."""
        self.databases: list[Any] = []
        """The database that this app uses while it runs; set by the runtime."""

    # -- calling ---------------------------------------------------------------------------------------------------

    @usage("app.service('payments')")
    def service(
        self,
        name: str,
        *,
        timeout: float | str | None = None,
        retry: Retry | None = None,
        breaker: Breaker | None = None,
        fallback: Any = NONE,
    ) -> Service:
        """Return another service as an object: ``await app.service("payments", timeout=2.0).charge(amount=10)``.

        ``timeout`` is that of a call, all its attempts together. ``retry`` and ``breaker`` say what to do when it fails: see `Retry` and
        `Breaker`; proxies with equal ones share a breaker. ``fallback`` answers a call that failed for good: a value, or a function that
        gets the same arguments, as many as it takes. They hold for calls; streams and one-way calls go straight to the service.
        """
        self._proxies[name] = None
        between = guarded(self.guards, name, retry, breaker, fallback)
        patience = None if timeout is None else length(f"service({name!r}, timeout=...)", timeout, some=True)
        return Service(name, self.link, timeout=patience, allow=self._may.call, between=between)

    @overload
    async def call(self, target: str, /, *args: Any, **kwargs: Any) -> Any: ...
    @overload
    async def call(self, target: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    async def call(self, target: Callable[P, Yields[R]], /, *args: P.args, **kwargs: P.kwargs) -> list[R]: ...
    @overload
    async def call(self, target: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    async def call(self, target: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Return the reply of an RPC: ``await app.call(charge, amount=10)``, or by name, ``"payments.charge"``.

        ``charge`` is the imported function; the reply is converted to its return annotation. The call ends when the
        deadline of the call that makes it does. Raises the `ServiceError` that the handler raised, `Unavailable` at once
        if nobody serves it, `DeadlineExceeded` when time is up.
        """
        service, method, returns = address_of(target)
        if self._may.call is not None:
            self._may.call(service, method)
        return await self.link().call(service, method, merged(target, args, kwargs), returns=returns, timeout=None)

    @overload
    def stream(self, target: str, /, *args: Any, **kwargs: Any) -> AsyncIterator[Any]: ...
    @overload
    def stream(self, target: Callable[P, Yields[R]], /, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[R]: ...
    def stream(self, target: Any, /, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        """Yield what a streaming handler yields: ``async for row in app.stream(report, year=2026)``; `call` gives all of it, in a list."""
        service, method, returns = address_of(target, streamed=True)
        if self._may.call is not None:
            self._may.call(service, method)
        return self.link().stream(service, method, merged(target, args, kwargs), returns=returns, timeout=None)

    @overload
    async def emit(self, event: Event, /, **options: Unpack[EmitOptions]) -> str: ...
    @overload
    async def emit(self, subject: str, data: Any = None, /, **options: Unpack[EmitOptions]) -> str: ...
    def emit(
        self,
        subject: str | Event,
        data: Any = None,
        /,
        *,
        durable: bool = True,
        id: str | None = None,
        key: str | None = None,
        delay: float | str | timedelta | None = None,
        at: datetime | None = None,
    ) -> Coroutine[Any, Any, str]:
        """Emit an event and return its id; a durable one is stored when this returns (or with the transaction that is open).

        ``id`` suppresses duplicates, and takes a delayed one back (`cancel`); one is made if none is given. ``key`` keeps order
        per key, ``delay`` or ``at`` (aware) deliver it later. ``durable=False`` sends it over core NATS, at most once.
        """
        made = emission(subject, data, durable=durable, id=id, key=key, delay=delay, at=at)
        if self._may.emit is not None:
            self._may.emit(made)
        return self.link().emit(made)

    @overload
    def events(self, pattern: type[E]) -> AsyncGenerator[Received[E], None]: ...
    @overload
    def events(self, pattern: str | type[Event], data: type[T]) -> AsyncGenerator[Received[T], None]: ...
    @overload
    def events(self, pattern: str, data: Any = Any) -> AsyncGenerator[Received[Any], None]: ...
    def events(self, pattern: str | type[Event], data: Any = Any) -> AsyncGenerator[Received[Any], None]:
        """Yield events as they arrive, from now on, every caller its own copy: ``async for event in app.events("user.*", User)``.

        A typed `Event` says both: ``app.events(UserCreated)``.
        """
        subject, wanted = followed(pattern, data)
        self._may.allow("follows", subject)
        return self.link().events(subject, wanted)  # type: ignore[return-value]  # Link tells iterators only

    @property
    def sockets(self) -> Sockets:
        """The WebSocket clients of all replicas: ``await app.sockets.to("room:7").send(...)``, ``app.sockets.join("room:7")``."""
        self._may.allow("uses", "rooms")
        return Sockets(self.link)

    async def cancel(self, event_id: str) -> bool:
        """Take back an event that was emitted with ``delay`` or ``at``, by its id; False if it is not there, or not any more."""
        self._may.allow("uses", "delays")
        return await self.link().cancel(event_id)

    def lock(self, name: str, *, ttl: float | str = 30.0, wait: float | str | None = None) -> AbstractAsyncContextManager[Held]:
        """Hold a lock of the cluster: ``async with app.lock("job") as lock``; all apps share it by its name.

        ``lock.token`` rises with every holder, so that a store can refuse one who was too slow. It is kept while this process
        lives; when NATS was away for longer than ``ttl``, the block is cancelled and ends with `Unavailable`, as it does when the
        lock is not to be had within ``wait``; ``wait=0`` asks once.
        """
        self._may.allow("uses", "locks")
        return self.link().lock(name, ttl=seconds(ttl), wait=None if wait is None else seconds(wait))

    def as_service(self) -> AbstractContextManager[None]:
        """Make calls and events in this block the service's own: ``with app.as_service(): ...`` leaves the caller's identity behind."""
        return own(self.link(), self.name)

    def repository(self, model: type[M]) -> "Repository[M]":
        """Return the repository of a model, for code that is not provided with one; it works while the app runs.

        It is asked for at module level, or, in a test, while the app runs, if a handler is given it.
        """
        appdatabase = importlib.import_module("cliffracer.appdatabase")  # by name: declaring must not import what connects
        if model not in self._models:
            if not self.live or model not in appdatabase.models_of([self.freeze()]):
                self._open()  # one that is new has no table yet
            self._models.append(model)
        found: Repository[M] = appdatabase.repository_of(self.name, self.databases, model)
        return found

    @asynccontextmanager
    async def connected(self, settings: Any = None) -> AsyncGenerator["App"]:
        """Connect and serve nothing, for scripts: ``async with app.connected(): await app.call(...)``."""
        client = importlib.import_module("cliffracer.client")  # by name: declaring must not import what connects
        async with client.linked(self.name, settings, private=True) as link:
            with self.attached(link, serving=False):
                yield self

    def link(self) -> Link:
        """Return what carries this app's calls now."""
        if len(self._links) == 1:
            return self._links[0][0]
        if self._links:
            return nearest_link(self._links)
        raise SetupError(
            f"{self.name} is not running, so it cannot call or emit. "
            "Run it with `cliffracer run`, or in a script: async with app.connected(): ..."
        )

    # -- running ---------------------------------------------------------------------------------------------------

    @contextmanager
    def attached(self, link: Link, *, serving: bool = True) -> Iterator[None]:
        """Send calls through a link while the block runs; used by the runtime."""
        placed = link, loop_here()
        self._links.append(placed)
        self._count(1 if serving else 0)
        try:
            yield
        finally:
            self._links.remove(placed)
            self._count(-1 if serving else 0)

    def freeze(self) -> Frozen:
        """Return all declarations, groups included; `SetupError` for mistakes that only show in the whole."""
        scopes = [(self, "", ()), *_nested(self, "")]
        declared = tuple(_placed(d, prefix, around) for scope, prefix, around in scopes for d in scope.declared)
        check_duplicates([d.record for d in declared])
        check_reached(self.name, [d.record for d in declared])
        frozen = Frozen(
            name=self.name,
            version=self.version,
            description=self.description,
            declared=declared,
            providers=once_each(p for scope, *_ in scopes for p in scope.provided()),
            middlewares=tuple(self.middlewares),
            mappings=tuple(self.mappings),
            startup=tuple(f for scope, *_ in scopes for f in scope.startup),
            shutdown=tuple(f for scope, *_ in scopes for f in scope.shutdown),
            checks=once_each(c for scope, *_ in scopes for c in scope.checks),
            accesses=tuple(f for scope, *_ in scopes for f in scope.accesses),
            statics=tuple(msgspec.structs.replace(s, path=prefix + s.path) for scope, prefix, _ in scopes for s in scope.statics),
            mounts=tuple(msgspec.structs.replace(m, path=prefix + m.path) for scope, prefix, _ in scopes for m in scope.mounts),
            wrappings=tuple(w for scope, *_ in scopes for w in scope.wrappings),
            models=tuple(self._models),
            cached=tuple(self._cached()),
            bounds=self._may.read(),
            proxies=tuple(self._proxies),
        )
        check_probes(frozen.checks)
        check_one_each(frozen.providers)
        for one in declared:
            check_kept(one.record, surrounded(one.record.function))
        check_providers(frozen.cached, frozen.providers)
        check_parameters([d.signature for d in declared if d.signature], frozen.providers, frozen.others)
        return frozen

    def _cached(self) -> Iterator[Cached]:
        for scope in [self, *(group for group, *_ in _nested(self, ""))]:
            yield from scope.kept

    def _more(self) -> list[str | type[Event]]:
        """Return what the groups declare that they emit."""
        return [event for group, *_ in _nested(self, "") for event in group.emits]

    def _count(self, change: int) -> None:
        for scope in [self, *(group for group, *_ in _nested(self, ""))]:
            scope.live += change


def _nested(scope: Scope, prefix: str, around: tuple[Group, ...] = ()) -> list[tuple[Group, str, tuple[Group, ...]]]:
    """Return the groups in a scope, each with its prefix and the groups around its handlers, the outermost first, itself the last."""
    found: list[tuple[Group, str, tuple[Group, ...]]] = []
    for group, extra in scope.groups:
        path, inner = prefix + extra.rstrip("/") + group.prefix, (*around, group)
        found.append((group, path, inner))
        found.extend(_nested(group, path, inner))
    return found


def _placed(declared: Declared, prefix: str, around: tuple[Group, ...]) -> Declared:
    record, signature = declared.record, declared.signature or settled(declared.record.function)
    if declared.signature is None:
        declared = complete(record, signature)
    if isinstance(record, Route | Socket) and (prefix or not record.path):
        path = check_path(record.function, prefix + record.path or "/")
        declared = complete(msgspec.structs.replace(record, path=path), signature)
    middlewares, mappings = (m for group in around for m in group.middlewares), (m for group in around for m in group.mappings)
    return msgspec.structs.replace(declared, middlewares=tuple(middlewares), mappings=tuple(mappings))
