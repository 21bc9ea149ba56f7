"""The calling side on NATS: requests, streams, one-way calls and events of one app or script."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import lru_cache, partial
from typing import Any

import msgspec

from cliffracer.calling import Emission
from cliffracer.context import OWN, Context, current, new_id
from cliffracer.errors import DeadlineExceeded, Internal, InvalidInput, ServiceError, Unavailable
from cliffracer.events import Received
from cliffracer.messaging.beginnings import Beginnings
from cliffracer.messaging.broker import Backend
from cliffracer.messaging.bus import Bus, Reply, publish
from cliffracer.messaging.chunked import Chunked
from cliffracer.messaging.claimcheck import ROOM, ClaimCheck, claiming, is_claim
from cliffracer.messaging.directory import Directory
from cliffracer.messaging.duties import Locking
from cliffracer.messaging.emitter import Emitter
from cliffracer.messaging.feeds import Feeds
from cliffracer.messaging.jetstream import JetStream
from cliffracer.messaging.rooms import Rooms
from cliffracer.observability.spans import FORGETFUL, Outgoing
from cliffracer.wire.calls import WINDOW, is_gone, write_call
from cliffracer.wire.cloudevents import ID as EVENT_ID
from cliffracer.wire.cloudevents import event_block
from cliffracer.wire.codecs import Decoder, encode
from cliffracer.wire.faults import decode_fault
from cliffracer.wire.headers import Headers
from cliffracer.wire.subjects import Subjects

_ERROR = b"\nnats-service-error-code:"
Way = tuple[bytes, Callable[[bytes], None]]
Store = Callable[[Emission, str, bytes, Headers], Awaitable[object]]
"""Stores a durable message (subject, payload, headers): the stream's publisher, or the outbox of an open transaction."""
_MOST_SEEN = 1000


