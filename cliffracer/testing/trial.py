"""An app that runs for one test: called over real RPC and HTTP, its events recorded, other services stubbed."""

import asyncio
import importlib
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, Unpack, overload

from cliffracer import embedded, runtime
from cliffracer.addresses import address_of, merged
from cliffracer.app import App
from cliffracer.calling import EmitOptions, Yields, emission
from cliffracer.client import in_thread
from cliffracer.declarations import Rpc
from cliffracer.durations import seconds
from cliffracer.errors import ServiceError, SetupError
from cliffracer.events import Event, Received
from cliffracer.frozen import Frozen
from cliffracer.messaging.broker import Parked
from cliffracer.messaging.connection import Connection
from cliffracer.messaging.hearing import hear
from cliffracer.messaging.received import received_from
from cliffracer.observability import logs
from cliffracer.resilience.resilient import DECORATED
from cliffracer.security.guards import effective
from cliffracer.settings import Settings
from cliffracer.testing.clock import MovableClock
from cliffracer.testing.due import hasten
from cliffracer.testing.isolation import forget_streams, new_namespace, own_database
from cliffracer.testing.overriding import checked
from cliffracer.testing.stubs import Stub, stubbed
from cliffracer.wire.codecs import Decoder
from cliffracer.wire.subjects import matches

if TYPE_CHECKING:  # of the extra dev: it is there where tests run, and only asked for by name
    import httpx

P = ParamSpec("P")
R = TypeVar("R")
SETTLE_WITHIN = 10.0


