"""The calling side of an app: proxies of other services, and the interface of what carries the calls (`Link`)."""

import importlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from datetime import datetime, timedelta
from typing import Any, Protocol, TypedDict, TypeVar

import msgspec

from cliffracer.context import Context, current
from cliffracer.durations import seconds
from cliffracer.errors import SetupError, Unsendable
from cliffracer.events import Event
from cliffracer.wire.subjects import check_literal, check_name

T = TypeVar("T")
Yields = AsyncIterator[T] | Iterator[T]
"""The return type of a handler that streams."""
_KEPT = 1000  # methods that a proxy remembers
_LATEST = 2**63 / 1e9  # POSIX time up to which nats-server, in nanoseconds, can count
_LONGEST = 500  # bytes of an id or a key: the id of a delayed event is a part of a subject, where each may take four


class Emission(msgspec.Struct, frozen=True):
    """One event on its way out, as `emit` was asked to send it."""

    subject: str
    data: Any
    durable: bool = True
    id: str | None = None
    key: str | None = None
    delay: float | None = None
    """Seconds from now."""
    at: float | None = None
    """POSIX time."""


class EmitOptions(TypedDict, total=False):
    """What `emission` takes beside subject and data."""

    durable: bool
    id: str | None
    key: str | None
    delay: float | str | timedelta | None
    at: datetime | None


def emission(
    subject: str | Event,
    data: Any,
    *,
    durable: bool = True,
    id: str | None = None,
    key: str | None = None,
    delay: float | str | timedelta | None = None,
    at: datetime | None = None,
) -> Emission:
    """Return a checked `Emission`; ValueError for a bad subject, time or option."""
    if isinstance(subject, Event):
        if data is not None:
            raise TypeError("a typed event is its own data: emit(UserCreated(...))")
        data, name = subject, type(subject).__subject__
        if name is None:
            raise TypeError(f"{type(data).__name__} has no subject: class {type(data).__name__}(Event, subject='...')")
        subject = name
    known, mark = (id, key) if id is key is None else (_marked("id", id), _marked("key", key))
    if delay is None and at is None:  # as of most
        return Emission(check_literal(subject), data, durable, known, mark)
    if delay is not None and at is not None:
        raise ValueError("give delay or at, not both")
    if at is not None and not isinstance(at, datetime):
        raise TypeError(f"at={at!r} is no datetime: write datetime.now(timezone.utc) + ..., or delay='10m'")
    if at is not None and at.tzinfo is None:
        raise ValueError("at needs a time zone: datetime.now(timezone.utc) + ...")
    if not durable:
        raise ValueError("a delayed event is durable: leave out durable=False")
    wait, due = None if delay is None else seconds(delay), None if at is None else at.timestamp()
    if max(time.time() + (wait or 0.0), due or 0.0) > _LATEST:
        raise ValueError("an event can be put off until 2262 at most: nats-server counts no further, and would deliver it at once")
    return Emission(check_literal(subject), data, durable, known, mark, wait, due)


def _marked(what: str, given: Any) -> str | None:
    """Return an id or a key, checked as a header value now: when the outbox is relayed, there is no caller left to tell."""
    if given is None:
        return None
    text = str(given)  # a UUID or a number, too
    if not text.isprintable() or text != text.strip():
        raise Unsendable("the id and the key of an event have no control characters, line breaks, or blanks around them")
    if (size := len(text.encode())) > _LONGEST:
        raise Unsendable(f"the {what} of an event takes {_LONGEST} bytes at most, not {size}: give a digest of what is longer")
    return text


class Held(Protocol):
    """A lock of the cluster that is held."""

    token: int
    """Larger than that of every earlier holder."""


class Link(Protocol):
    """What carries calls and events: the runtime's connection, a script's client, or the testing kit's."""

    deadline: float
    """Seconds that a call may take by default."""

    def call(self, service: str, method: str, arguments: Any, *, returns: Any, timeout: float | None) -> Coroutine[Any, Any, Any]:
        """Return the reply of ``service.method``, converted to ``returns``; arguments are a dict by name or a list by position."""

    def stream(self, service: str, method: str, arguments: Any, *, returns: Any, timeout: float | None) -> AsyncIterator[Any]:
        """Yield what a streaming handler yields."""

    async def send(self, service: str, method: str, arguments: Any) -> None:
        """Hand over a durable one-way call; return once it is stored."""

    def emit(self, emission: Emission) -> Coroutine[Any, Any, str]:
        """Send an event and return its id; durable ones return once the stream has stored them."""

    def events(self, pattern: str, data: Any) -> AsyncIterator[Any]:
        """Yield events as they arrive, from now on, each replica its own copy."""

    def methods(self, service: str) -> list[str]:
        """Return the methods of a service, as far as they are known."""

    async def learn(self, service: str) -> None:
        """Look up the methods of a service by discovery, unless they are known."""

    async def idempotent(self, service: str, method: str) -> bool:
        """Say whether a method is idempotent, as its service last declared."""

    def own_token(self) -> str | None:
        """Return a token of the service itself; None if it cannot sign one."""

    async def cancel(self, event_id: str) -> bool:
        """Take back a delayed event; False if there is none with that id any more."""

    def say(self, room: str, data: Any) -> None:
        """Send something to every socket in a room, in all replicas."""

    async def enter(self, room: str, receive: Callable[[bytes], None]) -> Callable[[], Awaitable[None]]:
        """Have ``receive`` called with each message of a room, as JSON; return a function that ends that."""

    def lock(self, name: str, *, ttl: float, wait: float | None) -> AbstractAsyncContextManager[Held]:
        """Return a lock of the cluster; its ``token`` is there once it is entered."""


