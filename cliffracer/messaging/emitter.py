"""Durable events and one-way calls on their way out: stored when the call returns, at once or when they are due."""

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine, Mapping
from datetime import datetime
from typing import Any

from cliffracer.errors import NotFound, SetupError, Unavailable
from cliffracer.messaging.broker import Delayed
from cliffracer.messaging.claimcheck import CLAIM, ClaimCheck
from cliffracer.messaging.configurations import StreamConfig
from cliffracer.messaging.delivery import Delivery
from cliffracer.messaging.ensuring import ensure_stream
from cliffracer.messaging.jetstream import JetStream, PubAck, StreamInfo
from cliffracer.messaging.publishing import Publisher
from cliffracer.messaging.reading import Reader
from cliffracer.messaging.schedules import keeps_schedules, read_schedule, scheduled, without_schedule
from cliffracer.messaging.singleflight import SingleFlight
from cliffracer.messaging.streams import due_subject, events_stream, later_prefix, later_stream, sends_stream
from cliffracer.wire.cloudevents import ID
from cliffracer.wire.headers import MESSAGE_ID, Headers, number_from
from cliffracer.wire.subjects import Subjects, as_token


class Emitter:
    """Stores what an app emits and sends. Streams are made when they are first needed."""

    def __init__(self, jetstream: JetStream, subjects: Subjects) -> None:
        self._jetstream = jetstream
        self._subjects = subjects
        self._ensuring, self._ensuring_later = SingleFlight(self.ensure), SingleFlight(self._ensure_later)
        self._events = Publisher(jetstream, recover=self._ensuring)
        self._later = Publisher(jetstream, recover=self._ensuring_later)
        self._claims = ClaimCheck(jetstream, subjects.namespace)
        self._schedules = False
        self._ensured = False

    @property
    def connected(self) -> bool:
        """Say whether there is a connection to NATS now."""
        return self._jetstream.bus.connected

    @property
    def trouble(self) -> str:
        """Why what was emitted or sent of late was not stored; empty if all of it was."""
        return self._events.trouble or self._later.trouble

    async def ensure(self) -> None:
        """Make the streams of events and of one-way calls if they are absent; `SetupError` where others stand in their way."""
        await self.ensure_events()
        await ensure_stream(self._jetstream, sends_stream(self._subjects), namespace=self._subjects.namespace)
        self._ensured = True

    async def ensure_events(self) -> StreamInfo:
        """Make the stream of events if it is absent; where events are delayed already, one that they come into when they are due."""
        asked = events_stream(self._subjects)

        async def anew() -> StreamConfig:
            try:
                await self._jetstream.stream(later_stream(self._subjects).name)
            except NotFound:
                return asked
            return events_stream(self._subjects, later=True)

        return await ensure_stream(self._jetstream, asked, namespace=self._subjects.namespace, anew=anew)

    def store(self, subject: str, payload: bytes, headers: Mapping[str, str], *, timeout: float = 10.0) -> Coroutine[Any, Any, PubAck]:
        """Return once the stream has the message; ``subject`` is the whole one. See `Publisher.publish` for what it raises.

        A payload over the server's limit goes through the object store.
        """
        if type(headers) is Headers and headers.block and self._ensured and not self._claims.too_large(payload):
            return self._events.publish_block(subject, payload, headers.block, timeout=timeout)  # encoded already, by us
        return self._store(subject, payload, headers, timeout)

    async def _store(self, subject: str, payload: bytes, headers: Mapping[str, str], timeout: float) -> PubAck:
        until = time.monotonic() + timeout
        if not self._ensured:
            await self._ensure_first(self._ensuring, timeout)
        if self._claims.too_large(payload):
            return await self._store_large(subject, payload, headers, until)
        return await self._events.publish(subject, payload, headers, timeout=until - time.monotonic())

    async def _store_large(self, subject: str, payload: bytes, headers: Mapping[str, str], until: float) -> PubAck:
        name = await self._claims.stash(payload, until - time.monotonic())
        ack = await self._events.publish(subject, b"", {**headers, CLAIM: name}, timeout=until - time.monotonic())
        if ack.duplicate and not ack.repeated:  # what is stored claims another payload, and not perhaps this one
            await self._claims.forget(name)
        return ack

    async def _ensure_first(self, ensuring: SingleFlight, timeout: float) -> None:
        """Make the streams before the first message: where a core subscriber listens too, the server would not say that none takes it."""
        try:
            async with asyncio.timeout(timeout):
                await ensuring()
        except TimeoutError:
            raise Unavailable("no stream for events could be set up in time") from None

    async def store_later(
        self, subject: str, payload: bytes, headers: Mapping[str, str], *, at: float, event_id: str, timeout: float = 10.0
    ) -> None:
        """Return once the server has it noted that the event is due ``at`` (POSIX time); the same id again replaces it.

        `SetupError` where the server keeps no schedules.
        """
        if at <= time.time():
            await self.store(subject, payload, headers, timeout=timeout)
            return
        until = time.monotonic() + timeout
        if not self._schedules:
            await self._ensure_first(self._ensuring_later, timeout)
        if self._claims.too_large(payload):
            headers, payload = {**headers, CLAIM: await self._claims.stash(payload, until - time.monotonic())}, b""
        named = {**headers, **scheduled(at, due_subject(self._subjects, subject))}
        message_id = f"{headers.get(MESSAGE_ID, event_id)}@{at}"
        await self._later.publish(self._note(event_id), payload, named, message_id=message_id, timeout=until - time.monotonic())

    async def cancel(self, event_id: str) -> bool:
        """Take back a delayed event; False when there is none of that id, or not any more."""
        if not self._schedules:
            await self._ensure_first(self._ensuring_later, self._jetstream.timeout)
        return await self._jetstream.purge(later_stream(self._subjects).name, filter=self._note(event_id)) > 0

    async def delayed(self) -> AsyncIterator[Delayed]:
        """Yield what is not due yet, in the order in which it was emitted."""
        async for note, due, subject in self.notes(headers_only=True):
            size = number_from(note.headers.get("Nats-Msg-Size"))
            yield Delayed(id=note.headers.get(ID, ""), subject=subject, due=due, size=size)

    async def bring_forward(self, note: Delivery, subject: str, more: Mapping[str, str]) -> None:
        """Store a delayed event now, with some headers of its own, instead of when it is due."""
        await self.store(self._subjects.event(subject), note.payload, {**without_schedule(note.headers), **more})
        await self.cancel(note.headers.get(ID, ""))

    async def notes(self, *, headers_only: bool = False) -> AsyncIterator[tuple[Delivery, datetime, str]]:
        """Yield the notes of delayed events, each with when it is due and its subject then."""
        name, prefix = later_stream(self._subjects).name, due_subject(self._subjects, "")
        try:
            await self._jetstream.stream(name)
        except NotFound:  # nothing was ever delayed
            return
        async with Reader(self._jetstream, name, [f"{later_prefix(self._subjects)}*"], headers_only=headers_only) as reader:
            async for note in reader.present():
                if schedule := read_schedule(note.headers):
                    yield note, schedule[0], schedule[1].removeprefix(prefix)

    def _note(self, event_id: str) -> str:
        """Return the subject of a delayed event."""
        return f"{later_prefix(self._subjects)}{as_token(event_id)}"

    def check_schedules(self) -> None:
        """Raise `SetupError` unless the server keeps schedules."""
        if not keeps_schedules(self._jetstream):
            shown = ".".join(map(str, self._jetstream.version))
            raise SetupError(f"delay= and at= need nats-server 2.12, which keeps schedules; this one is {shown}.")

    async def _ensure_later(self) -> None:
        self.check_schedules()
        for config in (later_stream(self._subjects), events_stream(self._subjects, later=True)):
            await ensure_stream(self._jetstream, config, namespace=self._subjects.namespace)
        await self._forget_taken_over()
        self._schedules = True

    async def _forget_taken_over(self) -> None:
        """Remove from LATER what EVENTS has taken over already."""
        name = later_stream(self._subjects).name
        info = await self._jetstream.stream(self._subjects.stream)
        taken = next((source.seq for source in info.sources or [] if source.name == name), 0)
        if taken > 1:
            await self._jetstream.purge(name, filter=due_subject(self._subjects, ">"), seq=taken)