class Connection:
    """Implements `cliffracer.calling.Link` on a bus. Errors of the other side are raised as the class of their code."""

    def __init__(self, bus: Bus, subjects: Subjects, *, name: str, deadline: float, store: Store, backend: Backend) -> None:
        self.bus = bus
        self._request = bus.request
        self.subjects = subjects
        self.name = name
        self.deadline = deadline
        self.directory = Directory(bus, subjects)
        self.feeds = Feeds(bus, subjects)
        self.rooms = Rooms(bus, subjects)
        self._claims = ClaimCheck(JetStream(bus), subjects.namespace, "calls")
        self.locals: dict[str, str] = {}
        """Of each ``service.method`` in this process, the subject where it is answered until the last call in it has finished."""
        self._store = store
        self.backend = backend
        self._ways: dict[tuple[str, str], Way] = {}
        self._beginnings = Beginnings()
        self.identify: Callable[[], str | None] | None = None
        """Makes a token of the service itself; None without keys."""
        self.prove: Callable[[Context, str | None, float | None], str | None] | None = None
        """Signs the way of a call that calls on, for a token that goes along and the time when it does, if not now; None without keys."""
        self.lasting: Callable[[str, float], str] | None = None
        """Makes the token that goes along with what is delivered later; None without keys."""
        self.spans = FORGETFUL
        """Remembers the calls that nobody answered: whoever answers one remembers it himself."""
        self.called: set[tuple[str, str]] = set()
        """Service and method of what was called so far, the first `_MOST_SEEN`; whoever changes a method wants to know who calls it."""
        self.emitted: dict[str, Any] = {}
        """The type of what was emitted on each subject, as far; `Any` where it was no Struct."""
        self.token: str | None = None
        """What calls and events outside any call are made with, such as those of a script."""

    async def call(self, service: str, method: str, arguments: Any, *, returns: Any, timeout: float | None) -> Any:
        """Return the reply of ``service.method``, converted to ``returns``; see `Link.call`."""
        context = current.get()
        seconds = self._seconds(context, timeout)
        block = self._head(context, seconds)
        payload = encode(arguments)
        request = self._request
        if len(payload) + ROOM > self.bus.max_payload:
            payload, block, seconds = await self._claimed(payload, seconds)
        subject, give_up = self._ways.get((service, method)) or self._way(service, method)
        try:
            reply = await request(subject, payload, block, timeout=seconds, abandoned=give_up)
        except (Unavailable, DeadlineExceeded) as error:
            reply = await self._unanswered(error, service, method, seconds, (payload, block))
        if reply.block is None and reply.payload:  # a result, as almost always
            try:
                return (_ANY if returns is Any else _decoder(returns)).decode_reply(reply.payload)
            except InvalidInput as error:
                raise _unexpected(error) from None
        if not reply.payload and is_claim(reply.block):
            reply = Reply(None, await self._claims.redeem(reply.block, self._seconds(context, timeout)))
        return _result(reply, returns)

    async def _claimed(self, payload: bytes, seconds: float) -> tuple[bytes, bytes, float]:
        """Keep arguments that do not fit elsewhere; return (nothing, the header block of the call, the seconds that are left)."""
        until, context = time.monotonic() + seconds, current.get()
        name = await self._claims.stash(payload, seconds)
        left = until - time.monotonic()
        return b"", claiming(self._head(context, left), name), left

    def _way(self, service: str, method: str) -> Way:
        """Return the subject of a method, and what tells its service that a caller gave up; found once for each method."""
        self._calls(service, method)
        way = self.subjects.rpc(service, method).encode(), partial(self._give_up, service)
        if len(self._ways) < _MOST_SEEN:
            self._ways[service, method] = way
        return way

    async def _unanswered(self, error: ServiceError, service: str, method: str, seconds: float, sent: tuple[bytes, bytes]) -> Reply:
        """Ask inside this process; else raise the error of a call that nobody answered, and remember it for its trace."""
        if error.details.get("reason") == "nobody":
            try:
                return await self._ask_inside(service, method, *sent, seconds)
            except ServiceError as worded:
                error = worded
        self.remember(f"{service}.{method}", seconds if isinstance(error, DeadlineExceeded) else 0.0, error)
        try:
            raise error
        finally:
            del error  # whose traceback has this frame: a circle, which would keep what was sent

    def remember(self, target: str, waited: float, error: ServiceError) -> None:
        """Remember a call that nobody answered, for the trace that it belongs to."""
        if (context := current.get()) is not None:
            what = Outgoing(self.name, target), context.onward(), None, context.correlation_id
            self.spans.kept((*what, time.monotonic() - waited, waited, type(error).__name__, None))

    async def _ask_inside(self, service: str, method: str, payload: bytes, block: bytes, seconds: float) -> Reply:
        """Ask a service of this process that takes no more calls from outside, since we are stopping; else word the error."""
        try:
            if (inside := self.locals.get(f"{service}.{method}")) is not None:
                return await self.bus.request(inside.encode(), payload, block, timeout=seconds, abandoned=partial(self._give_up, service))
        except Unavailable as error:
            if error.details.get("reason") != "nobody":
                raise
        raise await self.directory.nobody(service, method) from None

    async def stream(self, service: str, method: str, arguments: Any, *, returns: Any, timeout: float | None) -> AsyncIterator[Any]:
        """Yield what a streaming handler yields; leaving the loop early cancels the handler."""
        self._calls(service, method)
        context = current.get()
        seconds = None if timeout is None and (context is None or context.deadline is None) else self._seconds(context, timeout)
        chunked = Chunked(self.bus, f"{service}.{method}")
        block = write_call(*self.who(context), seconds, *self._identified(context), window=WINDOW)
        finished = False
        taken, decoder = 0, _decoder(returns)
        until = None if seconds is None else time.monotonic() + seconds
        try:
            await self.bus.ready(time.monotonic() + self.deadline)
            payload, head = await self._claims.fitting(encode(arguments), block, seconds or self.deadline)
            self.bus.publish(self.subjects.rpc(service, method).encode(), payload, head, chunked.subject, deadline=until)
            while True:
                number, head, payload = await chunked.next(until)
                finished = number <= 0
                if number == 0:
                    await self._raise_unless_array(service, method, Reply(head, payload))
                    for item in _result(Reply(head, payload), list[returns]):
                        yield item
                if finished:
                    return
                yield decoder.decode(payload)
                taken += 1
                if taken >= WINDOW // 2 or chunked.due:
                    chunked.reopen(taken)
                    taken = 0
        finally:
            chunked.close()
            if not finished:
                self._give_up(service, chunked.subject)

    async def send(self, service: str, method: str, arguments: Any) -> None:
        """Store a durable one-way call; a replica of the service handles it, now or when there is one."""
        self._calls(service, method)
        emission = Emission(f"{service}.{method}", arguments)
        await self._store(emission, self.subjects.send(service, method), encode(arguments), Headers(self._block(emission, new_id())))

    async def emit(self, emission: Emission) -> str:
        """Send an event and return its id; a durable one is stored when this returns."""
        if emission.subject not in self.emitted and len(self.emitted) < _MOST_SEEN:
            self.emitted[emission.subject] = type(emission.data) if isinstance(emission.data, msgspec.Struct) else Any
        payload = encode(emission.data)
        subject = self.subjects.event(emission.subject)
        event_id = emission.id or new_id()
        block = self._block(emission, event_id)
        if emission.durable:
            await self._store(emission, subject, payload, Headers(block))
        else:
            await publish(self.bus, subject.encode(), payload, block, within=self.deadline)
        return event_id

    def events(self, pattern: str, data: Any) -> AsyncIterator[Received[Any]]:
        """Yield events from now on; `Overloaded` ends a feed whose reader is too far behind: see `Backlog`."""
        return self.feeds.read(pattern, data)

    def say(self, room: str, data: Any) -> None:
        """Send something to every socket in a room, in all replicas; at most once."""
        self.rooms.say(room, encode(data))

    async def enter(self, room: str, receive: Callable[[bytes], None]) -> Callable[[], Awaitable[None]]:
        """Have ``receive`` called with what is said in a room, as JSON; return what ends that."""
        return await self.rooms.enter(room, receive)

    async def cancel(self, event_id: str) -> bool:
        """Take back an event that was emitted with ``delay`` or ``at``; False if there is none of that id, or not any more."""
        return await self.backend.cancel(event_id)

    def lock(self, name: str, *, ttl: float, wait: float | None) -> Locking:
        """Return a lock that all apps of the namespace share by its name."""
        return self.backend.lock(name, ttl=ttl, wait=wait)

    def methods(self, service: str) -> list[str]:
        """Return the methods of a service, as far as they are known by now; nothing is waited for."""
        return sorted({endpoint.name for info in self.directory.at_hand() if info.name == service for endpoint in info.endpoints})

    async def learn(self, service: str) -> None:
        """Find out what the methods of a service are like, unless that is known."""
        await self.directory.learn(service)

    async def idempotent(self, service: str, method: str) -> bool:
        """Say whether a method may be done twice, as its service says."""
        return await self.directory.idempotent(service, method)

    def own_token(self) -> str | None:
        """Return a token of the service itself; None if it cannot sign one."""
        return None if self.identify is None else self.identify()

    def who(self, context: Context | None) -> tuple[str, str]:
        """Return the correlation id and the trace that go along; whoever is first begins them."""
        if context is None:
            return self._beginnings.ids()
        return context.correlation_id, context.onward()

    def _head(self, context: Context | None, seconds: float) -> bytes:
        """Return the header block of a call."""
        if context is None and self.token is None:
            return self._beginnings.block(seconds)
        return write_call(*self.who(context), seconds, *self._identified(context))

    def _calls(self, service: str, method: str) -> None:
        if len(self.called) < _MOST_SEEN:
            self.called.add((service, method))

    def _identified(self, context: Context | None, due: float | None = None) -> tuple[str | None, str | None]:
        """Return whose call it is and which way it came; ``due`` is when it goes on, if not now."""
        token = self.token if context is None else context.token
        if context is not None and context.state is not None and OWN in context.state:
            token = context.token = context.state[OWN]()
        if due is not None and token is not None and self.lasting is not None:
            token = self.lasting(token, due)
        if context is None:
            return token, None
        return token, context.way() if self.prove is None else self.prove(context, token, due)

    def _block(self, emission: Emission, event_id: str) -> bytes:
        context = current.get()
        correlation, trace = self.who(context)
        due = emission.at if emission.delay is None else time.time() + emission.delay
        token, way = self._identified(context, due)
        return event_block(event_id, emission.subject, self.name, correlation, trace, token, way, emission.key)

    def _seconds(self, context: Context | None, timeout: float | None) -> float:
        seconds = self.deadline if timeout is None else timeout
        if context is not None and (left := context.remaining()) is not None:
            seconds = min(seconds, left)
        if seconds <= 0:
            raise DeadlineExceeded("the time for this call is over, so nothing more was asked")
        return seconds

    def _give_up(self, service: str, inbox: bytes) -> None:
        try:
            self.bus.publish(self.subjects.cancel(service).encode(), inbox, deadline=time.monotonic() + 1.0)
        except ServiceError:
            return  # NATS is away: the callee ends by its deadline

    async def _raise_unless_array(self, service: str, method: str, reply: Reply) -> None:
        if is_gone(reply.block):
            raise await self.directory.nobody(service, method)
        if _ERROR not in (reply.block or b"").lower() and not reply.payload.lstrip().startswith(b"["):
            raise Internal(f"{service}.{method} answers with one value, not with items one after another: call it, and do not stream it")


