"""JetStream's JSON API (``$JS.API.>``, ADR-1, 31, 37) over one bus: streams, consumers, single messages, typed answers and errors."""

import asyncio
import time
from typing import Any, TypeVar

import msgspec

from cliffracer.errors import NOT_PERMITTED, Conflict, Forbidden, Internal, NotFound, ServiceError, SetupError, TooLarge, Unavailable
from cliffracer.messaging.bus import Bus, Reply, without_streams
from cliffracer.messaging.configurations import Configuration, ConsumerConfig, asked_for

API = "$JS.API."
AGAIN = 1.0
"""Seconds after which a request is repeated: a cluster that is electing a leader, for up to 9 s, drops what it is asked."""
_ONCE = ("STREAM.DELETE.", "STREAM.PURGE.", "STREAM.MSG.DELETE.", "CONSUMER.DELETE.")  # a repetition would find nothing left to do

T = TypeVar("T")


class ApiError(msgspec.Struct):
    """What the server says about a request that it refused."""

    code: int = 500
    err_code: int = 0
    description: str = ""


class PubAck(msgspec.Struct):
    """The stream has it: under which number, and whether that was a repetition of one with the same message id."""

    stream: str = ""
    seq: int = 0
    duplicate: bool = False
    error: ApiError | None = None
    repeated: bool = False
    """It is not of the server: whether an attempt before had no answer, so that a duplicate may be one of that."""


class StreamState(msgspec.Struct):
    """How much a stream holds."""

    messages: int = 0
    bytes: int = 0
    first_seq: int = 0
    last_seq: int = 0
    consumer_count: int = 0
    num_subjects: int = 0
    subjects: dict[str, int] | None = None


class Source(msgspec.Struct):
    """Another stream that a stream takes messages over from, and how far it is."""

    name: str
    lag: int = 0
    seq: int = 0


class StreamInfo(msgspec.Struct):
    """A stream: its configuration as the server has it, and its state."""

    config: Configuration
    state: StreamState
    created: str = ""
    sources: list[Source] | None = None


class Position(msgspec.Struct, frozen=True):
    """A place in a consumer's and its stream's numbering."""

    consumer_seq: int = 0
    stream_seq: int = 0


class ConsumerInfo(msgspec.Struct):
    """A consumer: its configuration as the server has it, and how far it is."""

    stream_name: str
    name: str
    config: Configuration
    created: str = ""
    delivered: Position = Position()
    ack_floor: Position = Position()
    num_ack_pending: int = 0
    num_redelivered: int = 0
    num_waiting: int = 0
    num_pending: int = 0


class Stored(msgspec.Struct):
    """One message as a stream holds it."""

    subject: str
    seq: int
    time: str
    data: bytes = b""
    hdrs: bytes | None = None


class Done(msgspec.Struct):
    """The server did it."""

    success: bool = False
    purged: int = 0


class _Answer(msgspec.Struct):
    error: ApiError | None = None


class _Got(msgspec.Struct):
    message: Stored


class _Page(msgspec.Struct):
    total: int = 0
    consumers: list[ConsumerInfo] | None = None


class _Names(msgspec.Struct):
    total: int = 0
    streams: list[str] | None = None


NO_JSON = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What reading JSON of anybody's may raise."""
_error_of = msgspec.json.Decoder(_Answer)
_ack_of = msgspec.json.Decoder(PubAck)

STREAM_EXISTS = (10058, 10148, 10013)  # a stream or consumer of that name, with another configuration
WRONG_SEQUENCE = (10071, 10164)  # compare-and-set failed
SERVER_FULL = (10047, 10023, 10002)  # no room in the store of the server, or within the account's limits
FULL = (*SERVER_FULL, 10077)  # or within the stream's limits
_ROOM = "give it room (max_file_store, its disk, the account's limits), or remove what nobody needs"


