"""Subscribing functions on the bus: each event is decoded, admitted and invoked; what then happens to it is the delivery policy's."""

import asyncio
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, get_args

from loguru import logger

from cliffracer.context import STORED, Context, current
from cliffracer.declarations import Subscription as Declaration
from cliffracer.declarations import where
from cliffracer.eager import Held, Starts
from cliffracer.errors import InvalidInput, Overloaded, ServiceError
from cliffracer.events import Rejected
from cliffracer.handler import Handler
from cliffracer.invoke import check_done, invoke, note_refusal
from cliffracer.messaging.broker import Delivered, PartlyFailedError, raised, refusals
from cliffracer.messaging.bus import Bus, Receive, Subscription
from cliffracer.messaging.claimcheck import ClaimCheck, is_claim
from cliffracer.messaging.hearing import hear
from cliffracer.messaging.jetstream import JetStream
from cliffracer.messaging.received import Arrival
from cliffracer.observability.stats import UNFIT, Tally
from cliffracer.providers import event_of
from cliffracer.resilience.verdicts import RATE
from cliffracer.signature import Signature, bare
from cliffracer.wire.cloudevents import attributes, kept_id
from cliffracer.wire.codecs import Decoder
from cliffracer.wire.headers import AUTHORIZATION
from cliffracer.wire.subjects import Subjects, matches

Once = Callable[[str, str], AbstractAsyncContextManager[bool]]
"""``once(consumer, event id)``: a transaction around one handling, False in it if that event was handled before."""
EachOnce = Callable[[str, Collection[str]], AbstractAsyncContextManager[set[str]]]
"""The same for the events of a batch: the ids of those that were not handled before; what is left of them is marked at its end."""


