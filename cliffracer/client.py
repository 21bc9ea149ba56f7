"""Calls and events from scripts and notebooks: no app needed, one connection.

    async with cliffracer.connect_async() as c:
        await c.user_service.get_user(user_id=7)

It goes to the given URL, or to NATS_URL, or in development to the embedded server of this folder. Without ``await``: `blocking`.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, ParamSpec, TypeVar, Unpack, overload

from cliffracer import embedded
from cliffracer.addresses import address_of, merged
from cliffracer.calling import Emission, EmitOptions, Service, Yields, emission
from cliffracer.entering import Async
from cliffracer.events import Event, Received, followed
from cliffracer.messaging.backend import JetStreamBackend
from cliffracer.messaging.bus import connect as connect_bus
from cliffracer.messaging.connection import Connection, stored_by
from cliffracer.messaging.directory import Directory, Info
from cliffracer.messaging.jetstream import JetStream
from cliffracer.resilience.guard import Guards
from cliffracer.resilience.policies import length
from cliffracer.resilience.proxies import ServiceOptions, guarded
from cliffracer.settings import Settings
from cliffracer.wire.headers import Headers, checked_token
from cliffracer.wire.subjects import Subjects, inbox_prefix

E = TypeVar("E", bound=Event)
P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class AsyncClient:
    """A connection that calls and emits; services are its attributes: ``await c.user_service.get_user(user_id=7)``."""

    def __init__(self, link: Connection, timeout: float | None) -> None:
        self._link = link
        self._timeout = timeout
        self._guards = Guards()

    @property
    def directory(self) -> Directory:
        """The services that run, by discovery."""
        return self._link.directory

    @property
    def link(self) -> Connection:
        """What carries the calls, for tools that need it."""
        return self._link

    def __getattr__(self, name: str) -> Service:
        if name.startswith("_"):
            raise AttributeError(name)
        return self.service(name)

    def __dir__(self) -> list[str]:
        """Return a client's own attributes, and the services that discovery has found so far, for completion."""
        return completions(type(self), self.directory.at_hand())

    def service(self, name: str, *, timeout: float | str | None = None, **options: Unpack[ServiceOptions]) -> Service:
        """Return a service as an object, also one whose name is taken here; further options as `App.service`."""
        between = guarded(self._guards, name, **options)
        patience = self._timeout if timeout is None else length(f"service({name!r}, timeout=...)", timeout, some=True)
        return Service(name, lambda: self._link, timeout=patience, between=between)

    @overload
    async def call(self, target: str, /, *args: Any, **kwargs: Any) -> Any: ...
    @overload
    async def call(self, target: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    async def call(self, target: Callable[P, Yields[R]], /, *args: P.args, **kwargs: P.kwargs) -> list[R]: ...
    @overload
    async def call(self, target: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    async def call(self, target: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Return the reply of ``"service.method"`` or of an imported function; raises the `ServiceError` it raised."""
        service, method, returns = address_of(target)
        return await self._link.call(service, method, merged(target, args, kwargs), returns=returns, timeout=self._timeout)

    @overload
    def stream(self, target: str, /, *args: Any, **kwargs: Any) -> AsyncIterator[Any]: ...
    @overload
    def stream(self, target: Callable[P, Yields[R]], /, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[R]: ...
    def stream(self, target: Any, /, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        """Yield what a streaming handler yields."""
        service, method, returns = address_of(target, streamed=True)
        return self._link.stream(service, method, merged(target, args, kwargs), returns=returns, timeout=self._timeout)

    async def emit(self, subject: str | Event, data: Any = None, /, **options: Unpack[EmitOptions]) -> str:
        """Emit an event and return its id; a durable one is stored when this returns. Options as `App.emit`."""
        return await self._link.emit(emission(subject, data, **options))

    async def cancel(self, event_id: str) -> bool:
        """Take back an event that was emitted with ``delay`` or ``at``, by its id; False if it is not there, or not any more."""
        return await self._link.cancel(event_id)

    @overload
    def events(self, pattern: type[E]) -> AsyncIterator[Received[E]]: ...
    @overload
    def events(self, pattern: str | type[Event], data: type[T]) -> AsyncIterator[Received[T]]: ...
    @overload
    def events(self, pattern: str, data: Any = Any) -> AsyncIterator[Received[Any]]: ...
    def events(self, pattern: str | type[Event], data: Any = Any) -> AsyncIterator[Received[Any]]:
        """Yield events as they arrive, from now on: of a subject, ``("user.*", User)``, or of a typed `Event`.

        `Unavailable` once the block is left, as with calls and streams.
        """
        return self._link.events(*followed(pattern, data))


def connect_async(
    url: str | None = None, *, settings: Settings | None = None, timeout: float | str | None = None, token: str | None = None
) -> AbstractAsyncContextManager[AsyncClient]:
    """Connect while the block runs; ``timeout`` is that of a call (10 s if not given). `Unavailable` if NATS is not there.

    ``url``: where NATS is, else ``NATS_URL`` or the embedded server of this folder; ``settings``: all of them, read already.
    ``token``: who calls, as ``cliffracer token issue`` prints it.
    """
    return Async(_connected_async(url, settings, timeout, token))


@asynccontextmanager
async def _connected_async(
    url: str | None, settings: Settings | None, timeout: float | str | None, token: str | None
) -> AsyncIterator[AsyncClient]:
    patience = None if timeout is None else length("connect(timeout=...)", timeout, some=True)
    async with linked("script", settings, url=url) as link:
        link.token = checked_token(token)
        yield AsyncClient(link, patience)


@asynccontextmanager
async def linked(
    name: str, settings: Settings | None = None, *, url: str | None = None, private: bool = False
) -> AsyncIterator[Connection]:
    """Connect under a name while the block runs, to call and emit; ``private``: with an inbox that is that app's own."""
    given = settings if settings is not None else Settings.load(nats_url=url)
    async with AsyncExitStack() as stack:
        if given.nats_url is None:
            urls = await in_thread(stack, embedded.servers)
            given = given.changed("embedded", nats_url=urls.nats_url)
        bus = await connect_bus(given, name=name, inbox_prefix=inbox_prefix(given.namespace, [name if private else "cliffracer"]))
        stack.push_async_callback(bus.close)
        subjects = Subjects(given.namespace)
        backend = JetStreamBackend(JetStream(bus), subjects)

        def store(emission: Emission, subject: str, payload: bytes, headers: Headers) -> Awaitable[object]:
            return stored_by(backend, emission, subject, payload, headers, timeout=given.deadline)

        link = Connection(bus, subjects, name=name, deadline=given.deadline, store=store, backend=backend)
        link.directory.place = place_of(given)
        yield link


def place_of(settings: Settings) -> str:
    """Return where the settings lead to, without a password: ``on nats://host:4222 (NATS_URL, .env line 3), namespace staging``."""
    origin = settings.origin("nats_url")
    within = f", namespace {settings.namespace}" if settings.namespace else ""
    if settings.nats_url is None or origin.place == "embedded":
        return f"on the embedded NATS of {embedded.locate(None)}{within}"
    shown = next(s.value for s in settings.sources() if s.name == "nats_url")
    return f"on {shown} ({origin.key or 'nats_url'}, {origin.place}){within}"


async def in_thread(stack: AsyncExitStack, opener: Callable[[], Any]) -> Any:
    """Enter a blocking context manager in a thread, and leave it in one when the stack unwinds."""
    manager = opener()
    value = await asyncio.to_thread(manager.__enter__)

    async def leave() -> None:
        try:
            await asyncio.to_thread(manager.__exit__, None, None, None)
        except RuntimeError as error:
            if "after shutdown" not in str(error):
                raise
            manager.__exit__(None, None, None)  # the interpreter is about to end, and has no threads any more for work

    stack.push_async_callback(leave)
    return value


def completions(kind: type, infos: list[Info]) -> list[str]:
    """Return the names for completion: a client's own attributes, and the known services."""
    own = [name for name in dir(kind) if not name.startswith("_")]
    return [*own, *sorted({info.name for info in infos if info.name.isidentifier()})]
