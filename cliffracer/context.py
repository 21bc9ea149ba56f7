"""The context of the current call: who calls, its ids, its deadline."""

import os
import re
import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from itertools import count, repeat
from typing import TYPE_CHECKING, Any

import msgspec

from cliffracer.wire.calls import read_trace, read_way
from cliffracer.wire.headers import VIA, Headers

if TYPE_CHECKING:  # a type that users see, of what is above
    from cliffracer.security.identity import Identity
else:
    Identity = Any

_EMPTY: Mapping[str, str] = {}
_LONGEST_WAY = 32  # services: a call that has come through more goes round in a circle
_WAY = re.compile(r"[A-Za-z0-9_-]{1,64}(?:,[A-Za-z0-9_-]{1,64}){0,31}")
_OUTSIDE = frozenset({"http", "websocket"})
STORED = "cliffracer.stored"
"""Key in a context's store: when NATS stored the message that is handled, in seconds since 1970."""
OWN = "cliffracer.own"
"""Key in the store of a context in which a service acts as itself: a function that returns its token, since a block may outlast one."""
LASTS = "cliffracer.lasts"
"""Key in a context's store: its call goes on after its function has returned, until the response is sent (`Tracing.failed` ends it)."""
_prefix = os.urandom(8).hex()
_numbers = count(1)
_spans = count(int.from_bytes(os.urandom(7)) + 1)  # 64 bits: no two processes are likely to meet
_leading = count(int.from_bytes(os.urandom(6)) + 1)  # the same, but for the last two digits
_LAST = [b"%02x" % number for number in reversed(range(256))]


def _after_fork() -> None:
    global _prefix, _spans, _leading  # noqa: PLW0603 - a forked worker must not repeat its parent's ids
    _prefix = os.urandom(8).hex()
    _spans = count(int.from_bytes(os.urandom(7)) + 1)
    _leading = count(int.from_bytes(os.urandom(6)) + 1)


os.register_at_fork(after_in_child=_after_fork)


def new_id() -> str:
    """Return an id that no other call has: 16 random hex digits of this process, then a counter (0.1 µs, a uuid4 costs 4)."""
    return _prefix + next(_numbers).to_bytes(6).hex()  # half the time of a format that puts zeros in front


def new_trace() -> str:
    """Return the W3C trace context of a trace that begins here; its flags say that it is recorded: in memory, by each service."""
    return f"00-{_prefix}{next(_numbers).to_bytes(8).hex()}-{next(_spans).to_bytes(8).hex()}-01"


def new_numbers() -> list[bytes]:
    """Return 256 numbers for `ids_of`, 16 hex digits each, to `pop`: made one by one, each would cost some times as much."""
    leading = b"%014x" % next(_leading)
    return [leading + last for last in _LAST]


def ids_of(number: str) -> tuple[str, str]:
    """Return the id and the trace of a call without a caller."""
    return f"{_prefix}{number}", f"00-{_prefix}{number}-{number}-01"


class _Sealed:
    """A value that no encoder takes, not even one that falls back to ``str()``."""

    __slots__ = ()

    def __repr__(self) -> str:
        raise TypeError("a Context has its caller's token, and is not written")