def typed(error: ApiError, about: str) -> ServiceError | SetupError:  # noqa: PLR0911 - a table of ranges
    """Return the error to raise for one of the server's; ``details["err_code"]`` keeps its number."""
    text = f"{about}: {error.description} ({error.err_code})"
    if error.err_code in STREAM_EXISTS or error.err_code in WRONG_SEQUENCE:
        return Conflict(text, err_code=error.err_code)
    if error.err_code in FULL:
        what, cure = ("JetStream", f"; {_ROOM}") if error.err_code in SERVER_FULL else ("the stream", "")
        return Unavailable(f"{about}: {what} is full: {error.description}{cure}", err_code=error.err_code, reason="full")
    if error.err_code == 10054:
        return TooLarge(text, err_code=error.err_code)
    if error.err_code in (10039, 10076):
        return SetupError(f"{about}: {error.description}: start nats-server with -js, and enable JetStream for the account.")
    if error.err_code in (10005, 10074):
        return SetupError(f"{about}: {error.description}: NATS_REPLICAS, or the replicas of a bucket, ask for more servers than there are.")
    if error.code == 404:
        return NotFound(text, err_code=error.err_code)
    if error.code in (503, 429, 408) or error.err_code == 10158:  # the same message id is on its way: ask again how it went
        return Unavailable(text, err_code=error.err_code)
    if error.code in (400, 403) or error.err_code in (10052, 10065):
        return SetupError(f"{text}.")
    return Internal(text, err_code=error.err_code)


def _stranger(about: str, payload: bytes) -> Internal:
    return Internal(f"{about}: it was not JetStream that answered {payload[:60]!r}: who else subscribes there, and replies?")


def read_stored(data: bytes, kind: type[T]) -> T | None:
    """Return what a stored message says; None where that is nothing of the kind: who may write there may write anything."""
    try:
        return msgspec.json.decode(data, type=kind)
    except NO_JSON:
        return None


def read_ack(payload: bytes, subject: str) -> PubAck:
    """Return what a stream says about a message on a subject; its refusal is raised."""
    try:
        ack = _ack_of.decode(payload)
    except NO_JSON:
        raise _stranger(f"publish to {subject}", payload) from None
    if ack.error is not None:
        raise typed(ack.error, f"publish to {subject}")
    return ack


