"""Answers RPC: one endpoint per method; decodes, admits, invokes, replies. Every request gets one reply."""

import asyncio
from math import inf
from time import monotonic
from typing import Any

from loguru import logger
from msgspec.structs import astuple

from cliffracer.context import STORED, Context, current, new_id
from cliffracer.declarations import Rpc, where
from cliffracer.eager import Held, Starts
from cliffracer.errors import Cancelled, Internal, InvalidInput, Overloaded, ServiceError, TooLarge, Unavailable
from cliffracer.events import Rejected
from cliffracer.handler import Handler
from cliffracer.invoke import check_done, defect, invoke, note_refusal, spoil
from cliffracer.messaging.broker import Delivered, raised
from cliffracer.messaging.bus import Bus
from cliffracer.messaging.chunks import Chunks
from cliffracer.messaging.claimcheck import ROOM, ClaimCheck, is_claim
from cliffracer.signature import Signature
from cliffracer.wire.calls import MSGPACK_REPLY, read_call
from cliffracer.wire.codecs import Decoder, Unencodable, encode, encode_msgpack
from cliffracer.wire.faults import encode_fault
from cliffracer.wire.subjects import INBOXES, is_inbox

_OBJECT = ord("{")
_MAP_MSGPACK = 0x80


class RpcEndpoint:
    """One method of a service: ``receive`` takes a message and sees that its reply is sent."""

    __slots__ = (
        "_array",
        "_bus",
        "_claims",
        "_gate",
        "_handler",
        "_held",
        "_loop",
        "_named",
        "_patience",
        "_running",
        "_seconds",
        "_signature",
        "_starts",
        "_strays",
        "_streams",
        "record",
        "stats",
        "subject",
    )

    def __init__(  # noqa: PLR0917 - made in one place
        self,
        record: Rpc,
        signature: Signature,
        handler: Handler,
        bus: Bus,
        subject: str,
        running: dict[bytes, Context],
        claims: ClaimCheck,
        patience: float = inf,
    ) -> None:
        self.record = record
        self.subject = subject
        self.stats = handler.stats
        self._signature = signature
        self._streams = signature.streams
        self._handler = handler
        self._gate = handler.gate
        self._seconds = inf if handler.deadline is None else handler.deadline
        self._patience = patience
        """Seconds for a stream that its caller wants as one reply: it has no deadline of its own."""
        self._bus = bus
        self._running = running
        self._named: Decoder[Any] = Decoder(signature.arguments())
        self._array: Decoder[Any] = Decoder(signature.arguments(array=True))
        self._loop = asyncio.get_running_loop()
        self._starts = Starts(self._loop, handler.watch)
        self._claims = claims
        self._held: Held = set()
        self._strays = 0

    def receive(  # noqa: C901, PLR0912 - one frame on purpose, as in `invoke`
        self,
        subject: bytes,  # noqa: ARG002 - the bus's shape
        reply: bytes,
        block: bytes | None,
        payload: bytes,
    ) -> None:
        """Start one call, or refuse it at once; runs in the read loop, so it must neither block nor raise."""
        if reply and (not reply.startswith(INBOXES) or 13 in reply) and not is_inbox(reply):
            # or a stranger could make us publish where he may not
            self._drop()
            return
        handler, gate, seconds = self._handler, self._gate, self._seconds
        if block is None:
            msgpack, window = False, 0
            if self._streams:
                seconds = min(seconds, self._patience)
            context = Context(handler.service, handler.name, "rpc", None, None, None if seconds == inf else monotonic() + seconds)
        else:
            timeout, msgpack, window = read_call(block)
            if timeout is not None and timeout < seconds:
                seconds = timeout
            if not window and self._streams:
                seconds = min(seconds, self._patience)
            until = None if seconds == inf else monotonic() + seconds
            context = Context(handler.service, handler.name, "rpc", None, None, until, block)
        if not payload and is_claim(block):
            self._enter(context, payload, reply, msgpack, window, asks=True)
            return
        if (entry := handler.entry) is not None and (entry.waits or not entry.decide(context, None)):
            self._enter(context, payload, reply, msgpack, window, asks=entry.waits)
            return
        try:
            if msgpack or not payload or payload[0] != _OBJECT:
                arguments = self._arguments(payload, msgpack=msgpack)
            else:
                arguments = astuple(self._named.decode(payload))
            if gate.admitted < gate.limit:
                gate.admitted += 1
            else:
                gate.admit(context.remaining())
        except Exception as refused:  # noqa: BLE001 - types of the user's own run their code in the decoding
            self._refuse(context, reply, refused if isinstance(refused, ServiceError) else defect(handler, refused), msgpack)
            return
        if not self._starts.add(self.answer(context, arguments, reply, msgpack, window), context) and reply:
            self._running[reply] = context

    def _enter(self, context: Context, payload: bytes, reply: bytes, msgpack: bool, window: int, *, asks: bool) -> None:
        """Begin a call about whose caller, or for whose arguments, somebody has to be asked (``asks``), or that is refused unread."""
        try:
            self._gate.admit(context.remaining())
        except Overloaded as full:
            self._refuse(context, reply, full, msgpack)
            return
        if reply:
            self._running[reply] = context
        if asks:
            self._starts.add(self._entered(context, payload, reply, msgpack, window), held=self._held)
        else:
            self._starts.add(self.answer(context, (), reply, msgpack, window), context)

    async def _entered(self, context: Context, payload: bytes, reply: bytes, msgpack: bool, window: int) -> None:
        """Ask, fetch the arguments if the request only stands for them, then answer the call, or refuse it."""
        entry, arguments = self._handler.entry, ()
        begun = False
        try:
            if entry is None or await entry.decided(context, None):
                if not payload and is_claim(context.block):
                    payload = await self._claims.redeem(context.block, context.remaining())
                arguments = self._arguments(payload, msgpack=msgpack)
            begun = True
            await self.answer(context, arguments, reply, msgpack, window)
        except Exception as refused:  # as in `receive`; what `answer` raises is nobody's to refuse
            if begun:
                raise
            self._refuse(context, reply, refused if isinstance(refused, ServiceError) else defect(self._handler, refused), msgpack)
        finally:
            if not begun:
                self._gate.leave(0.0, entered=False)
                self._running.pop(reply, None)
            self._held.discard(asyncio.current_task(self._loop))

    def _refuse(self, context: Context, reply: bytes, error: ServiceError, msgpack: bool) -> None:
        note_refusal(self._handler, context, type(error).__name__, error.code)
        self._fail(reply, error, msgpack)

    def _drop(self) -> None:
        """Say now and then that nobody could be answered: anybody may send such, and a line for each would hold up the read loop."""
        self._strays += 1
        if self._strays % 1000 == 1:
            logger.bind(subject=self.subject, dropped=self._strays).warning("requests dropped: their reply subject is no inbox")

    async def answer(self, context: Context, arguments: tuple[Any, ...], reply: bytes, msgpack: bool, window: int) -> None:
        """Invoke the handler and send the one reply: its result, its error, or the end of its stream."""
        try:
            if self._streams:
                await self._stream(context, arguments, Chunks(self._bus, reply, window, msgpack=msgpack))
                return
            result = await invoke(self._handler, context, arguments)
            if not reply:
                return
            body = encode_msgpack(result) if msgpack else encode(result)
            block = MSGPACK_REPLY if msgpack else None
            try:
                if len(body) + ROOM > self._bus.max_payload:
                    body, block = await self._claims.claim(body, block, context.remaining())
                self._bus.answer(reply, body, block)
            except Unavailable as error:  # no room for the reply, but the call was done: nobody is to repeat it without a thought
                error.details.setdefault("outcome", "unknown")
                raise
        except ServiceError as error:
            self._fail(reply, error, msgpack)
        except Unencodable as error:
            self._fail(reply, self._unencodable(context, error), msgpack)
        except asyncio.CancelledError:  # by somebody outside: the caller is not to wait until his time is over
            self._fail(reply, Cancelled("the call was cancelled where it ran", outcome="unknown"), msgpack)
            raise
        finally:
            if self._running:
                self._running.pop(reply, None)  # absent if it never waited, and where another call with the same one has ended

    async def _stream(self, context: Context, arguments: tuple[Any, ...], chunks: Chunks) -> None:
        try:
            await invoke(self._handler, context, arguments, None, chunks.deliver)
            chunks.finish()
        except ServiceError as error:
            self._fail(chunks.reply, error, chunks.msgpack)
        except Unencodable as error:
            self._fail(chunks.reply, self._unencodable(context, error), chunks.msgpack)
        finally:
            chunks.close()

    async def handle(self, delivery: Delivered) -> None:
        """Handle one durable one-way call; raises what the method raised. `InvalidInput`: it can never be handled."""
        _, msgpack, _ = read_call(delivery.block)
        handler = self._handler
        context = handler.context(headers=delivery.headers, block=delivery.block)
        context.store()[STORED] = delivery.timestamp / 1e9
        let_in = handler.entry is None or await handler.entry.decided(context, None)
        try:
            arguments = self._arguments(delivery.payload, msgpack=msgpack) if let_in else ()
        except InvalidInput:
            note_refusal(handler, context, InvalidInput.__name__, InvalidInput.code)
            current.set(context)  # the line that tells of it is of this call
            raise
        handler.gate.admit(None)
        try:
            check_done(handler, context, await invoke(handler, context, arguments, None, _dropped))
        except InvalidInput as error:
            raise Internal(f"the method refused what it was sent: {error.message}") from error  # not its arguments: it is tried again
        except Rejected as error:
            raise raised(error) from error

    @property
    def busy(self) -> int:
        """How many calls have been accepted and not finished."""
        return self._gate.admitted

    def _arguments(self, payload: bytes, *, msgpack: bool) -> tuple[Any, ...]:
        if msgpack:
            first = payload[0] if payload else _MAP_MSGPACK
            array = 0x90 <= first <= 0x9F or first in {0xDC, 0xDD}
            return astuple((self._array if array else self._named).decode_msgpack(payload or b"\x80"))
        stripped = payload.strip()
        return astuple((self._array if stripped[:1] == b"[" else self._named).decode(stripped or b"{}"))

    def _fail(self, reply: bytes, error: ServiceError, msgpack: bool) -> None:
        if not reply:
            return
        block, body = encode_fault(error, msgpack=msgpack)
        try:
            self._bus.publish(reply, body, block)
        except TooLarge:
            short = type(error)(error.message[:200]) if not isinstance(error, InvalidInput) else InvalidInput(error.message[:200])
            block, body = encode_fault(short, msgpack=msgpack)
            self._bus.publish(reply, body, block)
        except Unavailable:
            logger.bind(subject=self.subject).warning("reply dropped: NATS is away and there is no room to hold it")

    def _unencodable(self, context: Context, error: Exception) -> Internal:
        failed = Internal(error_id=new_id())
        spoil(self._handler, context, failed, error)
        logger.bind(error_id=failed.error_id).error("{} returned what cannot be encoded: {}", where(self._signature.function), error)
        return failed


async def _dropped(_item: object) -> None:
    """Take an item of a streaming method that was called one way: nobody wants it."""