class Running:
    """The running app, for a test: call it, look at what it emitted, stub the services that it calls."""

    def __init__(self, apps: Sequence[App], up: runtime.Running, stack: AsyncExitStack, clock: MovableClock) -> None:
        self.app = apps[0]
        self.up = up
        self.settings = up.settings
        self.clock = clock
        """The clock of timers and retries: ``await t.clock.advance("1h")``."""
        self._stack = stack
        self._stubs: dict[tuple[str, str], Stub] = {}
        self._link: Connection = up.services[0].link
        self._seen: list[Received[Any]] = []
        self._stored: set[str] = set()
        self._methods = {each.frozen.name: {rpc.name for rpc, _ in each.frozen.of(Rpc)} for each in up.services}
        self._decoder: Decoder[Any] = Decoder(Any)
        self._http: httpx.AsyncClient | None = None

    @overload
    async def call(self, target: str, /, *args: Any, **kwargs: Any) -> Any: ...
    @overload
    async def call(self, target: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    async def call(self, target: Callable[P, Yields[R]], /, *args: P.args, **kwargs: P.kwargs) -> list[R]: ...
    @overload
    async def call(self, target: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    async def call(self, target: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Return the reply of an RPC over NATS: ``"create_user"`` of this app, ``"other.method"``, or an imported function."""
        if isinstance(target, str) and "." not in target:
            target = f"{self.app.name}.{target}"
        service, method, returns = address_of(target)
        return await self._link.call(service, method, merged(target, args, kwargs), returns=returns, timeout=None)

    @overload
    def stream(self, target: str, /, *args: Any, **kwargs: Any) -> AsyncIterator[Any]: ...
    @overload
    def stream(self, target: Callable[P, Yields[R]], /, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[R]: ...
    def stream(self, target: Any, /, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        """Yield what a streaming handler yields, over NATS."""
        if isinstance(target, str) and "." not in target:
            target = f"{self.app.name}.{target}"
        service, method, returns = address_of(target, streamed=True)
        return self._link.stream(service, method, merged(target, args, kwargs), returns=returns, timeout=None)

    async def emit(self, subject: str | Event, data: Any = None, /, **options: Unpack[EmitOptions]) -> str:
        """Emit an event as another service would, and return its id."""
        return await self._link.emit(emission(subject, data, **options))

    def token(self, subject: str, *, roles: str | Iterable[str] = (), permissions: str | Iterable[str] = (), ttl: float | str = 600) -> str:
        """Return a valid token of a user, as the app itself would issue it."""
        tokens = importlib.import_module("cliffracer.security.authority").tokens_of(self.settings)
        made: str = tokens.issue(subject, ttl=seconds(ttl), roles=roles, permissions=permissions)
        return made

    @contextmanager
    def acting(self, subject: str, *, roles: str | Iterable[str] = (), permissions: str | Iterable[str] = ()) -> Iterator[str]:
        """Use a user's identity for `call`, `stream` and `emit` while the block runs; gives the token, for ``t.http``."""
        before, self._link.token = self._link.token, self.token(subject, roles=roles, permissions=permissions)
        try:
            yield self._link.token
        finally:
            self._link.token = before

    @property
    def url(self) -> str:
        """The URL at which the app serves HTTP."""
        if not self.up.addresses:
            raise SetupError(f"{self.app.name} has no HTTP handlers, so it has no address.")
        return self.up.addresses[0]

    @property
    def http(self) -> "httpx.AsyncClient":
        """An `httpx.AsyncClient` for the app: ``(await t.http.get("/users/7")).json()``."""
        if self._http is None:
            try:
                made = importlib.import_module("httpx").AsyncClient(base_url=self.url)
            except ImportError:
                raise SetupError('t.http needs httpx: pip install "cliffracer[dev]".') from None
            self._http = made
            self._stack.push_async_callback(made.aclose)
        http: httpx.AsyncClient = self._http
        return http

    def stub(
        self,
        target: str | Callable[..., Any],
        *,
        returns: Any = None,
        raises: ServiceError | type[ServiceError] | None = None,
        calls: Callable[..., Any] | None = None,
    ) -> Stub:
        """Answer ``"payment_service.charge"`` in place of another service; the `Stub` tells what it was called with.

        One-way calls are taken as well. A method that was stubbed before is answered by the new one from now on.
        ``returns`` is the reply, ``raises`` the error, or ``calls(**arguments)`` makes either.
        """
        service, method, _ = address_of(target)
        if method in self._methods.get(service, ()):
            raise SetupError(f"{service}.{method} is served in this test, and a stub would get some of its calls only: stub what it calls.")
        address, stub = (service, method), Stub(returns, raises, calls)
        known, self._stubs[address] = address in self._stubs, stub
        if not known:
            stubbed(self.up, self._stack, service, method, lambda: self._stubs[address])
        return stub

    def emitted(self, pattern: str | type[Event] = ">") -> list[Received[Any]]:
        """Return the events that anybody emitted so far on a subject or pattern, in order; their data as plain values.

        One that is emitted again under its ``id`` is not stored, so it is not here twice.
        """
        wanted = _subject_of(pattern)
        return [event for event in self._seen if matches(wanted, event.subject)]

    async def parked(self, pattern: str | type[Event] = ">") -> list[Parked]:
        """Return the dead letters so far of a subject or pattern: what no attempt could handle, with its ``function`` and ``error``."""
        wanted = _subject_of(pattern)
        return [letter async for letter in self._link.backend.dead.ls(subject=wanted)]

    async def settled(self, within: float = SETTLE_WITHIN) -> None:
        """Return when all events have been handled (or parked: see `parked`) and nothing runs.

        What does not end ``within`` so many seconds (ten) is named by a `TimeoutError`. When nothing else is left, batches that are
        not full are handed over, whatever their own ``within`` is, and delayed events that are due by ``t.clock`` are emitted.
        """
        until = time.monotonic() + within
        while True:
            await self.up.bus.flush()  # what was emitted before has arrived
            busy = [name for service in self.up.services async for name in service.unsettled()]
            if not busy and not (self.clock.ahead and await hasten(self.up.services[0].backend, self.clock, self.settings)):
                return
            partial = [each for service in self.up.services for each in service.consumptions if each.partial]
            if len(partial) == len(busy):
                for each in partial:
                    each.hand_over()
            if time.monotonic() > until:
                hint = "An attempt that waits for the next one comes as the clock is moved: await t.clock.advance('1m')."
                raise TimeoutError(f"not settled within {within:g} s: {', '.join(busy)}. {hint}")
            await asyncio.sleep(0.01)

    def _record(self, subject: bytes, reply: bytes, block: bytes | None, payload: bytes) -> None:
        event = received_from(self._link.subjects, subject, block, self._decoder.decode(payload) if payload else None)
        if reply and event.id:  # one that its stream answers for
            if event.id in self._stored:
                return
            self._stored.add(event.id)
        self._seen.append(event)

    async def watch(self) -> None:
        """Record every event from now on."""
        await hear(self.up.bus, self._link.subjects, ">", self._record)
        await self.up.bus.flush()


@asynccontextmanager
async def running(
    *apps: App, overrides: Mapping[Any, Any] | None = None, settings: Settings | None = None, **fields: Any
) -> AsyncIterator[Running]:
    """Run apps for one test, on real embedded servers, with a namespace and a database of its own.

    ``overrides`` replaces what is provided, by type: ``{Mailer: FakeMailer()}``. ``fields`` are settings, such as ``deadline=1``;
    ``settings`` takes whole ones, servers included. What the environment and ``.env`` say of servers is left alone: a test
    writes, and must not write there.
    """
    _refuse_trio()
    if strange := [app for app in apps if not isinstance(app, App)]:
        raise SetupError(f"running(app, other) takes apps, and {strange[0]!r} is none.")
    if settings is not None and fields:
        raise SetupError(f"running(settings=...) takes whole settings: put {', '.join(fields)} into them.")
    frozen = [app.freeze() for app in apps]
    replaced = checked(overrides, frozen)
    async with AsyncExitStack() as stack:
        clock = MovableClock()
        DECORATED.forget(clock.now)
        given = settings if settings is not None else await _embedded(frozen, stack, fields)
        logs.configure_tests(given)
        up = await stack.enter_async_context(runtime.running(apps, given, overrides=replaced, clock=clock))
        if settings is None:
            stack.push_async_callback(forget_streams, up.bus, given.namespace)
        async with AsyncExitStack() as inner:
            found = Running(apps, up, inner, clock)
            await found.watch()
            yield found


def _subject_of(pattern: str | type[Event]) -> str:
    subject = pattern if isinstance(pattern, str) else getattr(pattern, "__subject__", None)
    if not subject:
        raise SetupError(f"{getattr(pattern, '__name__', repr(pattern))} has no subject: give one, a pattern, or an Event with subject=.")
    return str(subject)


def _refuse_trio() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        raise SetupError(
            "Apps run on asyncio, and this test does not: "
            'anyio runs each test on trio, too, unless a fixture called anyio_backend returns "asyncio".'
        ) from None


def _models(frozen: Sequence[Frozen]) -> list[Any]:
    appdatabase = importlib.import_module("cliffracer.appdatabase")  # only tests with a database pay for importing it
    found: list[Any] = appdatabase.models_of(frozen)
    return found


async def _embedded(frozen: Sequence[Frozen], stack: AsyncExitStack, fields: Mapping[str, Any]) -> Settings:
    database = any(each.needs_database for each in frozen)
    namespace = new_namespace()
    urls = await in_thread(stack, lambda: embedded.servers(database=database))
    mine = await stack.enter_async_context(own_database(urls.database_url, _models(frozen))) if urls.database_url else None
    servers: dict[str, Any] = {"nats_url": urls.nats_url, "database_url": mine}
    if any(each.needs_http for each in frozen):
        servers["http_port"] = 0
    declared = [declared for each in frozen for declared in each.declared]
    ruled = any(effective(each.record.function, each.signature, required=bool(fields.get("auth_required"))) for each in declared)
    if ruled and not fields.keys() & {"auth_secret_key", "auth_keys", "oidc_issuer"}:
        servers["auth_secret_key"] = secrets.token_urlsafe(48)
    return Settings(**{"env": "test", "namespace": namespace, "http_host": "127.0.0.1", "drain": 5.0, **servers, **fields})