class JetStream:
    """JetStream's API over one bus; every request waits at most ``timeout`` seconds, by default those that an election takes."""

    def __init__(self, bus: Bus, *, timeout: float = 10.0) -> None:
        self.bus = bus
        self.timeout = timeout

    @property
    def version(self) -> tuple[int, ...]:
        """The version of the server that the bus is connected to: ``(2, 15, 1)``."""
        return self.bus.version

    async def ask(self, verb: str, body: Any, kind: type[T]) -> T:
        """Return the answer to one request of the API, ``STREAM.INFO.EVENTS``; its errors are typed."""
        payload = b"" if body is None else msgspec.json.encode(body)
        try:
            reply = await self._answer(verb, payload)
        except Forbidden as error:
            cure = "Allow it what it declares (cliffracer permissions), and make what it needs before it starts (cliffracer provision)."
            raise Forbidden(f"{error.message}. {cure}", reason=NOT_PERMITTED) from None
        except Unavailable:
            if disabled := without_streams(self.bus):
                raise SetupError(f"{disabled}: start nats-server with -js.") from None
            raise
        try:
            failure = _error_of.decode(reply.payload).error
            if failure is None:
                return msgspec.json.decode(reply.payload, type=kind)
        except NO_JSON:
            raise _stranger(verb, reply.payload) from None
        raise typed(failure, verb)

    async def _answer(self, verb: str, payload: bytes) -> Reply:
        """Return the first answer to a request that is repeated until there is one, unless it is one of `_ONCE`."""
        subject, until = f"{API}{verb}".encode(), time.monotonic() + self.timeout
        repeated = not verb.startswith(_ONCE)
        asked: list[asyncio.Task[Reply]] = []
        try:
            while True:
                left = until - time.monotonic()
                if not asked or (left > 0 and self.bus.connected):
                    asked.append(asyncio.create_task(self.bus.request(subject, payload, timeout=left)))
                again = AGAIN if repeated and left > AGAIN else None
                done, _ = await asyncio.wait(asked, timeout=again, return_when=asyncio.FIRST_COMPLETED)
                if done:
                    return done.pop().result()
        finally:
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)

    async def store(self, subject: str, payload: bytes, block: bytes | None = None, *, timeout: float | None = None) -> PubAck:
        """Publish once and return the stream's ack; `Unavailable` where no stream takes the subject, `Conflict` for a failed condition."""
        try:
            reply = await self.bus.request(subject.encode(), payload, block, timeout=self.timeout if timeout is None else timeout)
        except Unavailable as error:
            if error.details.get("reason") != "nobody":
                raise
            raise Unavailable(f"no stream stores {subject}{(off := without_streams(self.bus)) and f': {off}'}", **error.details) from None
        return read_ack(reply.payload, subject)

    async def stream(self, name: str, *, subjects: str | None = None) -> StreamInfo:
        """Return a stream's configuration and state; with ``subjects`` a filter, how many messages each subject has."""
        return await self.ask(f"STREAM.INFO.{name}", {"subjects_filter": subjects} if subjects else None, StreamInfo)

    async def stream_names(self) -> list[str]:
        """Return the names of all streams."""
        found: list[str] = []
        while True:
            page = await self.ask("STREAM.NAMES", {"offset": len(found)}, _Names)
            found += page.streams or []
            if not page.streams or len(found) >= page.total:
                return found

    async def delete_stream(self, name: str) -> None:
        """Remove a stream and all that it holds."""
        await self.ask(f"STREAM.DELETE.{name}", None, Done)

    async def purge(self, name: str, *, filter: str | None = None, seq: int | None = None) -> int:
        """Remove messages and return how many: of a subject filter, before a number."""
        if seq is not None and seq <= 1:
            return 0  # servers before 2.12 take it for no number at all, and remove everything
        body = {"filter": filter, "seq": seq}
        done = await self.ask(f"STREAM.PURGE.{name}", {key: value for key, value in body.items() if value is not None}, Done)
        return done.purged

    async def consumer(self, stream: str, name: str) -> ConsumerInfo:
        """Return a consumer's configuration and how far it is."""
        return await self.ask(f"CONSUMER.INFO.{stream}.{name}", None, ConsumerInfo)

    async def consumers(self, stream: str) -> list[ConsumerInfo]:
        """Return all consumers of a stream."""
        found: list[ConsumerInfo] = []
        while True:
            page = await self.ask(f"CONSUMER.LIST.{stream}", {"offset": len(found)}, _Page)
            found += page.consumers or []
            if not page.consumers or len(found) >= page.total:
                return found

    async def create_consumer(self, stream: str, asked: ConsumerConfig) -> ConsumerInfo:
        """Return the consumer that was made; `Conflict` if there is one of that name with another configuration."""
        body = {"stream_name": stream, "config": asked_for(asked), "action": "create"}
        return await self.ask(f"CONSUMER.CREATE.{stream}.{asked.name}", body, ConsumerInfo)

    async def update_consumer(self, stream: str, name: str, config: Configuration) -> ConsumerInfo:
        """Return the consumer with its new configuration; it keeps its place."""
        return await self.ask(
            f"CONSUMER.CREATE.{stream}.{name}", {"stream_name": stream, "config": config, "action": "update"}, ConsumerInfo
        )

    async def delete_consumer(self, stream: str, name: str) -> None:
        """Remove a consumer, and with it how far it was."""
        await self.ask(f"CONSUMER.DELETE.{stream}.{name}", None, Done)

    async def message(self, stream: str, seq: int) -> Stored:
        """Return one message by its number; `NotFound` where it is gone."""
        return (await self.ask(f"STREAM.MSG.GET.{stream}", {"seq": seq}, _Got)).message

    async def next_message(self, stream: str, seq: int, subject: str) -> Stored | None:
        """Return the first message from a number on whose subject fits; None at the end."""
        return await self._found(stream, {"seq": seq, "next_by_subj": subject})

    async def last_message(self, stream: str, subject: str) -> Stored | None:
        """Return the last message of a subject; None if it has none."""
        return await self._found(stream, {"last_by_subj": subject})

    async def delete_message(self, stream: str, seq: int) -> None:
        """Remove one message by its number; `NotFound` where it is gone."""
        await self.ask(f"STREAM.MSG.DELETE.{stream}", {"seq": seq, "no_erase": True}, Done)

    async def _found(self, stream: str, body: Configuration) -> Stored | None:
        try:
            return (await self.ask(f"STREAM.MSG.GET.{stream}", body, _Got)).message
        except NotFound as error:
            if error.details.get("err_code") == 10037:
                return None
            raise
