"""Whether calls become OpenTelemetry spans: where somebody has set an exporter, and cliffracer[otel] is there to serve it."""

import asyncio
import importlib
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

EXPORTERS = ("OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
"""Any of these sets an exporter (OpenTelemetry's own variables)."""
_API = "opentelemetry.trace"
log = logging.getLogger("cliffracer")


def tracing(service: str, version: str) -> Any:
    """Return what makes spans of a service's calls, a `cliffracer.observability.otel.Tracing`; None, at no cost, where nobody wants them.

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
    return otel.Tracing.of(service, version)


async def flush(tracings: Sequence[Any]) -> None:
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
