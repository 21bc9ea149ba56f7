"""``cliffracer tail``: events as they happen, and before."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from datetime import datetime
from typing import Any

import click
import msgspec

from cliffracer.cli.output import odd, print_line, printable, say, soft, strong, tame
from cliffracer.cli.reach import looked_at, permitted, reach_settings, reached
from cliffracer.cli.reader import while_read
from cliffracer.client import AsyncClient
from cliffracer.durations import ago
from cliffracer.errors import CliffracerError, InvalidInput, NotFound, SetupError
from cliffracer.events import Received
from cliffracer.messaging.hearing import hear
from cliffracer.messaging.jetstream import JetStream
from cliffracer.messaging.reading import Reader
from cliffracer.messaging.received import received_from
from cliffracer.observability.redact import unsecret
from cliffracer.wire.codecs import Decoder
from cliffracer.wire.subjects import check_pattern

_SOON = 2.0  # seconds for an answer on which a remark depends
_DECODER: Decoder[Any] = Decoder(Any)


def tail(*, pattern: str, since: str | None, count: int | None, as_json: bool) -> None:
    """Print events until Ctrl-C, or until so many."""
    settings = reach_settings()
    try:
        check_pattern(pattern)
        begin = None if since is None else ago(since)
    except ValueError as error:
        raise click.UsageError(str(error)) from None

    async def run() -> None:
        left = count
        async with reached(settings, starts=True) as client, aclosing(_events(client, pattern, begin)) as events:
            if not as_json:
                say(soft(f"events {pattern} {looked_at(settings)}; Ctrl-C stops{await _narrow(client, pattern)}"), err=True)
            async for event in events:
                _print(event, as_json=as_json)
                left = None if left is None else left - 1
                if left == 0:
                    return

    asyncio.run(while_read(run()))


async def _narrow(client: AsyncClient, pattern: str) -> str:
    """Return a remark on a pattern without a wildcard where events below it were stored, or which looks as if there were some."""
    if "*" in pattern or pattern.endswith(">"):
        return ""
    subjects, below = client.link.subjects, 0
    with suppress(CliffracerError):  # nothing was ever stored, or that may not be asked
        info = await JetStream(client.link.bus, timeout=_SOON).stream(subjects.stream, subjects=subjects.event(f"{pattern}.>"))
        below = sum((info.state.subjects or {}).values())
    return "" if "." in pattern and not below else f"\nonly {pattern} itself: '{pattern}.>' has what is below it"


async def _events(client: AsyncClient, pattern: str, since: datetime | None) -> AsyncGenerator[Received[Any], None]:
    """Yield what is stored since then, and what comes; without ``since`` what comes, stored or not."""
    if since is None:
        arrived: asyncio.Queue[Received[Any]] = asyncio.Queue()

        def receive(subject: bytes, _reply: bytes, block: bytes | None, payload: bytes) -> None:
            arrived.put_nowait(received_from(client.link.subjects, subject, block, _value(payload)))

        await hear(client.link.bus, client.link.subjects, pattern, receive)
        await client.link.bus.flush()
        permitted(client, "Subscription")
        while True:
            yield await arrived.get()
    jetstream, subjects = JetStream(client.link.bus), client.link.subjects
    begin = {"deliver_policy": "by_start_time", "opt_start_time": since.isoformat()}
    try:
        await jetstream.stream(subjects.stream)
    except NotFound:
        raise SetupError(f"No event was ever stored: there is no stream {subjects.stream}.") from None
    async with Reader(jetstream, subjects.stream, [subjects.event(pattern)], begin) as reader:
        async for delivery in reader:
            yield received_from(subjects, delivery.subject, delivery.headers.block, _value(delivery.payload), sequence=delivery.stream_seq)


def _value(payload: bytes) -> Any:
    try:
        return unsecret(_DECODER.decode(payload)) if payload else None  # such as the token of a new password
    except InvalidInput:
        return payload  # no JSON: shown as it is


def _print(event: Received[Any], *, as_json: bool) -> None:
    correlation = event.headers.get("X-Correlation-ID", "")
    if as_json:
        fields = {"subject": event.subject, "data": _plain(event.data), "id": event.id, "time": event.time, "source": event.source}
        print_line({**fields, "correlation_id": correlation, "sequence": event.sequence})
        return
    when = f"{event.time.astimezone():%H:%M:%S}" if event.time else "--:--:--"
    data = odd(repr(event.data)) if isinstance(event.data, bytes) else tame(msgspec.json.encode(event.data).decode())
    say(f"{soft(when)} {strong(printable(event.subject))} {data} {soft(printable(f'{event.source} {correlation}'.strip()))}")


def _plain(data: Any) -> Any:
    return data.decode("utf-8", "backslashreplace") if isinstance(data, bytes) else data
