"""Events that a function could not handle: parked with what went wrong; shown, replayed to that function only, or discarded.

A parked message is a copy: payload and headers as they were, and ours beside them (``Cliffracer-Dead-*``).
"""

import re
import traceback
from collections.abc import AsyncIterator, Mapping
from datetime import datetime

import msgspec

from cliffracer.errors import Internal, NotFound, TooLarge
from cliffracer.messaging.configurations import StreamConfig
from cliffracer.messaging.delivery import Delivery
from cliffracer.messaging.ensuring import ensure_stream
from cliffracer.messaging.jetstream import JetStream, Stored
from cliffracer.messaging.publishing import Publisher
from cliffracer.wire.headers import MESSAGE_ID, Headers, encode_headers
from cliffracer.wire.subjects import Subjects, named_within

DEAD = "Cliffracer-Dead-"
REPLAYED = "Cliffracer-Replayed"
_TRACE = 6_000  # bytes of a traceback that are kept
_ERROR = 1_000
_PLAIN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,128}")


class Parked(msgspec.Struct, frozen=True, kw_only=True):
    """One parked message."""

    id: int
    """Its number in the dead-letter stream."""
    subject: str
    """The subject of the event, ``user.created``."""
    service: str
    function: str
    consumer: str
    error: str
    """Class and message: ``ValueError: no such user``."""
    traceback: str
    attempts: int
    sequence: int
    """The number of the original in its stream."""
    parked: datetime
    headers: dict[str, str]
    payload: bytes
    """Empty if ``elsewhere``."""
    elsewhere: bool = False
    """The message was too large to be copied with what went wrong: its payload is where it was, under ``sequence``."""


class DeadLetters:
    """The dead-letter stream of a namespace."""

    def __init__(self, jetstream: JetStream, subjects: Subjects, *, replicas: int = 1) -> None:
        self.jetstream = jetstream
        self.subjects = subjects
        self.stream = named_within(subjects.namespace, "DEAD")
        self.prefix = f"{subjects.prefix}cliffracer.dead."
        self._replicas = replicas
        self._publisher = Publisher(jetstream, recover=self.ensure)

    async def ensure(self) -> None:
        """Make the stream if it is absent."""
        config = StreamConfig(
            name=self.stream, subjects=[f"{self.prefix}>"], num_replicas=self._replicas, description="events that could not be handled"
        )
        await ensure_stream(self.jetstream, config, namespace=self.subjects.namespace)

    async def park(self, delivery: Delivery, error: BaseException, *, service: str, function: str, timeout: float = 10.0) -> None:
        """Return once a copy of the message is stored, with what went wrong; only then may the original be answered."""
        error = _cause(error)
        facts = {
            "Service": service,
            "Function": function,
            "Consumer": delivery.consumer,
            "Subject": delivery.subject,
            "Attempts": str(delivery.attempt),
            "Sequence": str(delivery.stream_seq),
            "Stream": delivery.stream,
            "Error": _one_line(_named(error), _ERROR),
            "Traceback": _quoted(_trace(error)),
        }
        subject = f"{self.prefix}{delivery.consumer}.{_as_subject(self.subjects.event_name(delivery.subject))}"
        once = f"{delivery.stream}:{delivery.consumer}:{delivery.stream_seq}:{delivery.timestamp}"
        for dropped, payload in (("", delivery.sent), ("Traceback", delivery.sent), ("Traceback", b"")):
            kept = {f"{DEAD}{name}": value for name, value in facts.items() if name != dropped}
            if payload is not delivery.sent:
                kept[f"{DEAD}Elsewhere"] = "1"
            block = _joined(delivery.headers.block, {**kept, MESSAGE_ID: once}, originals=payload is delivery.sent)
            try:
                await self._publisher.publish_block(subject, payload, block, timeout=timeout)
            except TooLarge:
                continue
            return
        raise TooLarge(f"{delivery!r} cannot be parked: its subject is too long")

    async def ls(self, *, service: str = "", function: str = "", subject: str = "", after: int = 0) -> AsyncIterator[Parked]:
        """Yield what is parked, oldest first, from number ``after`` + 1; filters are literal, and all must fit."""
        number = after
        while True:
            try:
                found = await self.jetstream.next_message(self.stream, number + 1, f"{self.prefix}>")
            except NotFound:  # no stream: nothing was ever parked
                return
            if found is None:
                return
            number = found.seq
            parked = self._parked(found)
            wanted = ((service, parked.service), (function, parked.function), (subject, parked.subject))
            if all(given in ("", has) for given, has in wanted):
                yield parked

    async def show(self, number: int) -> Parked:
        """Return one parked message, its payload included wherever that is; `NotFound` if it is not there."""
        parked = self._parked(await self._stored(number))
        if not parked.elsewhere:
            return parked
        original = await self.jetstream.message(self.subjects.stream, parked.sequence)
        return msgspec.structs.replace(parked, payload=original.data, headers=_readable(original.hdrs))

    async def replay(self, number: int, *, payload: bytes | None = None) -> None:
        """Hand a message, or another payload in its place, to the function that failed, and to no other; then discard it.

        `NotFound` if it is not there, or if that function subscribes no longer.
        """
        parked = await self.show(number)
        await self._check_consumer(parked)
        headers = {name: value for name, value in parked.headers.items() if not name.lower().startswith("nats-")}
        headers[REPLAYED] = str(number)
        await self._publisher.publish(
            f"{self.subjects.prefix}cliffracer.replay.{parked.consumer}.{_as_subject(parked.subject)}",
            parked.payload if payload is None else payload,
            headers,
            message_id=f"replay:{self.stream}:{number}:{parked.parked.timestamp()}",
        )
        await self.discard(number)

    async def discard(self, number: int) -> None:
        """Remove a parked message for good; `NotFound` if it is not there."""
        try:
            await self.jetstream.delete_message(self.stream, number)
        except NotFound:
            raise NotFound(f"no dead letter {number}") from None

    async def count(self) -> int:
        """Return how many messages are parked."""
        try:
            return (await self.jetstream.stream(self.stream)).state.messages
        except NotFound:
            return 0

    async def _check_consumer(self, parked: Parked) -> None:
        try:
            await self.jetstream.consumer(self.subjects.stream, parked.consumer)
        except NotFound:
            raise NotFound(f"{parked.service}.{parked.function} subscribes no longer: there is no consumer {parked.consumer}") from None

    async def _stored(self, number: int) -> Stored:
        try:
            return await self.jetstream.message(self.stream, number)
        except NotFound:
            raise NotFound(f"no dead letter {number}") from None

    def _parked(self, stored: Stored) -> Parked:
        headers = _readable(stored.hdrs)
        facts = {name.removeprefix(DEAD): headers.pop(name) for name in list(headers) if name.startswith(DEAD)}
        headers.pop(MESSAGE_ID, None)
        return Parked(
            id=stored.seq,
            subject=self.subjects.event_name(facts.get("Subject", stored.subject)),
            service=facts.get("Service", ""),
            function=facts.get("Function", ""),
            consumer=facts.get("Consumer", ""),
            error=facts.get("Error", ""),
            traceback=_unquoted(facts.get("Traceback", "")),
            attempts=_number(facts.get("Attempts", "")),
            sequence=_number(facts.get("Sequence", "")),
            parked=datetime.fromisoformat(_shortened(stored.time)),
            headers=headers,
            payload=stored.data,
            elsewhere="Elsewhere" in facts,
        )


