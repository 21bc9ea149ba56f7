"""OpenTelemetry spans of calls, in and out; imported only where they are wanted, since it takes its time.

Names and attributes follow OpenTelemetry's semantic conventions for RPC, messaging and HTTP; ids are those that `cliffracer trace` shows.
The exporter is what OpenTelemetry's own variables say (``OTEL_TRACES_EXPORTER``, ``OTEL_EXPORTER_OTLP_ENDPOINT``, ...), unless the
program has set a tracer provider itself.
"""

import asyncio
import importlib.metadata
import os
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Self

from opentelemetry import trace
from opentelemetry.context import Context as Surroundings
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags, Tracer

from cliffracer.context import LASTS, Context
from cliffracer.declarations import Record, Route, Rpc, Socket, Subscription
from cliffracer.errors import Cancelled, Internal, ServiceError, SetupError
from cliffracer.events import Rejected

_EXPORTERS = "opentelemetry_traces_exporter"  # entry points that distributions of exporters have
_FLUSH = 2.0  # seconds that a stop waits for what is not exported yet
_SERVER, _CONSUMER, _INTERNAL = SpanKind.SERVER, SpanKind.CONSUMER, SpanKind.INTERNAL
_OUTGOING = {"call": SpanKind.CLIENT, "emit": SpanKind.PRODUCER, "send": SpanKind.PRODUCER}
_SPAN = "cliffracer.span"
_providers: dict[str, TracerProvider] = {}
"""Ours, by service. OpenTelemetry keeps one for the life of a process, so that is how long they live.
Their own end at exit would wait for a collector that is away: a stop flushes them, see `Tracing.flush`.
"""


class Tracing:
    """Makes the spans of one service."""

    def __init__(self, provider: Any, tracer: Tracer, service: str) -> None:
        self._provider = provider
        self._tracer = tracer
        self._service = service

    @classmethod
    def of(cls, service: str, version: str) -> Self:
        """Return it for a service; with the provider that the program has set, else with one of our own. `SetupError`: no such exporter."""
        provider: Any = trace.get_tracer_provider()
        if isinstance(provider, trace.ProxyTracerProvider) or provider in _providers.values():
            provider = _providers.get(service) or _provider(service, version)
        return cls(provider, provider.get_tracer("cliffracer"), service)

    def step(self, record: Record, inner: Callable[[Any], Awaitable[Any]]) -> Callable[[Any], Awaitable[Any]]:
        """Return what runs ``inner`` within a span: as of the call's trace, and the parent of what the call calls."""
        name, kind, attributes = described(record, self._service)
        begin = self._tracer.start_span

        async def run(call: Any) -> Any:
            context: Context = call.context
            span = begin(name, surroundings(context.traceparent), kind, attributes)
            span.set_attribute("cliffracer.correlation_id", context.correlation_id)
            context.sent = text_of(span.get_span_context())
            if context.traceparent is None:
                context.traceparent = context.sent
            context.store()[_SPAN] = span  # until it is known what becomes of an exception: `failed` is told
            with self.current(span):
                result = await inner(call)
            if context.ended is None:
                asyncio.get_running_loop().call_soon(_end, context, span, time.time_ns())
            return result

        return run

    @staticmethod
    def failed(context: Context, error: BaseException | None, answer: Any) -> None:
        """Say on the span of a call what became of it, and end it. Who asks for what is not there is no failure of the service."""
        span: Span | None = context.store().pop(_SPAN, None)
        if span is None:  # it failed before it began
            return
        if isinstance(answer, ServiceError):
            unknown = isinstance(answer, Internal) and error is not None and not isinstance(error, ServiceError)
            _say(span, type(error if unknown else answer).__name__, answer.code, error)
        elif isinstance(error, asyncio.CancelledError):
            _say(span, Cancelled.__name__, Cancelled.code, error)
        elif isinstance(error, Rejected):
            _say(span, Rejected.__name__, Internal.code, error)
        elif isinstance(status := getattr(answer, "status_code", None), int) and status >= 400:
            _say(span, str(status) if error is None else type(error).__name__, status, error)
        span.end()

    @contextmanager
    def outgoing(self, what: str, target: str) -> Iterator[str]:
        """Make a span of a call, event or one-way call on its way out; yields the trace context that goes along."""
        system = {"rpc.system": "nats"} if what == "call" else {"messaging.system": "nats", "messaging.destination.name": target}
        name = target if what == "call" else f"{what} {target}"
        with (
            self._tracer.start_as_current_span(
                name, None, _OUTGOING[what], system, record_exception=False, set_status_on_exception=False
            ) as span,
            _told(span),
        ):
            yield text_of(span.get_span_context())

    @contextmanager
    def lasting(self, target: str) -> Iterator[Span]:
        """Make a span of a streaming call; it is current only within `current`, since its reader runs in between."""
        span = self._tracer.start_span(target, None, SpanKind.CLIENT, {"rpc.system": "nats"})
        try:
            with _told(span):
                yield span
        finally:
            span.end()

    @staticmethod
    def current(span: Span) -> Any:
        """Return a context manager in whose block a span is the current one."""
        return trace.use_span(span, record_exception=False, set_status_on_exception=False)

    @staticmethod
    def here() -> str | None:
        """Return the ``traceparent`` of the span that is current, also of one that the program made itself; None without."""
        span = trace.get_current_span().get_span_context()
        return text_of(span) if span.is_valid else None

    async def flush(self) -> None:
        """Export what has ended, as far as that takes no more than some seconds."""
        done, loop = asyncio.Event(), asyncio.get_running_loop()

        def flush() -> None:
            self._provider.force_flush()  # takes a time-out and does not keep it while a collector is away
            with suppress(RuntimeError):  # nobody waits any more: the loop is closed
                loop.call_soon_threadsafe(done.set)

        threading.Thread(target=flush, name="cliffracer-flush", daemon=True).start()
        with suppress(TimeoutError):
            async with asyncio.timeout(_FLUSH):
                await done.wait()


