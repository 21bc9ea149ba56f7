"""Streams and consumers as they were asked for: created if absent, widened if there, by any number of services at once."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec
from loguru import logger

from cliffracer.errors import CliffracerError, Conflict, DeadlineExceeded, Forbidden, NotFound, SetupError, Unavailable
from cliffracer.messaging.bus import is_closed
from cliffracer.messaging.configurations import (
    CONSUMER_RULES,
    FUNCTION,
    LIMITS,
    SERVICE,
    STREAM_RULES,
    Configuration,
    ConsumerConfig,
    StreamConfig,
    asked_for,
    check_echo,
    include,
    narrower,
    widened,
)
from cliffracer.messaging.jetstream import ConsumerInfo, JetStream, StreamInfo, read_stored
from cliffracer.wire.headers import encode_headers
from cliffracer.wire.subjects import named_within, within

WITHIN = 30.0  # seconds: an election takes some
RECONCILING = 5.0  # seconds that a start waits for a busy bucket

T = TypeVar("T")


def stream_body(jetstream: JetStream, asked: StreamConfig) -> Configuration:
    """Return the JSON object to ask for a stream with: on as many servers as ``nats_replicas`` says, or on more if it asks for more."""
    return {**asked_for(asked), "num_replicas": max(asked.num_replicas, jetstream.bus.replicas)}


async def ensure_stream(
    jetstream: JetStream,
    asked: StreamConfig,
    *,
    namespace: str = "",
    timeout: float = WITHIN,
    anew: Callable[[], Awaitable[StreamConfig]] | None = None,
) -> StreamInfo:
    """Return the stream: created if it was absent, else widened to what is asked for; `SetupError` if that is a contradiction.

    ``anew()`` returns what to ask for where it was absent, if that is more.
    """
    body = stream_body(jetstream, asked)
    refusals, updating = 0, False

    async def once() -> StreamInfo | None:
        nonlocal refusals, updating
        try:
            found = await jetstream.stream(asked.name)
        except NotFound:
            whole = body if anew is None else stream_body(jetstream, await anew())
            made = await jetstream.ask(f"STREAM.CREATE.{asked.name}", whole, StreamInfo)
            check_echo("stream", made.config, whole, jetstream.version)
            return made
        if not updating and widened("Stream", found.config, body, STREAM_RULES) == found.config:
            return found
        updating = True  # from here on what others want is ours to see to, too: our update may have taken it back
        try:
            return await _widen(jetstream, body, namespace)
        except SetupError:  # one echo may show another service's update, five in a row do not
            refusals += 1
            if refusals >= 5:
                raise
            return None

    return await _settled(once, f"stream {asked.name}", timeout)


async def widen(jetstream: JetStream, asked: StreamConfig, *, namespace: str) -> StreamInfo | None:
    """Widen a stream to what is asked for, if it exists; failures are only logged, so that they never prevent a start."""
    try:
        await jetstream.stream(asked.name)
        return await ensure_stream(jetstream, asked, namespace=namespace, timeout=RECONCILING)
    except (NotFound, Forbidden):  # it is not used by this service, or whoever provisions it does that
        return None
    except CliffracerError as error:
        logger.warning("{name} may not be as it is declared: {error}", name=asked.name, error=error)
        return None


async def reconcile(jetstream: JetStream, asked: StreamConfig, *, namespace: str) -> None:
    """Widen the stream of a bucket, and log in what it differs from its declaration."""
    found = await widen(jetstream, asked, namespace=namespace)
    if found is not None and (differences := narrower(found.config, asked)):
        logger.warning(
            "{name}: {differences}. A start only adds to what there is: `nats stream edit {name}` changes it",
            name=asked.name, differences="; ".join(differences),
        )  # fmt: skip


async def ensure_consumer(jetstream: JetStream, stream: str, asked: ConsumerConfig, *, timeout: float = WITHIN) -> ConsumerInfo:
    """Return the consumer, created if it was absent; an existing one keeps its position, gets our filters added, and our limits."""
    body = asked_for(asked)

    async def once() -> ConsumerInfo | None:
        try:
            found = await jetstream.consumer(stream, asked.name)
        except NotFound:
            made = await jetstream.create_consumer(stream, asked)
            check_echo("consumer", _normal(made.config), body, jetstream.version)
            return made
        present = _normal(found.config)
        _check_owner(present, body)
        wanted = widened("Consumer", present, body, CONSUMER_RULES)
        if wanted == present:
            return found
        try:
            updated = await jetstream.update_consumer(stream, asked.name, wanted)
        except Forbidden:  # another version was provisioned: only limits differ, and events are delivered all the same
            if not include(filters_in(present), body["filter_subjects"]):
                raise
            return found
        check_echo("consumer", _normal(updated.config), {f: wanted[f] for f in ("name", *CONSUMER_RULES) if f in wanted}, jetstream.version)
        return updated

    return await _settled(once, f"consumer {asked.name}", timeout)


async def refilter(jetstream: JetStream, stream: str, name: str, filters: list[str]) -> ConsumerInfo:
    """Change the filter of an existing consumer; it keeps its position."""
    present = _normal((await jetstream.consumer(stream, name)).config)
    updated = await jetstream.update_consumer(stream, name, {**present, "filter_subjects": filters})
    check_echo("consumer", _normal(updated.config), {"name": name, "filter_subjects": filters}, jetstream.version)
    return updated


def filters_in(config: Configuration) -> set[str]:
    """Return the filters of a consumer, whichever way they were written."""
    return set(_normal(config).get("filter_subjects") or [])


def _check_owner(present: Configuration, asked: Configuration) -> None:
    """Raise a `SetupError` if another function uses the consumer for other subjects: they would take each other's events."""
    theirs, ours = ((config.get("metadata") or {}) for config in (present, asked))
    names = [f"{meta.get(SERVICE, '')}.{meta.get(FUNCTION, '')}" for meta in (theirs, ours)]
    others, wanted = (sorted(config.get("filter_subjects") or []) for config in (present, asked))
    if "." in names or names[0] == names[1] or others == wanted:
        return
    raise SetupError(
        f"Consumer {asked['name']} is that of {names[0]}, on {', '.join(others)}; {names[1]} wants {', '.join(wanted)}. "
        "Functions that share a group share its events, so give them the same subjects, or another group."
    )


