"""Events that a function could not handle: parked with their error; shown, replayed to that function only, or discarded.

A parked message is a copy: the original payload and headers, and our own headers (``Cliffracer-Dead-*``). If these do not fit into one
message, the payload goes into the object store, and the copy refers to it.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing, suppress
from datetime import datetime
from traceback import extract_tb

import msgspec

from cliffracer.errors import CliffracerError, Internal, NotFound, TooLarge
from cliffracer.messaging.broker import Parked
from cliffracer.messaging.claimcheck import CLAIM, ClaimCheck
from cliffracer.messaging.configurations import StreamConfig
from cliffracer.messaging.delivery import Delivery
from cliffracer.messaging.ensuring import ensure_stream
from cliffracer.messaging.jetstream import JetStream, Stored
from cliffracer.messaging.publishing import Publisher
from cliffracer.messaging.singleflight import SingleFlight
from cliffracer.observability.tracebacks import is_ours, printed
from cliffracer.shielding import shielded
from cliffracer.wire.headers import MESSAGE_ID, Headers, checked_token, encode_headers, number_from
from cliffracer.wire.subjects import Subjects, matches, named_within

DEAD = "Cliffracer-Dead-"
REPLAYED = "Cliffracer-Replayed"
_TRACE = 6_000  # bytes of a traceback that are kept
_ERROR = 1_000
_PLAIN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,128}")


class DeadLetters:
    """The dead-letter stream of a namespace."""

    def __init__(self, jetstream: JetStream, subjects: Subjects) -> None:
        self.jetstream = jetstream
        self.subjects = subjects
        self.stream = named_within(subjects.namespace, "DEAD")
        self.prefix = f"{subjects.prefix}cliffracer.dead."
        self._publisher = Publisher(jetstream, recover=SingleFlight(self.ensure))
        self._claims = ClaimCheck(jetstream, subjects.namespace)

    async def ensure(self) -> None:
        """Make the stream if it is absent."""
        await ensure_stream(self.jetstream, self.asked, namespace=self.subjects.namespace)

    @property
    def asked(self) -> StreamConfig:
        """The stream as it is asked for."""
        subjects, description = [f"{self.prefix}>"], "events that could not be handled"
        return StreamConfig(name=self.stream, subjects=subjects, description=description)

    async def park(self, delivery: Delivery, error: BaseException, *, service: str, function: str, timeout: float = 10.0) -> int:
        """Store a copy of the message with its error and return its number; only after that may the original be acknowledged."""
        facts = self._facts(delivery, cause(error), service, function)
        subject = f"{self.prefix}{delivery.consumer}.{_as_subject(self.subjects.event_name(delivery.subject))}"
        short = {name: value for name, value in facts.items() if name != f"{DEAD}Traceback"}
        for kept in (facts, short):
            with suppress(TooLarge):
                block = _joined(delivery.block, kept)
                return (await self._publisher.publish_block(subject, delivery.sent, block, timeout=timeout)).seq
        claim = await self._claims.stash(delivery.sent)
        for original in (delivery.block, None):  # with its original headers, unless these are too large
            with suppress(TooLarge):
                block = _joined(original, {**short, f"{DEAD}Claim": claim})
                return (await self._publisher.publish_block(subject, b"", block, timeout=timeout)).seq
        await self._claims.forget(claim)
        raise TooLarge(f"{delivery!r} cannot be parked: its subject is too long")

    def _facts(self, delivery: Delivery, error: BaseException, service: str, function: str) -> dict[str, str]:
        """Return the headers that describe the failure; a one-way call is filed under its method."""
        sent = delivery.subject.startswith(self.subjects.send(service, ""))
        facts = {
            "Service": service,
            "Function": delivery.subject.rpartition(".")[2] if sent else function,
            "Consumer": delivery.consumer,
            "Subject": delivery.subject,
            "Attempts": str(delivery.attempt),
            "Sequence": str(delivery.stream_seq),
            "Stream": delivery.stream,
            "Error": in_one_line(error),
            "Traceback": _quoted(_trace(error)),
        }
        once = f"{delivery.stream}:{delivery.consumer}:{delivery.stream_seq}:{delivery.timestamp}"
        return {MESSAGE_ID: once, **{f"{DEAD}{name}": value for name, value in facts.items()}}

    async def ls(self, *, service: str = "", function: str = "", subject: str = "", after: int = 0) -> AsyncIterator[Parked]:
        """Yield what is parked, oldest first, from number ``after`` + 1; ``subject`` may be a pattern, and all filters must fit."""
        from cliffracer.messaging.batches import messages  # noqa: PLC0415 - a service parks letters, and lists none

        found = messages(self.jetstream, self.stream, f"{self.prefix}>", after=after)
        async with aclosing(found):
            try:
                async for stored in found:
                    parked = self._parked(stored)
                    wanted = ((service, parked.service), (function, parked.function))
                    if all(given in ("", has) for given, has in wanted) and (not subject or matches(subject, parked.subject)):
                        yield parked
            except NotFound:  # no stream: nothing was ever parked
                return

    async def show(self, number: int) -> Parked:
        """Return one parked message, its payload included wherever that is; `NotFound` if it is not there."""
        parked = self._parked(await self._stored(number))
        if parked.claim:
            with suppress(NotFound):  # somebody deleted it: the error can be shown all the same
                return msgspec.structs.replace(parked, payload=await self._claims.redeem_name(parked.claim))
        return parked

    async def replay(self, number: int, *, payload: bytes | None = None, token: str | None = None) -> None:
        """Hand a message, or another payload in its place, to the function that failed, and to no other; then discard it.

        ``token`` is used in place of the emitter's, which may have expired.
        `NotFound` if it is not there, or if that function takes nothing any more.
        """
        parked = self._parked(await self._stored(number))
        await self._check_consumer(parked)
        await self._hand_over(parked, payload, token)
        await self._remove(parked)

    async def replay_some(self, numbers: Sequence[int], *, payload: bytes | None = None, token: str | None = None) -> dict[int, str]:
        """Replay several, one stored before the next; return the reasons for those that could not be, by number. All are held in memory."""
        found = await asyncio.gather(*map(self._stored, numbers), return_exceptions=True)
        problems: dict[int, str] = {}
        handed: list[Parked] = []
        checked: set[tuple[str, str]] = set()
        try:
            for number, stored in zip(numbers, found, strict=True):
                try:
                    if isinstance(stored, BaseException):
                        raise stored
                    parked = self._parked(stored)
                    if (place := (parked.stream, parked.consumer)) not in checked:
                        await self._check_consumer(parked)
                        checked.add(place)
                    await self._hand_over(parked, payload, token)
                    handed.append(parked)
                except NotFound as error:  # the others need not wait for this one
                    problems[number] = str(error)
        finally:  # even if it ends in the middle: what was replayed must not be replayed again
            problems |= await shielded(self._remove_all(handed), "replayed dead letters")
        return problems

    async def discard(self, number: int) -> None:
        """Remove a parked message for good; `NotFound` if it is not there."""
        await self._remove(self._parked(await self._stored(number)))

    async def count(self) -> int:
        """Return how many messages are parked."""
        try:
            return (await self.jetstream.stream(self.stream)).state.messages
        except NotFound:
            return 0

    async def _hand_over(self, parked: Parked, payload: bytes | None, token: str | None) -> None:
        """Store a message for the function that failed; once within the duplicate window, however often it is called."""
        headers = {name: value for name, value in parked.headers.items() if not name.lower().startswith("nats-")}
        headers[REPLAYED] = str(parked.id)
        if token is not None:
            headers = {name: value for name, value in headers.items() if name.lower() != "authorization"}
            headers["Authorization"] = f"Bearer {checked_token(token)}"
        if payload is None and parked.ours:
            payload = await self._claims.redeem_name(parked.claim)
        if payload is not None:
            headers.pop(CLAIM, None)
            if self._claims.too_large(payload):
                headers[CLAIM], payload = await self._claims.stash(payload), b""
        await self._publisher.publish(
            self._door(parked),
            parked.payload if payload is None else payload,
            headers,
            message_id=f"replay:{self.stream}:{parked.id}:{parked.parked.timestamp()}",
        )

    async def _remove_all(self, letters: Sequence[Parked]) -> dict[int, str]:
        ended = await asyncio.gather(*map(self._remove, letters), return_exceptions=True)
        for error in ended:
            if error is not None and not isinstance(error, NotFound):
                raise error
        return {letter.id: str(error) for letter, error in zip(letters, ended, strict=True) if error is not None}

    async def _remove(self, parked: Parked) -> None:
        try:
            await self.jetstream.delete_message(self.stream, parked.id)
        except NotFound:
            raise NotFound(f"there is no dead letter {parked.id}") from None
        if parked.ours:
            with suppress(NotFound):
                await self._claims.forget(parked.claim)

    def _door(self, parked: Parked) -> str:
        """Return the subject on which only the function that failed gets the message: anything but an event has one reader anyway."""
        if parked.stream == self.subjects.stream:
            return f"{self.subjects.prefix}cliffracer.replay.{parked.consumer}.{_as_subject(parked.subject)}"
        return f"{self.subjects.prefix}{parked.subject}"

    async def _check_consumer(self, parked: Parked) -> None:
        try:
            await self.jetstream.consumer(parked.stream, parked.consumer)
        except NotFound:
            raise NotFound(
                f"{parked.service}.{parked.function} takes nothing any more: there is no consumer {parked.consumer} of {parked.stream}"
            ) from None

    def name_of(self, subject: str) -> str:
        """Return what users call the subject of an event, ``user.created``, or of a one-way call, ``send.payments.charge``."""
        return self.subjects.event_name(subject).removeprefix(self.subjects.prefix)

    async def _stored(self, number: int) -> Stored:
        try:
            return await self.jetstream.message(self.stream, number)
        except NotFound:
            raise NotFound(f"there is no dead letter {number}") from None

    def _parked(self, stored: Stored) -> Parked:
        headers = _readable(stored.hdrs)
        facts = {name.removeprefix(DEAD): headers.pop(name) for name in list(headers) if name.startswith(DEAD)}
        headers.pop(MESSAGE_ID, None)
        moved = facts.get("Claim", "")
        return Parked(
            id=stored.seq,
            subject=self.name_of(facts.get("Subject", stored.subject)),
            service=facts.get("Service", ""),
            function=facts.get("Function", ""),
            consumer=facts.get("Consumer", ""),
            error=facts.get("Error", ""),
            traceback=_unquoted(facts.get("Traceback", "")),
            attempts=number_from(facts.get("Attempts")),
            stream=facts.get("Stream", self.subjects.stream),
            sequence=number_from(facts.get("Sequence")),
            parked=datetime.fromisoformat(stored.time),
            headers=headers,
            payload=stored.data,
            claim=moved or headers.get(CLAIM, ""),
            ours=bool(moved),
        )


def cause(error: BaseException) -> BaseException:
    """Return the cause behind the `Internal` that a call ended with."""
    seen: list[BaseException] = []  # Python lets an error be its own cause
    while isinstance(error, Internal) and error.__cause__ is not None and error not in seen:
        seen.append(error)
        error = error.__cause__
    return error


def _named(error: BaseException) -> str:
    name = getattr(error, "shown_as", type(error).__name__)
    return f"{name}: {error}" if str(error) else str(name)


def _trace(error: BaseException) -> str:
    if isinstance(error, CliffracerError) and all(map(is_ours, extract_tb(error.__traceback__))):
        return ""  # raised by us before any function of the user's began: the message says all
    text = printed(error, error.__traceback__)
    return text if len(text) <= _TRACE else f"…{text[-_TRACE:]}"  # the end says what happened


def in_one_line(error: BaseException) -> str:
    """Return class and message of an error, as a dead letter and the log have it."""
    return "".join(c if c.isprintable() else " " for c in _named(error)[:_ERROR]).encode("utf-8", "replace").decode()


def _quoted(text: str) -> str:
    """Return a text with line breaks as one header value: a JSON string, all ASCII."""
    return msgspec.json.encode(text.encode("ascii", "backslashreplace").decode()).decode().replace("\x7f", "?")


def _unquoted(value: str) -> str:
    try:
        return msgspec.json.decode(value, type=str) if value else ""
    except msgspec.MsgspecError:
        return value


def _joined(block: bytes | None, ours: Mapping[str, str]) -> bytes:
    """Return our headers after those of the original, as they came; those that the server would act on are left out."""
    kept = []
    for line in (block or b"").split(b"\r\n")[1:]:
        name, colon, _ = line.partition(b":")
        if colon and _PLAIN.fullmatch(name) and not name.lower().startswith((b"nats-", DEAD.lower().encode())):
            kept.append(line)
    first, _, rest = encode_headers(ours).partition(b"\r\n")
    return b"\r\n".join((first, *kept, rest))


def _readable(block: bytes | None) -> dict[str, str]:
    return {name: value for name, value in Headers(block).items() if name.isprintable() and value.isprintable()}


def _as_subject(text: str) -> str:
    """Return the subject, with what cannot be published to replaced."""
    tokens = [re.sub(r"[\x00-\x20\x7f*>\\]", "_", token) or "_" for token in text.split(".")]
    return ".".join(tokens)[:800].rstrip(".")
