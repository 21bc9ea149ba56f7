"""The call graph and single traces: from the last calls that every process remembers, and all that it has called since it started."""

import asyncio
import time
from collections import defaultdict
from typing import Any

from cliffracer.client import AsyncClient
from cliffracer.contract import Contract
from cliffracer.messaging.directory import Remembered
from cliffracer.observability.spans import MOST, Span, summary
from cliffracer.wire.subjects import matches

_FRESH = 1.5
_PATIENCE = 0.3
_LISTED = 200
_LEARNT = 15.0
Edge = tuple[str, str, str, str]
_EDGE = ("from", "to", "kind", "name")
_NOT_LATELY = {"calls": 0, "errors": 0, "ms": 0.0}
_WELL = frozenset({"ok", "Cancelled"})
"""Outcomes that are no failure of the callee: a caller may leave before the end, as browsers leave a feed."""
_OUTSIDE = {"http": "HTTP", "websocket": "WebSockets"}
ELSEWHERE = "elsewhere"
"""Stands for callers that nobody remembers: scripts, the command line, services of others."""


class CallGraph:
    """Collects spans from all processes when somebody looks."""

    def __init__(self, client: AsyncClient) -> None:
        self._directory = client.directory
        self._spans: list[Span] = []
        self._known: set[Edge] = set()
        self._asked = self._learnt = float("-inf")
        self._asking = asyncio.Lock()

    async def edges(self) -> list[dict[str, Any]]:
        """Return who called whom: services, kind, name, calls, failures, and how long one took on average."""
        last = await self._last()
        owners = {span.id: span.service for span in last if span.id}  # who calls for long began before what is counted
        found: dict[tuple[str, str, str, str], list[Span]] = defaultdict(list)
        for span in _even(last):
            caller = owners.get(span.parent, _OUTSIDE.get(span.kind, ELSEWHERE))
            if span.kind != "call" and caller != span.service and not (caller == ELSEWHERE and span.kind not in {"rpc", "event"}):
                found[caller, span.service, span.kind, span.name].append(span)
        seen = [
            {
                "from": caller,
                "to": service,
                "kind": kind,
                "name": name,
                "calls": len(calls),
                "errors": sum(span.outcome not in _WELL for span in calls),
                "ms": round(sum(span.ms for span in calls) / len(calls), 3),
            }
            for (caller, service, kind, name), calls in sorted(found.items())
        ]
        return [*seen, *({**dict(zip(_EDGE, key, strict=True)), **_NOT_LATELY} for key in sorted(await self._told() - found.keys()))]

    async def traces(self) -> list[dict[str, Any]]:
        """Return the last traces, newest first: ids, services, duration, failures, and what they began with."""
        grouped: dict[str, list[Span]] = defaultdict(list)
        for span in await self._last():
            if span.trace:
                grouped[span.trace].append(span)
        found = []
        for spans in grouped.values():
            first = min(spans, key=lambda span: span.began)
            found.append({**summary(spans), "began": first.began, "first": f"{first.service}.{first.name}", "kind": first.kind})
        return sorted(found, key=lambda trace: -trace["began"])[:_LISTED]

    async def trace(self, wanted: str) -> list[Span]:
        """Return the calls of one trace or correlation id, oldest first."""
        answers = await self._directory.ask("TRACE", kind=Remembered, patience=_PATIENCE, payload=wanted.encode())
        return sorted((span for answer in answers for span in answer.spans), key=lambda span: span.began)

    async def _told(self) -> set[Edge]:
        """Return who called or emitted to whom since their start, as services tell; asked for now and then, it has their schemas."""
        if time.monotonic() - self._learnt > _LEARNT:
            contracts: list[Contract] = await self._directory.ask("CONTRACT", kind=Contract, patience=_PATIENCE)
            heard = [(one.name, event) for one in contracts for event in one.hears]
            calls = {(one.name, *target.split(".", 1)) for one in contracts for target in one.calls if "." in target}
            self._known = {(caller, service, "rpc", method) for caller, service, method in calls if caller != service}
            self._known |= {
                (one.name, name, "event", event.function)
                for one in contracts
                for subject in one.emits
                for name, event in heard
                if matches(event.subject, subject) and name != one.name
            }
            self._learnt = time.monotonic()
        return self._known

    async def _last(self) -> list[Span]:
        async with self._asking:
            if time.monotonic() - self._asked > _FRESH:
                self._spans = await self.trace("")
                self._asked = time.monotonic()
            return self._spans


def _even(spans: list[Span]) -> list[Span]:
    """Return the spans of a time that everybody still tells of: who was called more often tells of less time."""
    told: dict[str, list[float]] = defaultdict(list)
    for span in spans:
        told[span.service].append(span.began)
    full = [min(began) for began in told.values() if len(began) >= MOST]
    return [span for span in spans if span.began >= max(full)] if full else spans