def _normal(config: Configuration) -> Configuration:
    """Return the configuration with its filter as a list, whichever way it was written."""
    single = config.get("filter_subject")
    rest = {name: value for name, value in config.items() if name != "filter_subject"}
    return {**rest, "filter_subjects": [single]} if single else rest


async def _settled(once: Callable[[], Awaitable[T | None]], what: str, timeout: float) -> T:
    """Repeat, with jittered pauses, until no other service interferes; `Unavailable` after ``timeout`` seconds."""
    until, pause = time.monotonic() + timeout, 0.02
    while True:
        problem: Exception | None = None
        try:
            done = await once()
            if done is not None:
                return done
        except (Conflict, NotFound, Unavailable, DeadlineExceeded) as error:
            if is_closed(error):
                raise
            problem = error  # created, deleted or changed by another service meanwhile, or an election
        if time.monotonic() + pause > until:
            raise Unavailable(f"{what} could not be set up within {timeout:g} s: {problem or 'others keep changing it'}") from problem
        await asyncio.sleep(pause * (0.5 + random.random()))  # noqa: S311 - jitter
        pause = min(pause * 2, 1.0)


async def _widen(jetstream: JetStream, body: Configuration, namespace: str) -> StreamInfo | None:
    """Update a stream under compare-and-set; None if another service interfered, so that the caller tries again.

    The server has no conditional update of streams. So a service first adds its requirements to a message, under
    compare-and-set; then it applies the sum of all requirements, and starts again if the message has changed meanwhile. An
    update made from an outdated view is thus corrected by its own author.
    """
    name = body["name"]
    home, subject = agreements(namespace, f"streams.{name}")
    await ensure_agreements(jetstream, namespace)
    revision, wishes = await _add_wishes(jetstream, home, subject, body)
    found = await jetstream.stream(name)
    wanted = widened("Stream", found.config, wishes, STREAM_RULES)
    updated = await jetstream.ask(f"STREAM.UPDATE.{name}", wanted, StreamInfo)
    check_echo("stream", updated.config, {f: wanted[f] for f in ("name", *STREAM_RULES) if f in wanted}, jetstream.version)
    latest = await jetstream.last_message(home, subject)
    return updated if latest is not None and latest.seq == revision else None


def agreements(namespace: str, about: str) -> tuple[str, str]:
    """Return (stream, subject) of an agreement of services: its last message counts, written under compare-and-set."""
    return named_within(namespace, "CLIFFRACER"), within(namespace, f"cliffracer.state.{about}")


async def ensure_agreements(jetstream: JetStream, namespace: str) -> None:
    """Create the small stream of agreements, if it is absent."""
    name, subjects = agreements(namespace, ">")
    try:
        found = (await jetstream.stream(name)).config
        if found.get("num_replicas", 1) < jetstream.bus.replicas:
            await jetstream.ask(f"STREAM.UPDATE.{name}", {**found, "num_replicas": jetstream.bus.replicas}, StreamInfo)
    except NotFound:
        config = StreamConfig(name=name, subjects=[subjects], max_msgs_per_subject=1, discard="old", description="what services agree on")
        await jetstream.ask(f"STREAM.CREATE.{name}", stream_body(jetstream, config), StreamInfo)


async def _add_wishes(jetstream: JetStream, home: str, subject: str, body: Configuration) -> tuple[int, Configuration]:
    """Return (revision, requirements of all services) once ours are among them; `Conflict` if another service was faster."""
    present = await jetstream.last_message(home, subject)
    known = (read_stored(present.data, Configuration) if present else None) or {}
    revision = present.seq if present else 0
    wishes = widened("Stream", {**body, **known, **{field: body[field] for field in LIMITS if field in body}}, body, STREAM_RULES)
    if wishes == known:
        return revision, known
    condition = encode_headers({"Nats-Expected-Last-Subject-Sequence": str(revision)})
    ack = await jetstream.store(subject, msgspec.json.encode(wishes), condition)
    return ack.seq, wishes
