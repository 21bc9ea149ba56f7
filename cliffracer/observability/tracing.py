"""Whether calls become OpenTelemetry spans: where somebody has set an exporter, and cliffracer[otel] is there to serve it."""

import asyncio
import importlib
import logging
import os
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from cliffracer.context import Context
from cliffracer.declarations import Record

EXPORTERS = ("OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
"""Any of these sets an exporter (OpenTelemetry's own variables)."""
_API = "opentelemetry.trace"
log = logging.getLogger("cliffracer")


class Tracing(Protocol):
    """Makes the spans of one service; kept by `cliffracer.observability.otel`, which is imported only where they are wanted."""

    def step(self, record: Record, inner: Callable[[Any], Awaitable[Any]], /) -> Callable[[Any], Awaitable[Any]]:
        """Return what runs ``inner`` within a span: as of the call's trace, and the parent of what the call calls."""

    def failed(self, context: Context, error: BaseException | None, answer: Any, /) -> None:
        """Say on the span of a call what became of it, and end it; neither an error nor an answer: it went well."""

    def outgoing(self, what: str, target: str, /) -> AbstractContextManager[str]:
        """Make a span of a call, event or one-way call on its way out; gives the trace context that goes along."""

    def lasting(self, target: str, /) -> AbstractContextManager[Any]:
        """Make a span of a streaming call; it is current only within `current`, since its reader runs in between."""

    def current(self, span: Any, /) -> AbstractContextManager[Any]:
        """Make a span the current one while the block runs."""

    def here(self) -> str | None:
        """Return the ``traceparent`` of the span that is current; None without one."""

    async def flush(self) -> None:
        """Export what has ended, as far as that takes no more than some seconds."""


def tracing(service: str, version: str) -> Tracing | None:
    """Return what makes spans of a service's calls; None, at no cost, where nobody wants them.

    Wanted are they where one of `EXPORTERS` is set, or the program itself has set a tracer provider. ``OTEL_SDK_DISABLED`` forbids it.
    """
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    variable = exporter(os.environ)
    if variable is None and not _provided():
        return None
    try:
        otel = importlib.import_module("cliffracer.observability.otel")
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("opentelemetry"):
            raise
        told = '%s is set, but there are no traces: Tracing needs cliffracer[otel]: pip install "cliffracer[otel]".'
        log.warning(told, variable or "A tracer provider")
        return None
    made: Tracing = otel.Tracing.of(service, version)
    return made


async def flush(tracings: Sequence[Tracing | None]) -> None:
    """Export what is not exported yet of these, all at once, as far as that takes no more than some seconds."""
    await asyncio.gather(*(each.flush() for each in tracings if each is not None))


def exporter(environment: Mapping[str, str]) -> str | None:
    """Return the variable that sets an exporter; None if none does."""
    if environment.get("OTEL_TRACES_EXPORTER", "").strip().lower() == "none":
        return None
    return next((name for name in EXPORTERS if environment.get(name, "").strip()), None)


def _provided() -> bool:
    """Say whether the program has set a provider: only one that imported OpenTelemetry can have."""
    api = sys.modules.get(_API)
    return api is not None and type(api.get_tracer_provider()).__name__ not in {"ProxyTracerProvider", "NoOpTracerProvider"}