def loop_here() -> object:
    """Return the event loop that runs here, or None."""
    asyncio = importlib.import_module("asyncio")  # by name: declaring must not import it
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def nearest_link(links: Sequence[tuple[Link, object]]) -> Link:
    """Return the last link that was opened in the event loop that runs here, where threads have each its own; else the last."""
    here = loop_here()
    return next((link for link, loop in reversed(links) if loop is here), links[-1][0])


def arguments_of(positional: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """Return what goes over the wire: an object of named arguments, or an array of positional ones."""
    if not positional:
        return named
    if not named:
        return list(positional)
    raise TypeError("give all arguments by name, or all by position: a call carries an object or an array")


@contextmanager
def own(link: Link, name: str) -> Iterator[None]:
    """Make calls and events of the block those of the service ``name`` itself, also inside of a caller's call."""
    context = current.get() or Context(name, "", "script")
    before = current.set(context.acting(link.own_token))
    try:
        yield
    finally:
        current.reset(before)


Method = Callable[..., Coroutine[Any, Any, Any]]


class Between(Protocol):
    """What may be between a proxy and its link: retries, a breaker, a fallback."""

    def calling(self, service: str, method: str, link: Callable[[], Link], timeout: float | None) -> Method:
        """Return what a method of the proxy is: a function that calls ``service.method``."""


class Service:
    """Another service, as an object: ``await payments.charge(amount=10)``.

    ``payments.stream.report(year=2026)`` iterates what a streaming method yields, ``await payments.send.charge(amount=10)``
    is a durable one-way call. A method with a name that is taken here is reached by ``payments["send"]``.
    """

    def __init__(
        self,
        name: str,
        link: Callable[[], Link],
        *,
        timeout: float | None = None,
        allow: Callable[[str, str], None] | None = None,
        between: Between | None = None,
    ) -> None:
        self._name = check_name(name)
        self._link = link
        self._timeout = timeout
        self._between = between
        self._allow = allow
        """Raises for a method that its app has not declared to call; None where it has declared nothing."""
        self.stream = Streams(self)
        self.send = Sends(self)

    def __getattr__(self, method: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        if method.startswith("__"):
            raise AttributeError(method)
        call = self[method]
        if len(self.__dict__) < _KEPT:
            self.__dict__[method] = call  # next time it is found without `__getattr__`
        return call

    def __getitem__(self, method: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        self._check(method)
        name, link, timeout = self._name, self._link, self._timeout

        def call(*positional: Any, **named: Any) -> Coroutine[Any, Any, Any]:
            return link().call(name, method, arguments_of(positional, named) if positional else named, returns=Any, timeout=timeout)

        if self._between is not None:
            call = self._between.calling(name, method, link, timeout)
        call.__name__ = call.__qualname__ = method
        return call

    def __dir__(self) -> list[str]:
        """Return the methods of the service that discovery has found so far, for completion."""
        return ["send", "stream", *self._known()]

    def _known(self) -> list[str]:
        try:
            return self._link().methods(self._name)
        except SetupError:  # the app does not run
            return []

    def _check(self, method: str) -> None:
        check_name(method)
        if self._allow is not None:
            self._allow(self._name, method)

    def __repr__(self) -> str:
        return f"<Service {self._name}>"


class Streams:
    """The streaming methods of a service: ``async for row in payments.stream.report(year=2026)``."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def __dir__(self) -> list[str]:
        return self._service._known()  # noqa: SLF001 - its own part

    def __getattr__(self, method: str) -> Callable[..., AsyncIterator[Any]]:
        if method.startswith("__"):
            raise AttributeError(method)
        self._service._check(method)  # noqa: SLF001 - its own part
        service = self._service

        def stream(*positional: Any, **named: Any) -> AsyncIterator[Any]:
            arguments = arguments_of(positional, named)
            return service._link().stream(service._name, method, arguments, returns=Any, timeout=service._timeout)  # noqa: SLF001 - its own part

        return stream


class Sends:
    """Durable one-way calls of a service: ``await payments.send.charge(amount=10)``."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def __dir__(self) -> list[str]:
        return self._service._known()  # noqa: SLF001 - its own part

    def __getattr__(self, method: str) -> Callable[..., Coroutine[Any, Any, None]]:
        if method.startswith("__"):
            raise AttributeError(method)
        self._service._check(method)  # noqa: SLF001 - its own part
        service = self._service

        async def send(*positional: Any, **named: Any) -> None:
            await service._link().send(service._name, method, arguments_of(positional, named))  # noqa: SLF001 - its own part

        return send
