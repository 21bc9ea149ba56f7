"""Events as they happen, and from a while ago, for one browser; what it does not read in time is counted, not kept."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import Any

from cliffracer.client import AsyncClient
from cliffracer.errors import InvalidInput, NotFound
from cliffracer.events import Received
from cliffracer.messaging.claimcheck import is_claim
from cliffracer.messaging.hearing import hear
from cliffracer.messaging.jetstream import JetStream
from cliffracer.messaging.reading import Reader
from cliffracer.messaging.received import received_from
from cliffracer.observability.redact import unsecret
from cliffracer.wire.codecs import Decoder

_DECODER: Decoder[Any] = Decoder(Any)
_WAITING = 500
_BATCH = 100
_PAUSE = 0.1  # seconds between two batches: an eye sees no more
_SHOWN = 20_000  # characters of one event's data


async def tailed(client: AsyncClient, pattern: str, since: datetime | None) -> AsyncGenerator[dict[str, Any], None]:
    """Yield batches, ``{"events": [...], "missed": n}``; with ``since`` those that were stored from then on come first."""
    waiting: deque[dict[str, Any]] = deque()
    wake = asyncio.Event()
    missed = 0
    reading: asyncio.Task[None] | None = None

    def take(event: Received[Any]) -> None:
        nonlocal missed
        if len(waiting) >= _WAITING:
            missed += 1
        else:
            waiting.append(shown(event))
        wake.set()

    async with contextlib.AsyncExitStack() as stack:
        if since is None:
            await _live(client, pattern, take, stack)
        else:
            reading = asyncio.create_task(_stored(client, pattern, since, take))
            reading.add_done_callback(lambda _: wake.set())
            stack.push_async_callback(_ended, reading)
        while True:
            if reading is not None and reading.done():
                reading.result()  # it reads for ever, so this tells why it does not
            batch = [waiting.popleft() for _ in range(min(_BATCH, len(waiting)))]
            missed, dropped = 0, missed
            yield {"events": batch, "missed": dropped}
            await asyncio.sleep(_PAUSE)
            if not waiting and (reading is None or not reading.done()):
                wake.clear()
                await wake.wait()


async def _live(client: AsyncClient, pattern: str, take: Any, stack: contextlib.AsyncExitStack) -> None:
    subjects = client.link.subjects

    def receive(subject: bytes, _reply: bytes, block: bytes | None, payload: bytes) -> None:
        take(received_from(subjects, subject, block, _value(payload, block)))

    subscription = await hear(client.link.bus, subjects, pattern, receive)
    stack.push_async_callback(subscription.close)
    await client.link.bus.flush()


async def _stored(client: AsyncClient, pattern: str, since: datetime, take: Any) -> None:
    subjects = client.link.subjects
    begin = {"deliver_policy": "by_start_time", "opt_start_time": since.isoformat()}
    async with Reader(JetStream(client.link.bus), subjects.stream, [subjects.event(pattern)], begin) as reader:
        async for found in reader:
            take(
                received_from(
                    subjects, found.subject, found.headers.block, _value(found.payload, found.headers.block), sequence=found.stream_seq
                )
            )


async def check_stored(client: AsyncClient) -> None:
    """Raise `NotFound` with what that means if no event was ever stored."""
    try:
        await JetStream(client.link.bus).stream(client.link.subjects.stream)
    except NotFound:
        raise NotFound("no event was ever stored here") from None


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


def _value(payload: bytes, block: bytes | None) -> Any:
    if not payload and is_claim(block):
        return "(too large to be shown here: it is in the object store)"
    if len(payload) > _SHOWN:
        return f"{payload[:_SHOWN].decode('utf-8', 'replace')} … ({len(payload)} bytes)"
    try:
        return _DECODER.decode(payload) if payload else None
    except InvalidInput:
        return payload.decode("utf-8", "backslashreplace")


def shown(event: Received[Any]) -> dict[str, Any]:
    """Return an event as the browser is given it, without the tokens in its headers and its data."""
    return {
        "subject": event.subject,
        "data": unsecret(event.data),
        "id": event.id,
        "time": event.time or datetime.now(UTC),
        "source": event.source,
        "sequence": event.sequence,
        "headers": unsecret(dict(event.headers)),
    }
