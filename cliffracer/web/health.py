"""The pages for load balancers, people and Prometheus: ``/health``, ``/health/ready``, ``/health/detailed``, ``/metrics``."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from cliffracer.assembly import Assembly
from cliffracer.handler import Handler
from cliffracer.observability.health import Finding, Health
from cliffracer.observability.load import Rates
from cliffracer.resilience.resilient import DECORATED
from cliffracer.web.answers import JSON, correlation_of, send_body

if TYPE_CHECKING:  # a type of what is imported when metrics are read
    from cliffracer.observability.metrics import Target

NO_STORE = (b"cache-control", b"no-store")
_PROMETHEUS = (b"content-type", b"text/plain; version=0.0.4; charset=utf-8")

_ANEW = (b"connection", b"close")
"""Sent by one of several workers: on a kept-alive connection, as Prometheus uses, always the same worker would answer."""


class Live:
    """``/health``: 200 as long as the process can answer at all; nothing else is checked, so that no outage causes a restart."""

    def __init__(self, health: Health) -> None:
        self._body = msgspec.json.encode({"status": "ok", "service": health.service})

    async def __call__(self, scope: Mapping[str, Any], _receive: Any, send: Any) -> None:
        """Answer one request."""
        await send_body(send, 200, self._body, [JSON, NO_STORE], correlation_of(scope))


class Ready:
    """``/health/ready``: 200 if work may be sent here, else 503 with the reasons."""

    def __init__(self, health: Health) -> None:
        self._health = health

    async def __call__(self, scope: Mapping[str, Any], _receive: Any, send: Any) -> None:
        """Answer one request."""
        reasons = await self._health.reasons()
        body = {"status": "unavailable" if reasons else "ok", "service": self._health.service, "reasons": reasons}
        await send_body(send, 503 if reasons else 200, msgspec.json.encode(body), [JSON, NO_STORE], correlation_of(scope))


class Detailed:
    """``/health/detailed``: the results of all checks, and the load; 200 even when something fails."""

    def __init__(self, health: Health, handlers: Sequence[Handler]) -> None:
        self._health = health
        self._rates = Rates(handlers)

    async def __call__(self, scope: Mapping[str, Any], _receive: Any, send: Any) -> None:
        """Answer one request."""
        findings = await self._health.findings()
        rps, latency = self._rates.now()
        body = {
            "status": self._status(findings),
            "service": self._health.service,
            "database": _of("database", findings),
            "nats": _of("nats", findings),
            "metrics": {"rps": round(rps, 3), "latency_ms": round(latency * 1000, 3)},
            **await self._health.figures(),
            "checks": {found.name: {"status": found.reason or "ok", "critical": found.critical} for found in findings},
        }
        await send_body(send, 200, msgspec.json.encode(body), [JSON, NO_STORE], correlation_of(scope))

    def _status(self, findings: Sequence[Finding]) -> str:
        if self._health.draining:
            return "stopping"
        if not self._health.ready:
            return "starting"
        if any(found.reason and found.critical for found in findings):
            return "unavailable"
        return "degraded" if any(found.reason for found in findings) else "ok"


class Metrics:
    """``/metrics``: figures of handlers, of what they use and of the process, in Prometheus' text format."""

    def __init__(self, health: Health, handlers: Sequence[Handler], assemblies: Sequence[Assembly] = ()) -> None:
        self._health = health
        self._handlers = handlers
        self._assemblies = assemblies

    async def __call__(self, scope: Mapping[str, Any], _receive: Any, send: Any) -> None:
        """Answer one request."""
        from cliffracer.observability.metrics import exposition  # noqa: PLC0415 - only a service whose metrics are read pays for them

        consumers = [consumer for assembly in self._assemblies for consumer in assembly.consumers]
        cached = [(assembly.frozen.name, record) for assembly in self._assemblies for record in assembly.frozen.cached]
        (figures, checks), targets = await asyncio.gather(self._health.figures(), self._health.findings()), _targets(self._assemblies)
        text = exposition(self._handlers, consumers, figures, targets, cached, checks=checks, worker=self._health.worker)
        again = [_ANEW] if self._health.worker else []
        await send_body(send, 200, text.encode(), [_PROMETHEUS, NO_STORE, *again], correlation_of(scope))


def _targets(assemblies: Sequence[Assembly]) -> list["Target"]:
    found = [(assembly.frozen.name, assembly.guards) for assembly in assemblies] + [("", DECORATED)]
    return [(service, target, those) for service, guards in found for target, those in guards.all().items()]


def _of(name: str, findings: Sequence[Finding]) -> str:
    for found in findings:
        if found.name == name:
            return "disconnected" if found.reason else "connected"
    return "unused"
