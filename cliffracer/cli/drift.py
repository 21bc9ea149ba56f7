"""What `doctor` finds where declarations and servers have grown apart: streams, consumers, clocks, versions of replicas."""

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import msgspec

from cliffracer.context import new_id
from cliffracer.declarations import Subscription
from cliffracer.durations import worded
from cliffracer.errors import CliffracerError, DeadlineExceeded, NotFound, ServiceError, SetupError, Unavailable
from cliffracer.frozen import Frozen
from cliffracer.messaging.backend import JetStreamBackend
from cliffracer.messaging.bus import Bus
from cliffracer.messaging.configurations import NANOSECONDS, SERVICE, STREAM_RULES, distinct, include, narrower, widened
from cliffracer.messaging.directory import Info
from cliffracer.messaging.ensuring import stream_body
from cliffracer.messaging.jetstream import JetStream, StreamInfo
from cliffracer.messaging.keyvalue import KeyValue
from cliffracer.messaging.objects import ObjectStore
from cliffracer.messaging.siblings import TOLD
from cliffracer.messaging.streams import durable_name, events_stream, later_stream, replay_prefix, sends_stream, timers_stream
from cliffracer.permissions.needs import Needs
from cliffracer.wire.subjects import Subjects, named_within, within

SKEW = 1.0  # seconds that clocks may differ
_PATIENCE = 2.0  # seconds for a server that may not want to answer
_TIMES = frozenset({"duplicate_window", "max_age"})


class _Stamped(msgspec.Struct):
    ts: datetime | None = None


class _Server(msgspec.Struct):
    time: datetime | None = None


class _Reported(msgspec.Struct):
    server: _Server


async def streams(jetstream: JetStream, subjects: Subjects) -> AsyncIterator[tuple[bool, str]]:
    """Yield (is it wrong, what) for each stream that is there and not as a service that starts asks for it."""
    for config in (make(subjects) for make in (events_stream, sends_stream, timers_stream, later_stream)):
        try:
            present = (await jetstream.stream(config.name)).config
            wanted = widened("Stream", present, stream_body(jetstream, config), STREAM_RULES)
        except NotFound:
            continue
        except SetupError as error:
            yield True, str(error)
            continue
        changes = [
            f"{field} is {_shown(field, present.get(field))}, asked {_shown(field, wanted[field])}"
            for field in wanted
            if wanted[field] != present.get(field)
        ]
        if changes:
            yield False, f"stream {config.name}: {'; '.join(changes)}: the next service that starts changes it"


async def consumers(jetstream: JetStream, subjects: Subjects, apps: Sequence[Frozen]) -> AsyncIterator[str]:
    """Yield what is different where a durable function now subscribes to something else than its consumer does."""
    wanted: dict[str, list[str]] = {}
    for app in apps:
        for record, _ in app.of(Subscription):
            if record.durable:
                wanted.setdefault(durable_name(subjects, app.name, record.function.__name__, record.group), []).append(record.subject)
    for consumer in await jetstream.consumers(subjects.stream):
        if consumer.name not in wanted:
            continue
        single = consumer.config.get("filter_subject")
        given = [single] if single else consumer.config.get("filter_subjects") or []
        here = {subjects.event_name(one) for one in given if not one.startswith(replay_prefix(subjects))}
        asked = set(distinct(sorted(wanted[consumer.name])))
        if here and here != asked:
            both = f"takes {', '.join(sorted(here))}, the function subscribes to {', '.join(sorted(asked))}"
            then = "when no other version of it runs, the rest is left out" if include(here, asked) else "its next start adds that"
            yield f"consumer {consumer.name} {both}: {then}"


async def deserted(jetstream: JetStream, subjects: Subjects, infos: Sequence[Info], apps: Sequence[Frozen]) -> AsyncIterator[str]:
    """Yield the consumers of services that neither run nor are known here: such as one that got another name, or was taken away."""
    known = {info.name for info in infos} | {app.name for app in apps}
    taken = " ".join((info.metadata or {}).get(TOLD, "") for info in infos)
    with suppress(CliffracerError):  # no stream, or no JetStream: that is told otherwise
        for consumer in await jetstream.consumers(subjects.stream):
            owner = (consumer.config.get("metadata") or {}).get(SERVICE, "")
            if owner and owner not in known and f'"{consumer.name}"' not in taken:  # a group may have others
                lag = consumer.num_pending + consumer.num_ack_pending
                yield f"consumer {consumer.name} is that of {owner}, of which nothing runs: {lag} wait, and what comes is kept for it"


