"""Calls and events without ``await``, usable from any thread: a client whose event loop runs in a thread of its own.

with cliffracer.connect() as c:
c.user_service.get_user(user_id=7)
c.emit("user.created", {"name": "Ada"})
"""

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import CancelledError
from contextlib import AbstractAsyncContextManager, AbstractContextManager, closing, contextmanager
from typing import Any, ParamSpec, TypeVar, Unpack, cast, overload
from weakref import WeakSet

from cliffracer.calling import EmitOptions, Service, Yields
from cliffracer.client import AsyncClient, completions, connect_async
from cliffracer.entering import Blocking
from cliffracer.errors import CliffracerError, SetupError, Unavailable
from cliffracer.events import Event, Received
from cliffracer.messaging.directory import Directory, Info
from cliffracer.resilience.proxies import ServiceOptions
from cliffracer.settings import Settings

E = TypeVar("E", bound=Event)
P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

_AT_LAST = 5.0  # seconds that a close waits for what it has cancelled
_asking = threading.Lock()  # held by who asks a loop for something, since one that is closed meanwhile would never answer
_here: WeakSet[asyncio.AbstractEventLoop] = WeakSet()
"""Loops whose thread runs in this process; in a forked child none does, and who waited for one would wait for ever."""
_FORKED = (
    "This connection was opened before the process was forked, and its thread is not in the child. Call connect() in each worker, "
    "once it runs: Celery's worker_process_init, Gunicorn's post_fork."
)


def _after_fork() -> None:
    global _asking  # noqa: PLW0603 - a thread that held it is not here to let go of it
    _asking = threading.Lock()
    _here.clear()


os.register_at_fork(after_in_child=_after_fork)


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
        return completions(type(self), _asked(self._loop, self._client.directory))

    def service(self, name: str, *, timeout: float | str | None = None, **options: Unpack[ServiceOptions]) -> "SyncService":
        """Return a service as an object, also one whose name is taken here; further options as `App.service`."""
        return SyncService(name, self._client, self._client.service(name, timeout=timeout, **options), self._loop)

    @overload
    def call(self, target: str, /, *args: Any, **kwargs: Any) -> Any: ...
    @overload
    def call(self, target: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    def call(self, target: Callable[P, Yields[R]], /, *args: P.args, **kwargs: P.kwargs) -> list[R]: ...
    @overload
    def call(self, target: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    def call(self, target: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Return the reply of ``"service.method"`` or of an imported function; raises the `ServiceError` it raised."""
        return _wait(self._loop, self._client.call(target, *args, **kwargs))

    @overload
    def stream(self, target: str, /, *args: Any, **kwargs: Any) -> Iterator[Any]: ...
    @overload
    def stream(self, target: Callable[P, Yields[R]], /, *args: P.args, **kwargs: P.kwargs) -> Iterator[R]: ...
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
    thread = threading.Thread(target=_run, args=(loop,), name="cliffracer-client", daemon=True)
    thread.start()
    _here.add(loop)
    try:
        client = _wait(loop, opened.__aenter__())
        try:
            yield Client(client, loop)
        finally:
            if loop in _here:
                _wait(loop, opened.__aexit__(None, None, None))
    finally:
        if loop in _here:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()


def _run(loop: asyncio.AbstractEventLoop) -> None:
    """Run it until it is stopped, and close it; threads that still wait for something, such as the next event, are told."""
    loop.run_forever()
    with _asking:
        if left := asyncio.all_tasks(loop):
            for task in left:
                task.cancel()
            loop.run_until_complete(asyncio.wait(left, timeout=_AT_LAST))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


def _asked(loop: asyncio.AbstractEventLoop, directory: Directory) -> list[Info]:
    """Return who is there; nobody where that cannot be asked: completion must not fail."""
    try:
        return _wait(loop, directory.known())
    except CliffracerError:
        return []


def _wait(loop: asyncio.AbstractEventLoop, work: Awaitable[T]) -> T:
    async def run() -> T:
        return await work

    if loop not in _here:
        with closing(cast("Coroutine[Any, Any, T]", work)):  # or it would say that nobody awaited it
            raise SetupError(_FORKED)
    with _asking:
        if loop.is_closed():
            with closing(cast("Coroutine[Any, Any, T]", work)):  # as above
                raise Unavailable("the connection to NATS is closed")
        future = asyncio.run_coroutine_threadsafe(run(), loop)
    try:
        return future.result()
    except CancelledError:  # by `_run`: another thread has left the block
        raise Unavailable("the connection to NATS is closed") from None
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