def _cause(error: BaseException) -> BaseException:
    """Return what really happened, where only an `Internal` was let out of the call."""
    return error.__cause__ if isinstance(error, Internal) and error.__cause__ is not None else error


def _named(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _trace(error: BaseException) -> str:
    text = "".join(traceback.format_exception(error))
    return text if len(text) <= _TRACE else f"…{text[-_TRACE:]}"  # the end says what happened


def _one_line(text: str, limit: int) -> str:
    return "".join(c if c.isprintable() else " " for c in text[:limit]).encode("utf-8", "replace").decode()


def _quoted(text: str) -> str:
    """Return a text with line breaks as one header value: a JSON string, all ASCII."""
    return msgspec.json.encode(text.encode("ascii", "backslashreplace").decode()).decode().replace("\x7f", "?")


def _unquoted(value: str) -> str:
    try:
        return msgspec.json.decode(value, type=str) if value else ""
    except msgspec.MsgspecError:
        return value


def _joined(block: bytes | None, ours: Mapping[str, str], *, originals: bool) -> bytes:
    """Return our headers after those of the original, as they came; those that the server would act on are left out."""
    kept = []
    for line in (block or b"").split(b"\r\n")[1:] if originals else ():
        name, colon, _ = line.partition(b":")
        if colon and _PLAIN.fullmatch(name) and not name.lower().startswith((b"nats-", DEAD.lower().encode())):
            kept.append(line)
    first, _, rest = encode_headers(ours).partition(b"\r\n")
    return b"\r\n".join((first, *kept, rest))


def _readable(block: bytes | None) -> dict[str, str]:
    return {name: value for name, value in Headers(block).items() if name.isprintable() and value.isprintable()}


def _as_subject(text: str) -> str:
    """Return the subject, made fit to publish to if it was not."""
    tokens = [re.sub(r"[\x00-\x20\x7f*>\\]", "_", token) or "_" for token in text.split(".")]
    return ".".join(tokens)[:800].rstrip(".")


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() else 0


def _shortened(time: str) -> str:
    """Return an RFC 3339 time with nanoseconds as one with microseconds."""
    whole, _, fraction = time.rstrip("Z").partition(".")
    return f"{whole}.{fraction[:6]:0<6}+00:00"
