"""The only place that knows the order of things: what starts after what, and what stops before what.

Start: bind, NATS, database, providers, start-up hooks, subscriptions, HTTP, ready. Stop: readiness fails, intake ends,
accepted work finishes, HTTP closes, shutdown hooks, providers close, the NATS connection goes last (closing it first loses replies).
"""

import asyncio
import importlib
import socket
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

from cliffracer.app import App
from cliffracer.clock import SYSTEM, Clock
from cliffracer.declarations import Subscription, refuse
from cliffracer.errors import SetupError, Unavailable
from cliffracer.frozen import Frozen
from cliffracer.injection import Injector
from cliffracer.messaging.backend import JetStreamBackend
from cliffracer.messaging.bus import Bus, connect
from cliffracer.messaging.jetstream import JetStream
from cliffracer.messaging.ownbuckets import own_buckets
from cliffracer.messaging.revocations import revoking
from cliffracer.messaging.tickets import OnceOnly
from cliffracer.observability.blocking import watching
from cliffracer.observability.calls import CallLog
from cliffracer.observability.health import KEPT, Health
from cliffracer.observability.tracing import flush
from cliffracer.providers import key_of
from cliffracer.resilience.guard import Guards
from cliffracer.resilience.resilient import DECORATED
from cliffracer.runtimevalues import IDENTITY, values_of
from cliffracer.security.guards import policy_of
from cliffracer.serving import Service
from cliffracer.settings import Settings
from cliffracer.shielding import uninterrupted
from cliffracer.signature import Signature, dotted, read
from cliffracer.wire.subjects import Subjects, inbox_prefix

if TYPE_CHECKING:  # types of what only some apps use, and only they import
    from cliffracer.appdatabase import AppDatabase
    from cliffracer.security.access import Witness
    from cliffracer.security.authority import Authority
    from cliffracer.security.enforcement import Enforcement


class Running:
    """What is being served, for those who start it and want to look inside: the command line and tests."""

    def __init__(self, settings: Settings, bus: Bus, services: list[Service], health: Health, sockets: list[socket.socket]) -> None:
        self.settings = settings
        self.bus = bus
        self.services = services
        self.health = health
        self.sockets = sockets

    @property
    def addresses(self) -> list[str]:
        """Where HTTP is served, such as ``http://127.0.0.1:8000``; empty without HTTP."""
        return [url_of(bound) for bound in self.sockets]


@asynccontextmanager
async def running(
    apps: App | Sequence[App],
    settings: Settings | None = None,
    *,
    overrides: Mapping[Any, Any] | None = None,
    sockets: Sequence[socket.socket] | None = None,
    clock: Clock = SYSTEM,
    doors: bool = True,
) -> AsyncIterator[Running]:
    """Serve apps while the block runs: everything is up when it is entered and finished when it is left.

    Without ``settings`` they are loaded. ``clock`` is what timers and retries go by, ``sockets`` those bound by the caller for HTTP.
    Without ``doors`` nobody else reaches the handlers: providers and connections are there, no subscription, no HTTP.
    Raises `SetupError` for a mistake in the declarations, `Unavailable` when a server is away for ``settings.wait`` s.
    """
    settings, served = settings or Settings.load(), [apps] if isinstance(apps, App) else list(apps)
    frozen = [app.freeze() for app in served]
    names = _checked_names(frozen)
    rules = _rules(frozen, settings)
    authority = None if rules is None else rules.authority
    async with AsyncExitStack() as stack:
        bound = list(sockets) if sockets is not None else bind(frozen, settings) if doors else []
        for each in bound:
            stack.callback(each.close)
        health = Health(", ".join(names), keeps=settings.env != "test")
        bus = await connect(settings, name="+".join(names), inbox_prefix=inbox_prefix(settings.namespace, names))
        stack.push_async_callback(bus.close)
        health.add("nats", lambda: bus.connected)
        database = await _database(served, frozen, settings, stack, health)
        backend = JetStreamBackend(JetStream(bus), Subjects(settings.namespace), clock=clock)
        built_in = values_of(settings, backend, database, rules)
        stack.enter_context((calls := CallLog.of(settings)) or nullcontext())
        services = [
            Service(app, f, bus, settings, Injector(f.providers, built_in, overrides or {}), calls, database, clock, rules)
            for app, f in zip(served, frozen, strict=True)
        ]
        stack.push_async_callback(flush, [service.assembly.tracing for service in services])
        if authority is not None:
            await _identified(authority, services, settings, stack)  # before start-up hooks, which may call others
        await _opened(services, health, stack)
        await backend.reconcile(own_buckets(frozen, identified=authority is not None))
        _add_checks(health, services)
        if database is not None:
            await stack.enter_async_context(database.relaying(services[0].backend))
        if doors:
            await stack.enter_async_context(_served(services, settings, bound, health))
        if settings.env == "development":  # only now: a start imports, which holds the loop and is nobody's mistake
            stack.enter_context(watching(asyncio.get_running_loop()))
        yield Running(settings, bus, services, health, bound)


async def _opened(services: list[Service], health: Health, stack: AsyncExitStack) -> None:
    """Open services, which reach each other inside of this process."""
    inside = {name: subject for service in services for name, subject in service.inside.items()}
    for service in services:
        service.link.locals, service.health = inside, health
        await service.open(stack)
        stack.push_async_callback(service.close)