def described(record: Record, service: str) -> tuple[str, SpanKind, Mapping[str, str]]:
    """Return name, kind and attributes of the spans of a handler."""
    match record:
        case Rpc(name=name):
            return f"{service}.{name}", _SERVER, {"rpc.system": "nats", "rpc.service": service, "rpc.method": name}
        case Route(methods=methods, path=path):
            several = "/".join(methods)
            return f"{several} {path}", _SERVER, {"http.request.method": several, "http.route": path}
        case Socket(path=path):
            return f"WS {path}", _SERVER, {"http.route": path}
        case Subscription(subject=subject):
            messaging = {"messaging.system": "nats", "messaging.operation.type": "process", "messaging.destination.name": subject}
            return f"process {subject}", _CONSUMER, {**messaging, "code.function.name": record.function.__name__}
    return f"{service}.{record.function.__name__}", _INTERNAL, {}


def surroundings(traceparent: str | None) -> Surroundings:
    """Return OpenTelemetry's context of a received trace; of a new one where none was received, whatever ran before in this task."""
    if traceparent is None:
        return Surroundings()
    flags = TraceFlags(int(traceparent[53:55], 16))
    parent = SpanContext(int(traceparent[3:35], 16), int(traceparent[36:52], 16), is_remote=True, trace_flags=flags)
    return trace.set_span_in_context(NonRecordingSpan(parent), Surroundings()) if parent.is_valid else Surroundings()


def text_of(span: SpanContext) -> str:
    """Return the ``traceparent`` that names a span (W3C Trace Context)."""
    return f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}"


def _end(context: Context, span: Span, at: int) -> None:
    """End the span of a call that went well, unless `Tracing.failed` has or will: that a result cannot be sent shows in the same turn."""
    if LASTS not in context.store() and context.store().pop(_SPAN, None) is span:
        span.end(at)


def _say(span: Span, name: str, code: int, error: BaseException | None) -> None:
    span.set_attribute("error.type", name)
    if code >= 500:
        if error is not None and not isinstance(error, ServiceError | asyncio.CancelledError):
            span.record_exception(error)
        span.set_status(Status(StatusCode.ERROR, name))


@contextmanager
def _told(span: Span) -> Iterator[None]:
    """Say on a span how its block ended. That a caller asked for what is not there is no failure of the service."""
    try:
        yield
    except ServiceError as error:
        _say(span, type(error).__name__, error.code, error)
        raise
    except Exception as error:  # whatever it is, the span says it, and it goes on
        _say(span, type(error).__name__, Internal.code, error)
        raise
    except asyncio.CancelledError as error:
        _say(span, Cancelled.__name__, Cancelled.code, error)
        raise


def _provider(service: str, version: str) -> TracerProvider:
    named = {} if os.environ.get("OTEL_SERVICE_NAME") else {SERVICE_NAME: service}
    provider = TracerProvider(resource=Resource.create({**named, SERVICE_VERSION: version}), shutdown_on_exit=False)
    for name in _exporters():
        provider.add_span_processor(BatchSpanProcessor(_exporter(name)))
    if not _providers:
        trace.set_tracer_provider(provider)  # so that spans which the program makes itself are exported as well
    _providers[service] = provider
    return provider


def _exporters() -> list[str]:
    named = os.environ.get("OTEL_TRACES_EXPORTER", "").split(",")
    return [name.strip() for name in named if name.strip()] or ["otlp"]


def _exporter(name: str) -> SpanExporter:
    """Return an exporter that some installed distribution has under this name."""
    known = importlib.metadata.entry_points(group=_EXPORTERS)
    found = [entry for wanted in (name, f"{name}_proto_http") for entry in known if entry.name == wanted]
    if not found:
        names = ", ".join(sorted({entry.name for entry in known} | {"otlp", "none"}))
        raise SetupError(f"OTEL_TRACES_EXPORTER is {name!r}, which nothing installed has. There are: {names}.")
    made: SpanExporter = found[0].load()()
    return made