class EventEndpoint:
    """One subscribing function: takes messages off core NATS (`receive`) or deliveries of its consumer (`handle`)."""

    def __init__(
        self,
        record: Declaration,
        signature: Signature,
        handler: Handler,
        bus: Bus,
        subjects: Subjects,
        *,
        once: Once | None = None,
        each_once: EachOnce | None = None,
    ) -> None:
        self.record = record
        self.handler = handler
        self.function = record.group or record.function.__name__
        self._once, self._each_once = once, each_once
        self._bus = bus
        self._subjects = subjects
        annotation = signature.accepts[0].annotation if signature.accepts else None
        self._decoder: Decoder[Any] | None = None if annotation is None or record.batch else Decoder(annotation)
        shown = None if annotation is not None else next(filter(None, (event_of(one.annotation) for one in signature.needs)), None)
        self._shown: Decoder[Any] | None = None if shown is None else Decoder(shown)  # of a function that takes no payload, but the `Event`
        self._item: Decoder[Any] = Decoder(_item_of(signature) if record.batch else Any)
        self._subscription: Subscription | None = None
        self._loop = asyncio.get_running_loop()
        self._starts = Starts(self._loop, handler.watch)
        self._claims = ClaimCheck(JetStream(bus), subjects.namespace)
        self._held: Held = set()
        self._strays = Tally()

    # -- core NATS: at most once -----------------------------------------------------------------------------------

    async def start(self, service: str, others: Sequence[str] = ()) -> None:
        """Subscribe on core NATS: the replicas share the events, or with ``each`` everyone gets its own copy.

        ``others``: patterns of the same function, which takes an event by the first that fits. (Where replicas share them,
        the server sees to that: a queue group gets a message once, by whichever of its subscriptions.)
        """
        take: Receive = self.receive

        def rest(subject: bytes, reply: bytes, block: bytes | None, payload: bytes) -> None:
            name = self._subjects.event_name(subject.decode("utf-8", "backslashreplace"))
            if not any(matches(other, name) for other in others):
                take(subject, reply, block, payload)

        queue = "" if self.record.each else f"{service}-{self.function}"
        receive = rest if others and not queue else take
        self._subscription = await hear(self._bus, self._subjects, self.record.subject, receive, queue=queue)

    async def stop_intake(self) -> None:
        """Take no new events."""
        if self._subscription is not None:
            await self._subscription.drain()
            self._subscription = None

    def receive(self, subject: bytes, reply: bytes, block: bytes | None, payload: bytes) -> None:  # noqa: ARG002 - the bus's shape
        """Start handling one event; runs in the read loop."""
        handler = self.handler
        context, entry, gate = handler.called(block), handler.entry, handler.gate
        asks = (entry is not None and entry.waits) or (not payload and is_claim(block))
        let_in = not asks and (entry is None or entry.decide(context, None))
        try:
            arguments = (self._decoder.decode(payload),) if self._decoder is not None and let_in else ()
            data = None if handler.run is None or not let_in else self._data(arguments, payload)
            if gate.admitted < gate.limit:
                gate.admitted += 1
            else:
                gate.admit(None)
        except Overloaded as refused:
            self.handler.stats.refuse("Overloaded 429")
            self._dropped(refused)
            return
        except InvalidInput as wrong:
            self._unfit(context, wrong)
            return
        if asks:
            self._starts.add(self._asked(context, subject, block, payload), held=self._held)
            return
        event = None if handler.run is None else self._arrival(subject, block, data)
        self._starts.add(self._answer(context, arguments, event), context)

    async def _asked(self, context: Context, subject: bytes, block: bytes | None, payload: bytes) -> None:
        """Handle an event about whose caller somebody has to be asked, or whose payload is to be fetched: of whom it is comes first."""
        entry = self.handler.entry
        arguments: tuple[Any, ...] = ()
        data, begun = None, False
        try:
            if entry is None or await entry.decided(context, None):
                if not payload and is_claim(block):
                    payload = await self._claims.redeem(block, context.remaining())
                arguments = (self._decoder.decode(payload),) if self._decoder is not None else ()
                data = self._data(arguments, payload)
            begun = True
            await self._answer(context, arguments, self._arrival(subject, block, data))
        except InvalidInput as wrong:
            self._unfit(context, wrong)
        except ServiceError as error:
            logger.bind(subject=self.record.subject, code=error.code).warning("event lost: {}", error)
        finally:
            if not begun:
                self.handler.gate.leave(0.0, entered=False)
            self._held.discard(asyncio.current_task(self._loop))

    def _unfit(self, context: Context, wrong: InvalidInput) -> None:
        note_refusal(self.handler, context, InvalidInput.__name__, InvalidInput.code)
        if self._strays.tells():
            bound = logger.bind(subject=self.record.subject, errors=wrong.errors, dropped=self._strays.count)
            bound.warning("event dropped: it does not fit {}", where(self.record.function))

    async def _answer(self, context: Context, arguments: tuple[Any, ...], event: Any) -> None:
        try:
            if (left := await invoke(self.handler, context, arguments, event)) is not None:
                check_done(self.handler, context, left)
        except ServiceError as error:
            if isinstance(error, Overloaded) and context.verdict == RATE:
                self._dropped(error)
            elif error is not context.verdict or self._strays.tells():  # of somebody who may not: anybody may send as many
                bound = logger.bind(subject=self.record.subject, code=error.code)
                bound.warning("event lost: {} failed: {}", where(self.record.function), error)
        except Rejected as error:
            logger.bind(subject=self.record.subject).warning("event lost: {} refused it: {}", where(self.record.function), error)

    def _dropped(self, refused: Overloaded) -> None:
        """Say now and then that there are more events than may be handled: a line for each would be one flood for another."""
        count = self.handler.gate.refused
        if count % 1000 == 1:
            logger.bind(subject=self.record.subject, refused=count).warning("events dropped: {}", refused)

    # -- JetStream: at least once ----------------------------------------------------------------------------------

    async def handle(self, delivery: Delivered) -> None:
        """Handle one delivery; returns when the function has, raises what it raised. `InvalidInput`: it can never be handled."""
        block, handler, event = delivery.block, self.handler, None
        context = handler.called(block) if handler.run is None else self._context(block, delivery)
        let_in = handler.entry is None or await handler.entry.decided(context, None)
        try:
            arguments = (self._decoder.decode(delivery.payload),) if self._decoder is not None and let_in else ()
            if handler.run is not None:  # else nobody asks what arrived but its payload
                data = self._data(arguments, delivery.payload) if let_in else None
                event = self._arrival(delivery.subject, block, data, attempt=delivery.attempt, sequence=delivery.stream_seq)
        except InvalidInput:
            note_refusal(handler, context, InvalidInput.__name__, InvalidInput.code)
            current.set(context)  # the line that tells of it is of this call
            raise
        try:
            if self._once is None:
                if handler.gate.admitted < handler.gate.limit:
                    handler.gate.admitted += 1
                else:
                    handler.gate.admit(None)
                if (left := await invoke(handler, context, arguments, event)) is not None:
                    check_done(handler, context, left)
            else:
                async with self._once(delivery.consumer, _id_of(delivery)) as first:
                    if first:
                        handler.gate.admit(None)
                        check_done(handler, context, await invoke(handler, context, arguments, event))
        except (InvalidInput, Rejected) as error:
            raise raised(error) from error

    async def handle_batch(self, deliveries: list[Delivered]) -> None:
        """Handle several deliveries with one call; what does not decode fails alone, the function may reject part of the rest.

        Nothing is read of those of a caller who may not: they fail together.
        """
        entry, failures = self.handler.entry, dict[int, BaseException]()
        for some in self._alike(deliveries):
            context = self._context(deliveries[some[0]].block, deliveries[some[-1]])  # all of them, so as of the latest
            let_in = entry is None or await entry.decided(context, None)
            current.set(context)  # what is told of those that do not fit is of this call, too
            values = self._decoded(deliveries, some, failures) if let_in else {}
            if let_in and not values:
                continue
            good = list(values) if let_in else some
            try:
                if self._each_once is None or not let_in:
                    failures |= await self._together(context, values)
                else:
                    failures |= await self._together_once(self._each_once, context, deliveries, values)
            except (ServiceError, Rejected) as error:
                failures |= dict.fromkeys(good, raised(error))
        if failures:
            raise PartlyFailedError(failures)

    async def _together(self, context: Context, values: dict[int, Any]) -> dict[int, BaseException]:
        """Handle several events with one call, without arguments that of a stranger; return which of them the function rejected."""
        self.handler.gate.admit(None)
        try:
            check_done(self.handler, context, await invoke(self.handler, context, (list(values.values()),) if values else ()))
        except Rejected as rejected:
            if rejected.final:
                raise
            good = list(values)
            return {good[index]: why for index, why in refusals(rejected, len(good)).items()}
        return {}

    async def _together_once(
        self, each_once: EachOnce, context: Context, deliveries: list[Delivered], values: dict[int, Any]
    ) -> dict[int, BaseException]:
        """Do so in a transaction with the marks of those that were not rejected, leaving out what was handled before, or is there twice."""
        ids = {index: _id_of(deliveries[index]) for index in values}
        rejected: dict[str, BaseException] = {}
        async with each_once(deliveries[0].consumer, set(ids.values())) as fresh:
            firsts = {known: index for index, known in reversed(ids.items()) if known in fresh}
            if firsts:
                failed = await self._together(context, {index: values[index] for index in sorted(firsts.values())})
                rejected = {ids[index]: error for index, error in failed.items()}
                fresh.difference_update(rejected)
        return {index: rejected[known] for index, known in ids.items() if known in rejected}

    def _decoded(self, deliveries: list[Delivered], some: list[int], failures: dict[int, BaseException]) -> dict[int, Any]:
        """Return what some of a batch carry, and note which do not decode."""
        values: dict[int, Any] = {}
        for index in some:
            try:
                values[index] = self._item.decode(deliveries[index].payload)
            except InvalidInput as error:
                self.handler.stats.refuse(UNFIT)
                failures[index] = error
        return values

    def _alike(self, deliveries: list[Delivered]) -> list[list[int]]:
        """Return the events of a batch, those of one caller together where it matters who that is."""
        if not self.handler.guarded:
            return [list(range(len(deliveries)))]
        callers: dict[str | None, list[int]] = {}
        for index, delivery in enumerate(deliveries):
            callers.setdefault(delivery.headers.get(AUTHORIZATION), []).append(index)
        return list(callers.values())

    @property
    def busy(self) -> int:
        """How many events of core NATS are being handled."""
        return 0 if self.record.durable else self.handler.gate.admitted

    def _context(self, block: bytes | None, delivery: Delivered) -> Context:
        """Return the context of a delivery, and in it when that was stored, if there is anything that may ask."""
        context = self.handler.context(block=block)
        if self.handler.run is not None:
            context.store()[STORED] = delivery.timestamp / 1e9
        return context

    def _data(self, arguments: tuple[Any, ...], payload: bytes) -> Any:
        """Return what the `Event` of a call has for data: what the function takes, or if that is nothing, whatever came."""
        if arguments:
            return arguments[0]
        return None if self._shown is None or not payload else self._shown.decode(payload)

    def _arrival(self, subject: bytes | str, block: bytes | None, data: Any, *, attempt: int = 1, sequence: int = 0) -> Arrival:
        return Arrival(self._subjects, subject, block, data, attempt, sequence)


def _id_of(delivery: Delivered) -> str:
    return kept_id(attributes(delivery.headers).id) or f"{delivery.stream}:{delivery.stream_seq}"


def _item_of(signature: Signature) -> Any:
    """Return T of a batch handler's ``list[T]``."""
    return (get_args(bare(signature.accepts[0].annotation)) or (Any,))[0]


def by_function(endpoints: list[EventEndpoint]) -> list[list[EventEndpoint]]:
    """Return the durable endpoints, those of one function together: it has one consumer, which gets each event once."""
    found: dict[str, list[EventEndpoint]] = {}
    for endpoint in endpoints:
        if endpoint.record.durable:
            found.setdefault(endpoint.function, []).append(endpoint)
    return list(found.values())
