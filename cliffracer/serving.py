"""One app on the wire: its endpoints on the bus, from subscribed to drained."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterable
from contextlib import AsyncExitStack, suppress
from functools import partial
from typing import Any

from cliffracer.app import App
from cliffracer.assembly import Assembly
from cliffracer.calling import Emission
from cliffracer.clock import SYSTEM, Clock
from cliffracer.context import current, new_id
from cliffracer.contract import contract
from cliffracer.cron import Cron
from cliffracer.declarations import Leader as LeaderRecord
from cliffracer.declarations import Rpc, Subscription, failed_at_start, where
from cliffracer.declarations import Timer as TimerRecord
from cliffracer.detail import detail
from cliffracer.errors import CliffracerError, Internal, NotFound
from cliffracer.frozen import Frozen
from cliffracer.handler import Handler, Rules
from cliffracer.injection import Injector
from cliffracer.introspection import metadata_of, schemas_of
from cliffracer.invoke import check_done, invoke
from cliffracer.messaging.backend import JetStreamBackend
from cliffracer.messaging.broker import Method
from cliffracer.messaging.bus import Bus
from cliffracer.messaging.connection import Connection, stored_by
from cliffracer.messaging.consumption import Consumption
from cliffracer.messaging.discovery import Discovery
from cliffracer.messaging.duties import Lasting, Leading, Ticking
from cliffracer.messaging.events import EventEndpoint, by_function
from cliffracer.messaging.jetstream import JetStream
from cliffracer.messaging.methods import RpcServer
from cliffracer.messaging.plans import At, Every, LocalTimer
from cliffracer.messaging.rates import Allowances
from cliffracer.messaging.sends import Sends
from cliffracer.messaging.timers import Timer
from cliffracer.messaging.traced import TracedConnection
from cliffracer.observability.calls import CallLog
from cliffracer.observability.health import Health
from cliffracer.observability.stats import LASTING
from cliffracer.observability.tracing import tracing
from cliffracer.resilience.deadlines import tell_unfinished
from cliffracer.settings import Settings
from cliffracer.signature import read
from cliffracer.transactional import Transactional
from cliffracer.wire.headers import Headers
from cliffracer.wire.subjects import Subjects


class Service:
    """A running app: its endpoints, and the link that its own calls go through."""

    def __init__(  # noqa: PLR0917 - made in one place
        self,
        app: App,
        frozen: Frozen,
        bus: Bus,
        settings: Settings,
        injector: Injector,
        calls: CallLog | None = None,
        database: Transactional | None = None,
        clock: Clock = SYSTEM,
        rules: Rules | None = None,
    ) -> None:
        self.app = app
        self.frozen = frozen
        self.id = new_id()
        traced = tracing(frozen.name, frozen.version)
        self.assembly = Assembly(
            frozen, injector, limit=settings.limit, deadline=settings.deadline, calls=calls, rules=rules, tracing=traced
        )
        self.injector = injector
        self.subjects = Subjects(settings.namespace)
        self.jetstream = JetStream(bus)
        self.backend = JetStreamBackend(self.jetstream, self.subjects, clock=clock)
        self.assembly.take = Allowances(self.backend, clock.now).take
        self._database = database
        link = Connection if traced is None else partial(TracedConnection, tracing=traced)
        self.link = link(bus, self.subjects, name=frozen.name, deadline=settings.deadline, store=self.store, backend=self.backend)
        self.link.spans = self.assembly.spans
        self.assembly.link = self.link
        self.assembly.guards = app.guards
        self.health = Health(frozen.name)
        """The health of this process, shared by all its services; set by the runtime."""
        self._clock = clock
        self._bus = bus
        self._settings = settings
        self._rpc = RpcServer(bus, self.subjects, frozen.name, self.assembly.watch, patience=settings.deadline)
        self._events: list[EventEndpoint] = []
        self.consumptions: list[Consumption] = []
        self._timers: list[Ticking] = []
        self._leaders: list[Leading] = []
        self._sends: Sends | None = None
        self._discovery: Discovery | None = None
        self._until: float | None = None

    async def open(self, stack: AsyncExitStack) -> None:
        """Make providers and handlers, attach the app to its link, and run its start-up hooks."""
        if self.frozen.cached:
            from cliffracer.appcache import app_cache  # noqa: PLC0415 - only who keeps answers pays for importing it

            transaction = _none if self._database is None else self._database.transaction
            await stack.enter_async_context(app_cache(self.app, self.frozen, self._bus, self._settings, self._clock, transaction))
        self.app.guards.forget(*([self._clock.now] if self._clock.movable else []))
        await self.injector.open(stack)
        self.assembly.assemble()
        stack.callback(self.assembly.threads.close)
        stack.enter_context(self.app.attached(self.link))
        for hook in self.frozen.startup:
            try:
                await self.assembly.hook(hook, read(hook))
            except Exception as error:  # whatever a hook of the user's raises: the start ends, and names it
                if isinstance(error, CliffracerError) and not isinstance(error, Internal):
                    raise
                raise failed_at_start(hook, error) from error

    async def subscribe(self) -> None:
        """Take requests and events from now on; a flush of the bus makes sure that the server knows."""
        for record, declared, handler in self.assembly.of(Rpc):
            assert declared.signature is not None  # the app is frozen
            self._rpc.add(record, declared.signature, handler)
        self._events = self.subscribers()
        self.consumptions = [self._consumption(endpoints) for endpoints in by_function(self._events)]
        self._timers = [self._timer(record, handler) for record, _, handler in self.assembly.of(TimerRecord)]
        self._leaders = [self._leader(record, handler) for record, _, handler in self.assembly.of(LeaderRecord)]
        self.assembly.consumers = self.consumptions
        await _started(self.consumptions)
        heard: dict[Any, list[str]] = {}
        for endpoint in self._events:
            if not endpoint.record.durable:
                others = heard.setdefault(endpoint.record.function, [])
                await endpoint.start(self.frozen.name, tuple(others))
                others += [endpoint.record.subject] if endpoint.record.each else []
        await self._rpc.start()
        if self._rpc.endpoints:
            methods = {
                endpoint.record.name: Method(endpoint.handle, endpoint.record.retry, where(endpoint.record.function))
                for endpoint in self._rpc.endpoints
            }
            self._sends = self.backend.sends(self.frozen.name, methods)
            await self._sends.start()
        await _started(self._lasting)
        self._discovery = self._described()
        await self._discovery.start()

    def subscribers(self) -> list[EventEndpoint]:
        """Return an endpoint for each subscription of a function."""
        found: list[EventEndpoint] = []
        for record, declared, handler in self.assembly.of(Subscription):
            assert declared.signature is not None  # the app is frozen
            once = each_once = None
            if record.once:
                assert self._database is not None  # opened, since something is handled once
                once, each_once = self._database.once, self._database.each_once
            found.append(EventEndpoint(record, declared.signature, handler, self._bus, self.subjects, once=once, each_once=each_once))
        return found

    async def drain(self, seconds: float) -> None:
        """Take nothing new, let accepted work finish within ``seconds``, then end what is left: every caller gets a reply."""
        loop = asyncio.get_running_loop()
        self._until = until = loop.time() + seconds
        watch = self.assembly.watch
        telling = loop.call_at(until, tell_unfinished, [watch], f"after {seconds:g} s")  # before anybody ends them
        if self._discovery is not None:
            await self._discovery.close()
        await asyncio.gather(
            self._rpc.stop_intake(),
            *(endpoint.stop_intake() for endpoint in self._events),
            *(consumption.drain(seconds) for consumption in self.consumptions),
            *(each.drain(seconds) for each in self._lasting),
            *([self._sends.drain(seconds)] if self._sends is not None else []),
        )
        await self._idle(until)
        telling.cancel()
        for context in list(watch.running):
            watch.end(context, "stopping")
        await self._idle(until + 1.0)

    async def _idle(self, until: float) -> None:
        """Return when nothing runs, or at ``until``; polled, since a notification would cost every call."""
        loop = asyncio.get_running_loop()
        while self.busy and loop.time() < until:  # noqa: ASYNC110 - as said
            await asyncio.sleep(0.01)

    async def finish(self) -> None:
        """Stop answering the other services of this process, which have all been drained by now."""
        await self._rpc.close()

    async def close(self) -> None:
        """Run the shutdown hooks, within what is left of the time to drain."""
        await self.assembly.shut_down(self._until or asyncio.get_running_loop().time() + self._settings.drain)

    @property
    def _lasting(self) -> list[Lasting]:
        return [*self._timers, *self._leaders]

    @property
    def stuck(self) -> list[str]:
        """Return the consumers that cannot be resumed, of events, timers and one-way calls: nothing of theirs is handled."""
        timers = [timer.consumption for timer in self._timers if isinstance(timer, Timer)]
        sends = [] if self._sends is None or self._sends.consumption is None else [self._sends.consumption]
        return [one.pull.consumer for one in (*self.consumptions, *timers, *sends) if one.pull.trouble]

    @property
    def inside(self) -> dict[str, str]:
        """Return the subjects on which this process reaches its own methods, by ``service.method``, also while it refuses outside calls."""
        names = [record.name for record, _ in self.frozen.of(Rpc)]
        return {f"{self.frozen.name}.{name}": f"{self._rpc.local}{name}" for name in names}

    @property
    def busy(self) -> int:
        """How many calls and events have been accepted and are not finished."""
        return self._rpc.busy + sum(endpoint.busy for endpoint in self._events) + len(self.assembly.watch.running)

    async def unsettled(self) -> AsyncIterator[str]:
        """Yield the names of what is being handled, and of consumers that have not handled all that is stored for them."""
        running = self.busy - sum(context.kind in LASTING for context in self.assembly.watch.running)
        if running:
            yield f"{self.frozen.name}: {running} running"
        if self._database is not None and (committed := await self._database.waiting()):
            yield f"outbox: {committed} waiting"
        for timer in self._timers:
            if await _asked(timer.due()):
                yield f"timer {timer.name}"
        if self._sends is not None and (sent := await self._sends.stored()):
            yield f"one-way calls of {self.frozen.name}: {sent} waiting"
        for consumption in self.consumptions:
            if waiting := await _asked(consumption.waiting()):
                yield f"{consumption.function}: {waiting} waiting"

    async def store(self, emission: Emission, subject: str, payload: bytes, headers: Headers) -> None:
        """Store a durable message in its stream, within what is left of the call's time."""
        if emission.delay is not None or emission.at is not None:
            self.backend.check_schedules()  # now: who relays a committed outbox could tell nobody
        if self._database is not None and await self._database.joined(emission, subject, payload, headers):
            return
        context = current.get()
        left = None if context is None else context.remaining()
        await stored_by(self.backend, emission, subject, payload, headers, timeout=self._settings.deadline if left is None else left)

    def _consumption(self, endpoints: list[EventEndpoint]) -> Consumption:
        endpoint, record = endpoints[0], endpoints[0].record
        shown = where(record.function)
        return self.backend.consume(
            self.frozen.name,
            record.function.__name__,
            [one.record.subject for one in endpoints],
            endpoint.handle_batch if record.batch else endpoint.handle,
            retry=record.retry,
            limit=record.limit,
            start=record.start,
            ordered=record.ordered,
            batch=record.batch,
            within=record.within,
            group=record.group,
            name_of=lambda _: shown,
            watch=self.assembly.watch,
        )

    def _timer(self, record: TimerRecord, handler: Handler) -> Ticking:
        run = partial(_run, handler)
        plan = At(Cron(record.cron, record.tz)) if record.cron else Every(record.every or 0.0)
        name = record.function.__name__
        if record.each:
            return LocalTimer(name, plan, run, clock=self._clock)
        return self.backend.timer(self.frozen.name, name, plan, run, missed=record.missed)

    def _leader(self, record: LeaderRecord, handler: Handler) -> Leading:
        return self.backend.leader(self.frozen.name, record.function.__name__, partial(_run, handler), ttl=record.ttl)

    async def _detailed(self) -> dict[str, Any]:
        return await detail(self.assembly, self.health, self._settings, self._timers)

    def _described(self) -> Discovery:
        return Discovery(
            self._bus,
            self.subjects,
            name=self.frozen.name,
            id=self.id,
            version=self.frozen.version,
            description=self.frozen.description,
            endpoints=self._rpc.endpoints,
            schemas=schemas_of(self.assembly),
            metadata=metadata_of(self.frozen, self._settings.env, [*self.consumptions, *([self._sends] if self._sends else [])]),
            spans=self.assembly.spans,
            others=[handler for declared, handler in self.assembly.handlers if not isinstance(declared.record, Rpc)],
            contract=lambda: contract(self.frozen, self.link.emitted, self.link.called),
            detail=self._detailed,
        )


async def _asked(answer: Awaitable[int]) -> int:
    """Return an answer about a consumer; 1, so that it is asked again, while that is gone and not made again yet."""
    with suppress(NotFound):
        return await answer
    return 1


def _none() -> None:
    return None


async def _started(parts: Iterable[Consumption | Lasting]) -> None:
    """Start them side by side; if one fails, all others have ended before it is raised, so that none starts after the stop."""
    starting = [asyncio.ensure_future(part.start()) for part in parts]
    try:
        await asyncio.gather(*starting)
    finally:
        for task in starting:
            task.cancel()
        await asyncio.gather(*starting, return_exceptions=True)


async def _run(handler: Handler) -> None:
    """Call a function that takes nothing from a caller."""
    handler.gate.admit(None)
    check_done(handler, context := handler.context(), await invoke(handler, context, ()))
