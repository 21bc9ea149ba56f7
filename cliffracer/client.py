"""Calls and events from scripts and notebooks: no app needed, one connection, usable from any thread.

    with cliffracer.connect() as c:
        c.user_service.get_user(user_id=7)
        c.emit("user.created", {"name": "Ada"})

    async with cliffracer.connect_async() as c:
        await c.user_service.get_user(user_id=7)

``connect()`` goes to the given URL, or to NATS_URL, or in development to the embedded server of this folder.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, AsyncExitStack, asynccontextmanager, closing, contextmanager
from typing import Any, TypeVar, Unpack, cast, overload

from cliffracer import embedded
from cliffracer.addresses import address_of
from cliffracer.calling import Emission, EmitOptions, Service, arguments_of, emission
from cliffracer.entering import Async, Blocking
from cliffracer.errors import CliffracerError, ServiceError, Unavailable
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
T = TypeVar("T")


class AsyncClient:
    """A connection that calls and emits; services are its attributes: ``await c.user_service.get_user(user_id=7)``."""

    def __init__(self, link: Connection, timeout: float | None) -> None:
        self._link = link
        self._timeout = timeout
        self._guards = Guards()

    @property
    def directory(self) -> Directory:
        """Who is there, by discovery."""
        return self._link.directory

    @property
    def link(self) -> Connection:
        """What carries the calls, for tools that look behind them."""
        return self._link

    def __getattr__(self, name: str) -> Service:
        if name.startswith("_"):
            raise AttributeError(name)
        return self.service(name)

    def __dir__(self) -> list[str]:
        """Return what a client has, and the services that discovery has told by now, for completion."""
        return [*_public(type(self)), *_names(self.directory.at_hand())]

    def service(self, name: str, *, timeout: float | str | None = None, **options: Unpack[ServiceOptions]) -> Service:
        """Return a service as an object, also one whose name is taken here; further options as `App.service`."""
        between = guarded(self._guards, name, **options)
        patience = self._timeout if timeout is None else length(f"service({name!r}, timeout=...)", timeout, some=True)
        return Service(name, lambda: self._link, timeout=patience, between=between)

    async def call(self, target: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Return the reply of ``"service.method"`` or of an imported function; raises the `ServiceError` it raised."""
        service, method, returns = address_of(target)
        return await self._link.call(service, method, arguments_of(args, kwargs), returns=returns, timeout=self._timeout)

    def stream(self, target: Any, /, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        """Yield what a streaming handler yields."""
        service, method, returns = address_of(target)
        return self._link.stream(service, method, arguments_of(args, kwargs), returns=returns, timeout=self._timeout)

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
        """Yield events as they arrive, from now on: of a subject, ``("user.*", User)``, or of a typed `Event`."""
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
    """Return which NATS settings lead to, without its password: ``on nats://host:4222 (NATS_URL, .env line 3)``."""
    origin = settings.origin("nats_url")
    if settings.nats_url is None or origin.place == "embedded":
        return f"on the embedded NATS of {embedded.locate(None)}"
    shown = next(s.value for s in settings.sources() if s.name == "nats_url")
    return f"on {shown} ({origin.key or 'nats_url'}, {origin.place})"


async def in_thread(stack: AsyncExitStack, opener: Callable[[], Any]) -> Any:
    """Enter a blocking context manager in a thread, and leave it in one when the stack unwinds."""
    manager = opener()
    value = await asyncio.to_thread(manager.__enter__)
    stack.push_async_callback(asyncio.to_thread, manager.__exit__, None, None, None)
    return value


# -- without an event loop ---------------------------------------------------------------------------------------------


class Client:
    """The same without ``await``, from any thread: ``c.user_service.get_user(user_id=7)``."""

    def __init__(self, client: AsyncClient, loop: asyncio.AbstractEventLoop) -> None:
        self._client = client
        self._loop = loop

    def __getattr__(self, name: str) -> "SyncService":
        if name.startswith("_"):
            raise AttributeError(name)
        return self.service(name)

    def __dir__(self) -> list[str]:
        """Return what a client has, and the services that run now, for completion."""
        return [*_public(type(self)), *_names(_asked(self._loop, self._client.directory))]

    def service(self, name: str, *, timeout: float | str | None = None, **options: Unpack[ServiceOptions]) -> "SyncService":
        """Return a service as an object, also one whose name is taken here; further options as `App.service`."""
        return SyncService(name, self._client, self._client.service(name, timeout=timeout, **options), self._loop)

    def call(self, target: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Return the reply of ``"service.method"`` or of an imported function; raises the `ServiceError` it raised."""
        return _wait(self._loop, self._client.call(target, *args, **kwargs))

    def stream(self, target: Any, /, *args: Any, **kwargs: Any) -> Iterator[Any]:
        """Yield what a streaming handler yields."""
        return _items(self._loop, self._client.stream(target, *args, **kwargs))

    def emit(self, subject: str | Event, data: Any = None, /, **options: Unpack[EmitOptions]) -> str:
        """Emit an event and return its id; a durable one is stored when this returns. Options as `App.emit`."""
        return _wait(self._loop, self._client.emit(subject, data, **options))

    def cancel(self, event_id: str) -> bool:
        """Take back an event that was emitted with ``delay`` or ``at``, by its id; False if it is not there, or not any more."""
        return _wait(self._loop, self._client.cancel(event_id))

    @overload
    def events(self, pattern: type[E]) -> Iterator[Received[E]]: ...
    @overload
    def events(self, pattern: str | type[Event], data: type[T]) -> Iterator[Received[T]]: ...
    @overload
    def events(self, pattern: str, data: Any = Any) -> Iterator[Received[Any]]: ...
    def events(self, pattern: str | type[Event], data: Any = Any) -> Iterator[Received[Any]]:
        """Yield events as they arrive, from now on: of a subject, ``("user.*", User)``, or of a typed `Event`."""
        return _items(self._loop, self._client.events(pattern, data))


class SyncService:
    """A service whose methods block until their reply is there."""

    def __init__(self, name: str, client: AsyncClient, service: Service, loop: asyncio.AbstractEventLoop) -> None:
        self._name = name
        self._client = client
        self._service = service
        self._loop = loop
        self.stream = _Blocking(service.stream, lambda made: _items(loop, made))
        self.send = _Blocking(service.send, lambda made: _wait(loop, made))

    def __getattr__(self, method: str) -> Callable[..., Any]:
        if method.startswith("__"):
            raise AttributeError(method)
        return self[method]

    def __dir__(self) -> list[str]:
        """Return the methods that the service has where it runs, for completion."""
        infos = _asked(self._loop, self._client.directory)
        return ["send", "stream", *sorted({e.name for info in infos if info.name == self._name for e in info.endpoints})]

    def __getitem__(self, method: str) -> Callable[..., Any]:
        call = self._service[method]
        return lambda *args, **kwargs: _wait(self._loop, call(*args, **kwargs))


class _Blocking:
    def __init__(self, proxy: Any, run: Callable[[Any], Any]) -> None:
        self._proxy = proxy
        self._run = run

    def __getattr__(self, method: str) -> Callable[..., Any]:
        if method.startswith("__"):
            raise AttributeError(method)
        call = getattr(self._proxy, method)
        return lambda *args, **kwargs: self._run(call(*args, **kwargs))


def connect(
    url: str | None = None, *, settings: Settings | None = None, timeout: float | str | None = None, token: str | None = None
) -> AbstractContextManager[Client]:
    """As `connect_async`, ``url``, ``settings``, ``timeout`` and ``token`` too, without an event loop of yours; for any thread."""
    return Blocking(_connected(connect_async(url, settings=settings, timeout=timeout, token=token)))


@contextmanager
def _connected(opened: AbstractAsyncContextManager[AsyncClient]) -> Iterator[Client]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="cliffracer-client", daemon=True)
    thread.start()
    try:
        client = _wait(loop, opened.__aenter__())
        try:
            yield Client(client, loop)
        finally:
            _wait(loop, opened.__aexit__(None, None, None))
    finally:
        _wait(loop, loop.shutdown_asyncgens())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def _public(kind: type) -> list[str]:
    return [name for name in dir(kind) if not name.startswith("_")]


def _names(infos: list[Info]) -> list[str]:
    return sorted({info.name for info in infos if info.name.isidentifier()})


def _asked(loop: asyncio.AbstractEventLoop, directory: Directory) -> list[Info]:
    """Return who is there; nobody where that cannot be asked: completion must not fail."""
    try:
        return _wait(loop, directory.known())
    except ServiceError:
        return []


def _wait(loop: asyncio.AbstractEventLoop, work: Awaitable[T]) -> T:
    async def run() -> T:
        return await work

    if loop.is_closed():
        with closing(cast("Coroutine[Any, Any, T]", work)):  # or it would say that nobody awaited it
            raise Unavailable("the connection to NATS is closed")
    future = asyncio.run_coroutine_threadsafe(run(), loop)
    try:
        return future.result()
    except KeyboardInterrupt:
        future.cancel()  # Ctrl-C at the prompt gives up the call, not the connection
        raise
    except CliffracerError as error:
        # The way that it took in here would be most of what a script prints, and says nothing to its reader.
        raise error.with_traceback(None)  # noqa: B904 - the same one


def _items(loop: asyncio.AbstractEventLoop, items: Any) -> Iterator[Any]:
    try:
        while True:
            try:
                yield _wait(loop, anext(items))
            except StopAsyncIteration:
                return
    finally:
        _wait(loop, items.aclose())