@asynccontextmanager
async def _served(services: list[Service], settings: Settings, bound: list[socket.socket], health: Health) -> AsyncIterator[None]:
    """Open the doors, and close them in the order that loses nothing."""
    async with AsyncExitStack() as stack:
        try:
            for service in services:
                await service.subscribe()
            await services[0].link.bus.flush()
            http = await stack.enter_async_context(_http(services, settings, bound, health)) if bound else None
            health.ready = True
            yield
        finally:
            health.draining = True
            if health.ready and http is not None:
                http.drain_start()
            await uninterrupted(asyncio.gather(stack.aclose(), *(service.drain(settings.drain) for service in services)))
            await asyncio.gather(*(service.finish() for service in services))


def _http(services: list[Service], settings: Settings, bound: list[socket.socket], health: Health) -> AbstractAsyncContextManager[Any]:
    site = importlib.import_module("cliffracer.web.site")  # only apps with HTTP pay for importing it
    server = importlib.import_module("cliffracer.web.server")
    application = site.application([service.assembly for service in services], settings, health)
    serving: AbstractAsyncContextManager[Any] = server.serving(application, bound, settings)
    return serving


def _checked_names(frozen: Sequence[Frozen]) -> list[str]:
    names = [f.name for f in frozen]
    for name in names:
        if names.count(name) > 1:
            raise SetupError(f"two apps are called {name}: each needs a name of its own, or run the second as another process.")
    if not names:
        raise SetupError("there is no app to run.")
    return names


def bind(frozen: Sequence[Frozen], settings: Settings) -> list[socket.socket]:
    """Return the listening sockets that apps need: none without HTTP, unless a port was set (then for health)."""
    if not any(f.needs_http for f in frozen) and not settings.given("http_port"):
        return []
    server = importlib.import_module("cliffracer.web.server")  # only apps with HTTP pay for importing it
    return [server.bind(settings.http_host, settings.http_port)]


async def _database(
    apps: Sequence[App], frozen: Sequence[Frozen], settings: Settings, stack: AsyncExitStack, health: Health
) -> "AppDatabase | None":
    """Open the database if anything asks for it."""
    if not any(f.needs_database for f in frozen):
        return None
    appdatabase = importlib.import_module("cliffracer.appdatabase")  # only apps with a database pay for importing it
    opened: AppDatabase = await stack.enter_async_context(appdatabase.opened([app.databases for app in apps], frozen, settings, health))
    return opened


async def _identified(authority: "Authority", services: Sequence[Service], settings: Settings, stack: AsyncExitStack) -> None:
    """Let services act on their own behalf, and know at once which tokens are revoked."""
    bus, backend, apply = services[0].link.bus, services[0].backend, authority.revocations.apply
    revoked = revoking(bus, backend, settings.namespace, apply, within=max(1.0, settings.wait))
    authority.publish, authority.revoked = await stack.enter_async_context(revoked)
    if authority.grant is not None:
        await stack.enter_async_context(authority.grant.kept())
    authority.tickets = OnceOnly(backend, str)
    for service in services:
        service.link.identify = partial(authority.own_token, service.frozen.name)
        service.link.prove = authority.provenance.onward
        service.link.lasting = authority.lasting


def _rules(frozen: Sequence[Frozen], settings: Settings) -> "Enforcement | Witness | None":
    """Return what enforces who may call; None if nothing asks, so that nobody pays for it."""
    made: Enforcement | Witness | None = None
    for each in frozen:
        handlers = {d.record.function for d in each.declared}
        of_groups = (function for declared in each.declared for function in declared.middlewares)
        for function in (*each.others, *each.middlewares, *each.accesses, *of_groups):
            if function not in handlers and policy_of(function) is not None:
                raise refuse(function, "a rule guards handlers, and this is none: it would do nothing here", "Put it on the handlers.")
    asked = settings.auth_required or settings.recognises
    if not asked and all(policy_of(d.record.function) is None and not _identifies(d.signature) for f in frozen for d in f.declared):
        if any(f.accesses for f in frozen):
            made = importlib.import_module("cliffracer.security.access").Witness(frozen)
    else:  # cryptography is slow to import
        made = importlib.import_module("cliffracer.security.enforcement").enforcement(frozen, settings)
    return made


def _identifies(signature: Signature | None) -> bool:
    return signature is not None and any(dotted(key_of(p.annotation)) == IDENTITY for p in signature.needs)


def _add_checks(health: Health, services: Sequence[Service]) -> None:
    health.add("events", partial(_stored, services), critical=False, kept=KEPT)  # an app's own of that name takes its place
    names = Counter(check.name for service in services for check in service.frozen.checks)
    for service in services:
        for check in service.frozen.checks:
            name = check.name if names[check.name] == 1 else f"{service.frozen.name} {check.name}"  # another app of this process has it too
            health.add(name, partial(service.assembly.hook, check.function, read(check.function)), critical=check.critical)
    guards = [DECORATED, *(service.app.guards for service in services)]
    if any(one.breaks for one in guards):
        health.add("breakers", partial(_closed, guards), critical=False)


async def _stored(services: Sequence[Service]) -> bool:
    """Raise `Unavailable` where events are not stored or not taken; their stream is asked for where an app reads it: it may."""
    for service in services:
        if stuck := service.stuck:
            raise Unavailable(f"{', '.join(stuck)} cannot be resumed")
        await service.backend.takes(asked=any(record.durable for record, _ in service.frozen.of(Subscription)))
    return True


def _closed(guards: Sequence[Guards]) -> bool:
    """Raise `Unavailable` with what is broken off, by an app or a function of this process."""
    if troubles := [words for one in guards for words in one.troubles()]:
        raise Unavailable("; ".join(troubles))
    return True


def url_of(bound: socket.socket) -> str:
    """Return the URL of a listening socket."""
    host, port = bound.getsockname()[:2]
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104 - shown, not bound
    return f"http://{shown}:{port}"
