"""Calls and events without ``await``, usable from any thread: a client whose event loop runs in a thread of its own.

with cliffracer.connect() as c:
c.user_service.get_user(user_id=7)
c.emit("user.created", {"name": "Ada"})
"""

import asyncio
import atexit
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import CancelledError, Future, InvalidStateError
from contextlib import AbstractAsyncContextManager, AbstractContextManager, ExitStack, closing, contextmanager, suppress
from typing import Any, ParamSpec, TypeVar, Unpack, cast, overload

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
_CLOSED = "the connection to NATS is closed"
_DROPPED = f"{_CLOSED}: what held it open is no more. Keep what connect() returned, or the ExitStack that entered it, as long as it"
_FORKED = (
    "This connection was opened before the process was forked, and its thread is not in the child. Call connect() in each worker, "
    "once it runs: Celery's worker_process_init, Gunicorn's post_fork."
)


class Client:
    """The same without ``await``, from any thread: ``c.user_service.get_user(user_id=7)``."""

    def __init__(self, client: AsyncClient, loop: "LoopThread") -> None:
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
        return self._loop.wait(self._client.call(target, *args, **kwargs))

    @overload
    def stream(self, target: str, /, *args: Any, **kwargs: Any) -> Iterator[Any]: ...
    @overload
    def stream(self, target: Callable[P, Yields[R]], /, *args: P.args, **kwargs: P.kwargs) -> Iterator[R]: ...
    def stream(self, target: Any, /, *args: Any, **kwargs: Any) -> Iterator[Any]:
        """Yield what a streaming handler yields."""
        return _items(self._loop, self._client.stream(target, *args, **kwargs))

    def emit(self, subject: str | Event, data: Any = None, /, **options: Unpack[EmitOptions]) -> str:
        """Emit an event and return its id; a durable one is stored when this returns. Options as `App.emit`."""
        return self._loop.wait(self._client.emit(subject, data, **options))

    def cancel(self, event_id: str) -> bool:
        """Take back an event that was emitted with ``delay`` or ``at``, by its id; False if it is not there, or not any more."""
        return self._loop.wait(self._client.cancel(event_id))

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

    def __init__(self, name: str, client: AsyncClient, service: Service, loop: "LoopThread") -> None:
        self._name = name
        self._client = client
        self._service = service
        self._loop = loop
        self.stream = _Blocking(service.stream, lambda made: _items(loop, made))
        self.send = _Blocking(service.send, loop.wait)

    def __getattr__(self, method: str) -> Callable[..., Any]:
        if method.startswith("__"):
            raise AttributeError(method)
        return self[method]

    def __dir__(self) -> list[str]:
        """Return the methods that the service has where it runs, for completion."""
        infos = _asked(self._loop, self._client.directory)
        return ["send", "stream", *sorted({e.name for info in infos if info.name == self._name for e in info.endpoints})]

    def __repr__(self) -> str:
        return f"<Service {self._name}>"

    def __getitem__(self, method: str) -> Callable[..., Any]:
        call = self._service[method]
        return lambda *args, **kwargs: self._loop.wait(call(*args, **kwargs))


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
    loop, closing_it, unregister = LoopThread(), ExitStack(), atexit.unregister  # its module may be gone by then
    loop.start()
    closing_it.callback(loop.stop)
    atexit.register(closing_it.close)  # where nobody leaves the block: when the interpreter collects it, the thread stands still for good
    try:
        client = loop.wait(opened.__aenter__())
        closing_it.callback(lambda: loop.forked or loop.wait(opened.__aexit__(None, None, None)))
        yield Client(client, loop)
    except GeneratorExit:
        loop.closed = _DROPPED
        raise
    finally:
        unregister(closing_it.close)
        closing_it.close()


class LoopThread(threading.Thread):
    """An event loop in a thread of its own, which does what other threads wait for."""

    def __init__(self) -> None:
        super().__init__(name="cliffracer-client", daemon=True)
        self._loop = asyncio.new_event_loop()
        self._asked: set[Future[Any]] = set()
        """What is not done yet. It has no lock: the garbage collector may end iterators (`leave`) at any point of any thread."""
        self._over = False
        self.closed = _CLOSED
        """What is said to whoever asks for something afterwards."""
        self._process = os.getpid()

    @property
    def forked(self) -> bool:
        """Whether this is a forked child: the loop runs in the parent, and waiting for it would never end."""
        return os.getpid() != self._process

    def run(self) -> None:
        """Run the loop until it is stopped, and close it; threads that still wait for something, such as the next event, get an error."""
        loop = self._loop
        loop.run_forever()
        self._over = True
        loop.run_until_complete(asyncio.sleep(0))  # in which begins what was asked just before
        if left := asyncio.all_tasks(loop):
            for task in left:
                task.cancel()
            loop.run_until_complete(asyncio.wait(left, timeout=_AT_LAST))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
        for future in list(self._asked):
            _refuse(future)

    def stop(self) -> None:
        """Return when the loop is closed; at once in a forked child, which does not own it."""
        if self.forked:
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        self.join()

    def wait(self, work: Awaitable[T]) -> T:
        """Return the result; `Unavailable` once another thread has left the block."""
        future = self._ask(work)
        try:
            return future.result()
        except CancelledError:  # by `run`
            raise Unavailable(self.closed) from None
        except KeyboardInterrupt:
            future.cancel()  # Ctrl-C at the prompt gives up the call, not the connection
            raise
        except CliffracerError as error:
            # The frames in here would be most of the traceback of a script, and of no use to its reader.
            raise error.with_traceback(None)  # noqa: B904 - the same one

    def leave(self, items: Any) -> None:
        """End an iterator that nobody reads any more; without waiting if this thread itself collects it as garbage."""
        if self._over or self.forked:
            return  # `run` ends it
        if threading.current_thread() is self:
            self._ask(items.aclose())
        else:
            self.wait(items.aclose())

    def _ask(self, work: Awaitable[T]) -> "Future[T]":
        async def run() -> T:
            return await work

        asked = run()
        try:
            future = None if self._over or self.forked else asyncio.run_coroutine_threadsafe(asked, self._loop)
        except RuntimeError:  # it was closed just now
            future = None
        if future is None:
            with closing(asked), closing(cast("Coroutine[Any, Any, T]", work)):  # or they would say that nobody awaited them
                raise SetupError(_FORKED) if self.forked else Unavailable(self.closed)
        self._asked.add(future)
        future.add_done_callback(self._asked.discard)
        if self._loop.is_closed():  # just now, and `run` may not have seen it
            _refuse(future)
        return future


def _refuse(future: "Future[Any]") -> None:
    with suppress(InvalidStateError):  # it is done
        future.set_exception(Unavailable(_CLOSED))


def _asked(loop: LoopThread, directory: Directory) -> list[Info]:
    """Return the services that run; none if that cannot be asked, since completion must not fail."""
    try:
        return loop.wait(directory.known())
    except CliffracerError:
        return []


def _items(loop: LoopThread, items: Any) -> Iterator[Any]:
    try:
        while True:
            try:
                yield loop.wait(anext(items))
            except StopAsyncIteration:
                return
    finally:
        loop.leave(items)
