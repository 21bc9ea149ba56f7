"""Makes what services need on NATS before they start, with the rights of whoever deploys them: streams, consumers, buckets."""

from collections.abc import Sequence
from typing import Any

import msgspec

from cliffracer.messaging.backend import JetStreamBackend
from cliffracer.messaging.bus import Bus
from cliffracer.messaging.consumption import Consumption
from cliffracer.messaging.ensuring import agreements, ensure_agreements, ensure_stream
from cliffracer.messaging.jetstream import JetStream
from cliffracer.messaging.keyvalue import KeyValue
from cliffracer.messaging.objects import ObjectStore
from cliffracer.messaging.plans import Every
from cliffracer.messaging.schedules import keeps_schedules
from cliffracer.messaging.streams import events_stream, later_stream, sends_of, timers_stream
from cliffracer.permissions.needs import Needs


class Provided(msgspec.Struct, frozen=True):
    """One thing that is there now."""

    kind: str
    """``stream``, ``consumer`` or ``bucket``."""
    name: str
    service: str


async def provision(bus: Bus, apps: Sequence[Needs]) -> list[Provided]:
    """Return what these apps need on NATS, made if it was absent and widened if it was less. Doing it again changes nothing."""
    found: list[Provided] = []
    for app in apps:
        found += await _Provision(bus, app).run()
    return list(dict.fromkeys(found))


class _Provision:
    def __init__(self, bus: Bus, app: Needs) -> None:
        self._app = app
        self._jetstream = JetStream(bus)
        self._subjects = app.subjects
        self._namespace = app.subjects.namespace
        self._backend = JetStreamBackend(self._jetstream, app.subjects)
        self._found: list[Provided] = []

    async def run(self) -> list[Provided]:
        """Make everything."""
        await self._streams()
        for function, records in self._app.durable.items():
            first = records[0]
            options = {"start": first.start, "ordered": first.ordered, "batch": first.batch, "group": first.group}
            patterns = [record.subject for record in records]
            await self._consumer(self._backend.consume(self._app.name, function, patterns, _nothing, **options))
        if self._app.rpcs:
            source = sends_of(self._subjects, self._app.name)
            await self._consumer(
                Consumption(self._jetstream, self._subjects, self._app.name, "send", "", _nothing, source=source, start="all")
            )
        for record in self._app.timers:
            timer = self._backend.timer(self._app.name, record.function.__name__, Every(1.0), _tick)
            await self._consumer(timer.consumption)
        await self._buckets()
        return self._found

    async def _streams(self) -> None:
        app = self._app
        if app.durable or app.streams_out or app.rpcs:
            await self._backend.ensure()
            self._note("stream", self._subjects.stream)
        if app.durable or app.rpcs or app.timers:
            await self._backend.dead.ensure()
            self._note("stream", self._backend.dead.stream)
        if "delays" in app.uses:
            for config in (later_stream(self._subjects), events_stream(self._subjects, later=True)):
                await ensure_stream(self._jetstream, config, namespace=self._namespace)
            self._note("stream", later_stream(self._subjects).name)
        if app.timers:
            await ensure_stream(
                self._jetstream, timers_stream(self._subjects, schedules=keeps_schedules(self._jetstream)), namespace=self._namespace
            )
            self._note("stream", timers_stream(self._subjects).name)
        if app.locks() or "locks" in app.uses:
            await ensure_agreements(self._jetstream, self._namespace)
            self._note("stream", agreements(self._namespace, "")[0])

    async def _buckets(self) -> None:
        app = self._app
        buckets = [*app.buckets(), *((bucket, Any) for bucket in (*([app.revocations] if app.ruled else []), *app.tickets))]
        for bucket, of in buckets:
            store: KeyValue[Any] = KeyValue(self._jetstream, bucket, of, namespace=self._namespace)
            await store.ensure()
            self._note("bucket", store.bucket)
        for bucket in self._app.objects():
            objects = ObjectStore(self._jetstream, bucket, namespace=self._namespace)
            await objects.ensure()
            self._note("bucket", objects.bucket)

    async def _consumer(self, consumption: Consumption) -> None:
        await consumption.ensure()
        self._note("consumer", consumption.name)

    def _note(self, kind: str, name: str) -> None:
        self._found.append(Provided(kind, name, self._app.name))


async def _nothing(_delivery: object) -> None:
    """Handle nothing: only the consumer is made."""


async def _tick() -> None:
    """Do nothing, as above."""
