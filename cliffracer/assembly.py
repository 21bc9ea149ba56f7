"""Turns declarations into `Handler`s: providers found, middleware folded, limits made, once at start."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial
from types import CoroutineType
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from loguru import logger

from cliffracer.calling import Link
from cliffracer.checking import Declared
from cliffracer.context import owner
from cliffracer.declarations import (
    Function,
    Leader,
    Record,
    Route,
    Socket,
    Subscription,
    Timer,
    failed_at_stop,
    surrounded,
    unawaited,
    where,
)
from cliffracer.errors import CliffracerError
from cliffracer.frozen import Frozen
from cliffracer.handler import Call, Deliver, Handler, Rules, Step
from cliffracer.injection import Injector, Wants
from cliffracer.observability.calls import CallLog
from cliffracer.observability.spans import Spans
from cliffracer.observability.stats import LASTING
from cliffracer.observability.tracing import Tracing
from cliffracer.resilience.deadlines import Watch
from cliffracer.resilience.gate import Gate
from cliffracer.resilience.guard import Guards
from cliffracer.resilience.rates import Take, limited
from cliffracer.resilience.threads import Threads
from cliffracer.signature import Signature, read

if TYPE_CHECKING:  # a type of what is imported when metrics are read
    from cliffracer.observability.metrics import Consumer

KINDS: dict[str, str] = {
    "Rpc": "rpc",
    "Subscription": "event",
    "Route": "http",
    "Socket": "websocket",
    "Timer": "timer",
    "Leader": "leader",
}
T = TypeVar("T")
_LEAST = 1.0  # seconds that each shutdown hook has at least, even if draining took all the time
ENDLESS = 10_000
"""How many sockets, or HTTP streams, of one handler may be open at once by default."""


class Assembly:
    """Makes the handlers of one running app; they share its watch and threads, and a function's gate is its own."""

    def __init__(
        self,
        frozen: Frozen,
        injector: Injector,
        *,
        limit: int,
        deadline: float,
        calls: CallLog | None = None,
        rules: Rules | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        self.tracing = tracing
        """Makes OpenTelemetry spans of calls; None where no exporter is set."""
        self.frozen = frozen
        self.injector = injector
        self.limit = limit
        self.deadline = deadline
        self.calls = calls
        self.rules = rules
        """Who may call; None where everybody may, and nobody is told."""
        self.take: Take | None = None
        """Takes calls from the allowances that rates give."""
        self.guards = Guards()
        """Retries and breakers of the services that the app calls."""
        self.link: Link | None = None
        """What carries the app's own calls and events; None where nothing is connected."""
        self.watch = Watch()
        self.spans = Spans()
        self.threads = Threads()
        self.handlers: list[tuple[Declared, Handler]] = []
        self._gates: dict[tuple[Any, ...], Gate] = {}
        self.consumers: Sequence[Consumer] = ()
        """Those of durable events, for metrics."""

    def assemble(self) -> None:
        """Make every handler; the providers must be open."""
        self.handlers = [(declared, self.handler(declared)) for declared in self.frozen.declared]

    def of(self, kind: type[T]) -> list[tuple[T, Declared, Handler]]:
        """Return the records of one kind, each with its declaration and handler."""
        return [(d.record, d, handler) for d, handler in self.handlers if isinstance(d.record, kind)]

    def handler(self, declared: Declared) -> Handler:
        """Return the handler of a declaration; `SetupError` if something it needs is not there for its kind of call."""
        record, signature = declared.record, declared.signature
        assert signature is not None  # the app is frozen
        kind = KINDS[type(record).__name__]
        wants = self.injector.wants(signature, kind)
        function = surrounded(record.function)
        if function is not record.function:
            signature = msgspec.structs.replace(signature, function=function)
        handler = Handler(
            function,
            service=self.frozen.name,
            name=getattr(record, "name", record.function.__name__),
            kind=kind,
            gate=self._gate_of(record, signature),
            watch=self.watch,
            deadline=self._deadline_of(record, signature),
            constants=wants.constants,
            mappings={mapping.error: mapping.function for mapping in (*self.frozen.mappings, *declared.mappings)},
            run=self._way(declared, signature, wants),
            call=partial(self.threads.run, record.function) if signature.kind == "sync" else None,
            calls=self.calls,
            spans=self.spans,
            guarded=self.rules is not None and self.rules.policy(record) is not None,
            entry=None if self.rules is None else self.rules.entry(record, signature),
            failed=None if self.tracing is None else self.tracing.failed,
        )
        handler.stats.lasting = kind in LASTING or signature.streams
        return handler

    async def hook(self, function: Function, signature: Signature) -> Any:
        """Run a start-up hook, shutdown hook or health check with its providers."""
        named = self.injector.wants(signature, "hook").constants
        before = owner.set(self.frozen.name)
        try:
            result = await (function(**named) if signature.kind == "async" else self.threads.run(function, **named))
            if type(result) is CoroutineType:
                raise unawaited(function, result)
            return result
        finally:
            owner.reset(before)

    async def shut_down(self, until: float) -> None:
        """Run the shutdown hooks, in reverse order of declaration, until then; each has a second at least.

        The first that fails is raised once all have run, others are in the log.
        """
        loop, failed = asyncio.get_running_loop(), list[CliffracerError]()
        for hook in reversed(self.frozen.shutdown):
            try:
                async with asyncio.timeout(max(until - loop.time(), _LEAST)) as patience:
                    await self.hook(hook, read(hook))
            except Exception as error:  # noqa: BLE001 - whatever a hook of the user's raises, the others run, and who stops is told
                if isinstance(error, TimeoutError) and patience.expired():
                    logger.warning("{} was ended: the time to stop (drain) is over", where(hook))
                elif failed:
                    logger.opt(exception=error).error("{} failed at the stop", where(hook))
                else:
                    failed.append(failed_at_stop(hook, error))
                    failed[0].__cause__ = error
        if failed:
            raise failed[0]

    def _gate_of(self, record: Record, signature: Signature) -> Gate:
        if isinstance(record, Timer | Leader):
            return Gate(1)
        if isinstance(record, Socket) or (isinstance(record, Route) and signature.streams):
            gate = Gate(record.limit or ENDLESS, 0)  # they last as long as their client likes: there is no waiting behind one
        else:
            gate = Gate(record.limit or self.limit)
        if isinstance(record, Route):
            return self._gates.setdefault((id(record.function), record.path, record.siblings), gate)
        return gate

    def _deadline_of(self, record: Record, signature: Signature) -> float | None:
        own: float | None = getattr(record, "deadline", None)
        if own is not None or isinstance(record, Subscription | Timer | Leader) or signature.streams or isinstance(record, Socket):
            return own  # events and streams take the time they need, unless told otherwise
        return self.deadline

    def _way(self, declared: Declared, signature: Signature, wants: Wants) -> Step | None:
        record, middlewares = declared.record, (*self.frozen.middlewares, *declared.middlewares)
        socket = isinstance(record, Socket)
        rules = self.rules if self.rules is not None and self.rules.surrounds(record) else None
        rate = getattr(record, "rate", None)
        around = (middlewares, socket, rules is not None, rate is not None, self.tracing is not None)
        if signature.kind in {"async", "sync"} and wants.constant and not any(around):
            return None
        step: Step = partial(_enter, signature, wants, self.threads)
        if socket:
            step = partial(_opened, step)
        for middleware in reversed(middlewares):
            step = _wrapped(middleware, step)
        if rate is not None:
            assert self.take is not None  # set before handlers are made
            step = limited(rate, f"{self.frozen.name}.{record.function.__name__}", self.take, step)
        if rules is not None:
            step = rules.step(record, signature, step)  # outside: middleware knows who calls, too
        if self.tracing is not None:
            step = self.tracing.step(record, step)
        return step


def _wrapped(middleware: Function, inner: Step) -> Step:
    async def step(call: Call) -> Any:
        result = await middleware(call.context, partial(inner, call))
        if type(result) is CoroutineType:  # of `proceed`, most likely: its handler has not run
            raise unawaited(middleware, result)
        return result

    return step


async def _opened(inner: Step, call: Call) -> Any:
    """Accept a socket once middleware has let it in; until then a refusal is an HTTP answer."""
    await call.source.open()
    return await inner(call)


async def _enter(signature: Signature, wants: Wants, threads: Threads, call: Call) -> Any:
    """Call the user's function with what it is provided, in the way of its kind."""
    if wants.scoped:
        async with AsyncExitStack() as stack:
            return await _run(signature, threads, call, await wants.fill(call, stack))
    named = dict(wants.constants)
    for name, get in wants.direct:
        named[name] = get(call)
    if signature.kind == "async":
        return await signature.function(*call.arguments, **named)
    return await _run(signature, threads, call, named)


async def _run(signature: Signature, threads: Threads, call: Call, named: dict[str, Any]) -> Any:
    function = signature.function
    if signature.kind == "async":
        return await function(*call.arguments, **named)
    if signature.kind == "sync":
        return await threads.run(function, *call.arguments, **named)
    items = function(*call.arguments, **named)
    if signature.kind == "sync_stream":
        items = threads.items(items)
    deliver = call.deliver
    assert deliver is not None  # a transport that serves streams takes their items
    pouring = _pour(items, deliver)
    ended = await (pouring if call.source is None else asyncio.create_task(pouring, name="stream"))
    if ended is not None:
        raise ended
    return None


async def _pour(items: Any, deliver: Deliver) -> BaseException | None:
    """Hand on all items. For a client this is a task of its own, since each item would resume all frames of the call.

    Returns an exception that would end the event loop if a task raised it.
    """
    try:
        async for item in items:
            await deliver(item)
    except (SystemExit, KeyboardInterrupt) as error:
        return error
    finally:
        await items.aclose()
    return None