async def buckets(jetstream: JetStream, needs: Iterable[Needs]) -> AsyncIterator[str]:
    """Yield which buckets keep something else than they are declared to, which no start changes."""
    for each in needs:
        backend = JetStreamBackend(jetstream, each.subjects)
        stores: list[KeyValue[Any] | ObjectStore] = [backend.values(*bucket) for bucket in each.buckets()]
        for store in [*stores, *map(backend.objects, each.objects())]:
            with suppress(CliffracerError):  # it is not there yet, or what keeps us from looking is told otherwise
                found = await jetstream.stream(store.asked.name)
                if differences := narrower(found.config, store.asked):
                    yield f"{store.asked.name}: {'; '.join(differences)}; `nats stream edit {store.asked.name}` changes it"


async def room(jetstream: JetStream, namespace: str) -> str:
    """Return why nothing more is stored; empty where something was: in a stream made for it, since no client is told how much room is left.

    Empty as well where making one is not permitted, or otherwise refused: that is no answer.
    """
    own = f"DOCTOR-{new_id()}"
    name, subject = named_within(namespace, own), within(namespace, f"cliffracer.doctor.{own}")
    try:
        await jetstream.ask(f"STREAM.CREATE.{name}", {"name": name, "subjects": [subject], "max_msgs": 1}, StreamInfo)
        try:
            await jetstream.store(subject, b"", timeout=_PATIENCE)
        finally:
            with suppress(CliffracerError):
                await jetstream.delete_stream(name)
    except Unavailable as error:
        return error.message.partition(": ")[2] if error.details.get("reason") == "full" else ""
    except DeadlineExceeded:
        return f"JetStream stored nothing within {_PATIENCE:g} s: its disk hangs, or has no room"
    except CliffracerError:
        return ""
    return ""


async def clock(bus: Bus, jetstream: JetStream, stream: str) -> float | None:
    """Return by how many seconds the clock of NATS is ahead of ours; None where the server does not say what time it is.

    It does when it is asked who we are, which an operator may forbid, and of a stream, which may not be there.
    """
    with suppress(ServiceError, msgspec.MsgspecError):
        before = now()
        reply = await bus.request(b"$SYS.REQ.USER.INFO", b"", timeout=_PATIENCE)
        there = msgspec.json.decode(reply.payload, type=_Reported).server.time
        if there is not None and there.tzinfo is not None:
            return ahead(before, there, now())
    with suppress(ServiceError, SetupError):
        before = now()
        there = (await jetstream.ask(f"STREAM.INFO.{stream}", {}, _Stamped)).ts
        if there is not None and there.tzinfo is not None:
            return ahead(before, there, now())
    return None


def ahead(before: datetime, there: datetime, after: datetime) -> float:
    """Return by how many seconds a clock is ahead of ours that was read between two looks at ours; 0 where it may be right."""
    early, late = (there - before).total_seconds(), (there - after).total_seconds()
    return early if early < 0 else max(0.0, late)


def now() -> datetime:
    """Return what time it is by the clock of this machine."""
    return datetime.now(UTC)


def versions(infos: Sequence[Info]) -> Iterator[str]:
    """Yield what runs in more than one version."""
    found: dict[str, set[str]] = {}
    for info in infos:
        found.setdefault(info.name, set()).add(info.version)
    for name, several in sorted(found.items()):
        if len(several) > 1:
            yield f"{name} runs in versions {', '.join(sorted(several))}: fine while it is being replaced"


def _shown(field: str, value: Any) -> str:
    if field in _TIMES and isinstance(value, int):
        return worded(value / NANOSECONDS)
    return "not set" if value is None else msgspec.json.encode(value).decode()
