"""Answers discovery as NATS micro does (ADR-32), so that ``nats micro ls``, ``info`` and ``stats`` know our services."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import msgspec

from cliffracer.errors import Unavailable
from cliffracer.handler import Handler
from cliffracer.messaging.bus import Bus, Subscription
from cliffracer.messaging.rpc import RpcEndpoint
from cliffracer.observability.spans import Spans
from cliffracer.observability.stats import Stats
from cliffracer.wire.subjects import Subjects, is_inbox

PREFIX = "io.nats.micro.v1."
_LONGEST_ID = 128
_MOST_ASKING = 100  # requests that wait for one answer; more are ignored
VERBS = ("PING", "INFO", "STATS", "SCHEMA", "TRACE", "CONTRACT", "DETAIL")
"""The verbs that are answered; the first three are ADR-32's."""


class Discovery:
    """Answers ``$SRV.PING``, ``INFO``, ``STATS``, ``SCHEMA`` and ``TRACE`` for one replica; ``$SRV.<VERB>[.<name>[.<id>]]``.

    INFO has each endpoint's JSON Schemas and their hash in its metadata; where that would be more than one message holds, the
    hashes alone, and ``$SRV.SCHEMA.<name>`` answers the schemas of one endpoint, whose name is the payload. ``$SRV.TRACE`` answers what
    is remembered of a trace, whose id (or correlation id, or how that begins) is the payload; of the last calls where there is none.
    ``$SRV.CONTRACT`` answers what `cliffracer.contract` tells, ``$SRV.DETAIL`` what `cliffracer.detail` does: handlers with their figures,
    timers, health and where each setting comes from.
    """

    def __init__(
        self,
        bus: Bus,
        subjects: Subjects,
        *,
        name: str,
        id: str,
        version: str,
        description: str,
        endpoints: list[RpcEndpoint],
        schemas: dict[str, dict[str, str]],
        metadata: dict[str, str],
        spans: Spans,
        others: Sequence[Handler],
        contract: Callable[[], dict[str, Any]],
        detail: Callable[[], Awaitable[dict[str, Any]]],
    ) -> None:
        self._detailed = detail
        self._asked: asyncio.Task[None] | None = None
        self._waiting: list[bytes] = []
        self._contracted = contract
        self._spans = spans
        self._others = others
        self._bus = bus
        self._subjects = subjects
        self._who: dict[str, Any] = {"name": name, "id": id, "version": version, "metadata": metadata}
        self._description = description
        self._endpoints = endpoints
        self._schemas = schemas
        self._started = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        self._subscriptions: list[Subscription] = []

    async def start(self) -> None:
        """Subscribe to every discovery subject."""
        answers = map(self._answering, (self._ping, self._info, self._stats, self._schema, self._trace, self._contract))
        for verb, receive in zip(VERBS, (*answers, self._detail), strict=True):
            for name, id in (("", ""), (self._who["name"], ""), (self._who["name"], self._who["id"])):  # noqa: A001 - ADR-32's word
                subject = self._subjects.discovery(verb, name, id)
                self._subscriptions.append(await self._bus.subscribe(subject, receive))

    async def close(self) -> None:
        """Answer no more."""
        for subscription in self._subscriptions:
            await subscription.close()
        self._subscriptions.clear()
        if self._asked is not None:
            self._asked.cancel()
            await asyncio.wait([self._asked])

    def _answering(self, answer: Any) -> Any:
        def receive(_subject: bytes, reply: bytes, _block: bytes | None, payload: bytes) -> None:
            if is_inbox(reply):
                self._bus.publish(reply, answer(payload))

        return receive

    def _encoded(self, kind: str, **more: Any) -> bytes:
        return msgspec.json.encode({"type": f"{PREFIX}{kind}_response", **self._who, **more})

    def _ping(self, _payload: bytes) -> bytes:
        return self._encoded("ping")

    def _info(self, _payload: bytes) -> bytes:
        whole = self._encoded("info", description=self._description, endpoints=[self._endpoint(e, texts=True) for e in self._endpoints])
        if len(whole) <= self._bus.max_payload // 2:
            return whole
        return self._encoded("info", description=self._description, endpoints=[self._endpoint(e, texts=False) for e in self._endpoints])

    def _endpoint(self, endpoint: RpcEndpoint, *, texts: bool) -> dict[str, Any]:
        described = self._schemas.get(endpoint.record.name, {})
        metadata = {key: value for key, value in described.items() if texts or not key.endswith("_schema")}
        return {"name": endpoint.record.name, "subject": endpoint.subject, "queue_group": self._who["name"], "metadata": metadata}

    def _stats(self, _payload: bytes) -> bytes:
        served = [self._served(endpoint) for endpoint in self._endpoints]
        alike: dict[tuple[str, str], list[Stats]] = {}
        for handler in self._others:
            alike.setdefault((handler.kind, handler.name), []).append(handler.stats)
        others = [{"kind": kind, **_figures(name, Stats.together(several))} for (kind, name), several in alike.items()]
        return self._encoded("stats", started=self._started, endpoints=served, handlers=others)

    def _served(self, endpoint: RpcEndpoint) -> dict[str, Any]:
        return {**_figures(endpoint.record.name, endpoint.stats), "subject": endpoint.subject, "queue_group": self._who["name"]}

    def _schema(self, payload: bytes) -> bytes:
        name = payload.decode("utf-8", "replace").strip()
        wanted = {name: self._schemas[name]} if name in self._schemas else self._schemas
        whole = self._encoded("schema", endpoints=wanted)
        if len(whole) > self._bus.max_payload:
            return self._encoded("schema", endpoints={}, error="too large for one message: ask for one endpoint by name")
        return whole

    def _contract(self, _payload: bytes) -> bytes:
        found = self._contracted()
        whole = self._encoded("contract", **found)
        for left_out in ("exposed", "endpoints", "hears", "emits"):  # the largest first, until the rest fits into one message
            if len(whole) <= self._bus.max_payload:
                break
            del found[left_out]
            whole = self._encoded("contract", **found, error="its schemas are too large for one message")
        return whole

    def _detail(self, _subject: bytes, reply: bytes, _block: bytes | None, _payload: bytes) -> None:
        """Answer DETAIL, which takes some time: all who ask meanwhile get the same answer."""
        if not is_inbox(reply) or len(self._waiting) >= _MOST_ASKING:
            return
        self._waiting.append(reply)
        if self._asked is None or self._asked.done():
            self._asked = asyncio.get_running_loop().create_task(self._look(), name=f"detail of {self._who['name']}")

    async def _look(self) -> None:
        while self._waiting:
            body = self._encoded("detail", **await self._detailed())
            if len(body) > self._bus.max_payload:
                body = self._encoded("detail", error="too large for one message")
            waiting, self._waiting = self._waiting, []
            for reply in waiting:
                with suppress(Unavailable):  # NATS is away, and so is the caller
                    self._bus.publish(reply, body)

    def _trace(self, payload: bytes) -> bytes:
        spans = self._spans.find(payload[:_LONGEST_ID].decode("utf-8", "replace").strip())
        whole = self._encoded("trace", spans=spans)
        while len(whole) > self._bus.max_payload and spans:
            spans = spans[len(spans) // 2 + 1 :]  # the newest are the most useful
            whole = self._encoded("trace", spans=spans)
        return whole


def _figures(name: str, stats: Stats) -> dict[str, Any]:
    nanoseconds, lasting = int(stats.seconds * 1e9), {"lasting": True} if stats.lasting else {}
    return {
        "name": name,
        "num_requests": stats.requests,
        "num_errors": stats.errors,
        "last_error": stats.last_error,
        "processing_time": nanoseconds,
        "average_processing_time": nanoseconds // stats.calls if stats.calls else 0,
        "data": {"p50_ms": round(stats.percentile(0.5) * 1000, 3), "p95_ms": round(stats.percentile(0.95) * 1000, 3), **lasting},
    }