class Context(msgspec.Struct, eq=False):
    """One call: provided to a handler that asks for `Context`, and to logs through `current`.

    A context belongs to one call; nothing in it is shared with another.
    """

    service: str = ""
    """The service whose handler runs."""
    handler: str = ""
    """Its name, as in logs and metrics."""
    kind: str = ""
    """``rpc``, ``event``, ``http``, ``websocket``, ``timer`` or ``script``."""
    found_id: str | None = None
    found_trace: str | None = None
    """Caches for `known_id` and `traceparent`, filled from ``block`` when first asked for."""
    deadline: float | None = None
    """When the call must be over, by `time.monotonic`; None: never."""
    block: bytes | None = None
    """The header block of the NATS message that is handled, as received; parsed only when something in it is asked for."""
    given: Mapping[str, str] | None = None
    """Headers that are not in ``block``, such as those of HTTP."""
    sent: str | None = None
    """The trace context for calls that this call makes, with this call as the parent; None until it is first needed."""
    identity: Identity | None = None
    """Who calls, once a rule has asked: an `Identity` that was verified here; None if nobody is known."""
    token: str | None = None
    """The token that proves it, which goes along with calls and events of this call."""
    ended: str | None = None
    """Why the call was ended before its handler returned: ``deadline``, ``cancelled`` or ``stopping``."""
    task: Any = None
    """The task that the call runs in, while it runs; cancelled to end the call."""
    state: dict[Any, Any] | None = None
    """Room for middleware; None until `store` is first used."""
    verdict: Any = msgspec.UNSET
    """Whether the caller is let in: UNSET before that is decided, then None, or what is raised instead."""
    sealed: Any = msgspec.field(default_factory=repeat(_Sealed()).__next__)  # by a factory, or its repr would make help() fail
    """Makes msgspec fail to encode a context, which could put its tokens into a reply, an event or a row."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers that came with the message or request, names as sent; look-up ignores case."""
        if self.given is None:
            self.given = _EMPTY if self.block is None else Headers(self.block)
        return self.given

    @property
    def known_id(self) -> str | None:
        """The correlation id if there is one already; `correlation_id` makes one."""
        if self.found_id is None:
            self._read()
        return self.found_id

    @property
    def correlation_id(self) -> str:
        """The id that all logs and onward calls of this call carry: the caller's, or made when first asked for."""
        if self.found_id is None:
            self._read()
            self.found_id = self.found_id or new_id()
        return self.found_id

    @property
    def traceparent(self) -> str | None:
        """W3C trace context, as received; if there was none, of the trace that this call begins when it calls something, or logs."""
        if self.found_trace is None:
            self._read()
        return self.found_trace

    @traceparent.setter
    def traceparent(self, value: str | None) -> None:
        self.found_trace = value

    def _read(self) -> None:
        """Parse the ids from a message's headers; most handlers never ask for them."""
        if self.block is not None:
            known, trace = read_trace(self.block)
            self.found_id = self.found_id or known
            self.found_trace = self.found_trace or trace

    def onward(self) -> str:
        """Return the W3C trace context for calls that this call makes; the first call begins the trace."""
        if self.sent is None:
            if self.traceparent is None:
                self.sent = self.traceparent = new_trace()
            else:
                self.sent = f"{self.traceparent[:36]}{next(_spans).to_bytes(8).hex()}{self.traceparent[52:]}"
        return self.sent

    @property
    def via(self) -> tuple[str, ...]:
        """The services that the call came through, the first one first, as they claim; empty for a request over HTTP."""
        said = self.said_way()
        names = "" if said is None else said.partition(";")[0]
        return tuple(names.split(",")) if _WAY.fullmatch(names) else ()

    def said_way(self) -> str | None:
        """Return the provenance header of the call, names and signature, as received; None if it has none."""
        if self.kind in _OUTSIDE:
            return None
        if self.block is not None:
            return read_way(self.block)
        return None if self.given is None else self.given.get(VIA)

    def way(self) -> str | None:
        """Return the provenance for calls that this call makes: the services that it came through, and this one; None outside a service."""
        block = self.block
        if block is not None and b"-Via:" not in block and b"-via:" not in block:  # as of most calls, which is what this is for
            return self.service or None
        if self.said_way() is None:
            return self.service or None
        return ",".join([*self.via, self.service][-_LONGEST_WAY:]) if self.service else None

    def remaining(self) -> float | None:
        """Return the seconds left until the deadline, never negative; None without one."""
        if self.deadline is None:
            return None
        return max(0.0, self.deadline - time.monotonic())

    def acting(self, own: Callable[[], str | None]) -> "Context":
        """Return this call as one of the service itself, with tokens from ``own``, without the caller's identity."""
        self.onward()  # both are one call, and the same parent of what they call
        made = Context(self.service, self.handler, self.kind, self.correlation_id, self.traceparent, self.deadline, None, self.headers)
        made.token = own()
        made.store()[OWN] = own
        made.sent = self.sent
        return made

    def store(self) -> dict[Any, Any]:
        """Return this call's own dict, where middleware can store things."""
        if self.state is None:
            self.state = {}
        return self.state

    def __repr__(self) -> str:
        return f"<Context {self.kind} {self.service}.{self.handler} {self.known_id or '-'}>"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """Show no more than `__repr__` does: Rich would print every field of a struct, as in tracebacks with variables."""
        return [("kind", self.kind), ("service", self.service), ("handler", self.handler), ("correlation_id", self.known_id)]


def stored_at(context: Context) -> float | None:
    """Return when NATS stored the message that is handled, in seconds since 1970; None if it is not from a stream."""
    return None if context.state is None else context.state.get(STORED)


owner: ContextVar[str] = ContextVar("cliffracer_owner", default="")
"""The service whose hooks, or tasks that they began, run here outside any call: it tells the logs of several apps in one process apart."""
current: ContextVar[Context | None] = ContextVar("cliffracer_context", default=None)
"""The context of the call that runs in this task or thread; None outside a call."""