def _result(reply: Reply, returns: Any) -> Any:
    """Return a reply's value, or raise the error that it carries."""
    if reply.block is not None and _ERROR in reply.block.lower():
        raise decode_fault(Headers(reply.block), reply.payload)
    try:
        return _decoder(returns).decode_reply(reply.payload) if reply.payload else None
    except InvalidInput as error:
        raise _unexpected(error) from None


def _unexpected(error: InvalidInput) -> Internal:
    return Internal("the reply does not have the type that was expected", errors=error.errors)


@lru_cache(maxsize=1024)
def _cached(returns: Any) -> Decoder[Any]:
    return Decoder(returns)


_ANY: Decoder[Any] = Decoder(Any)


def _decoder(returns: Any) -> Decoder[Any]:
    try:
        return _cached(returns)
    except TypeError:  # an annotation that cannot be hashed
        return Decoder(returns)


def stored_by(emitter: Emitter, emission: Emission, subject: str, payload: bytes, headers: Headers, *, timeout: float) -> Awaitable[object]:
    """Have a message stored, at once or for when it is due; await what comes back."""
    at = time.time() + emission.delay if emission.delay is not None else emission.at
    if at is None:
        return emitter.store(subject, payload, headers, timeout=timeout)
    return emitter.store_later(subject, payload, headers, at=at, event_id=headers[EVENT_ID], timeout=timeout)
