"""Requests and inboxes of one connection, all over a single wildcard subscription.

Each reply subject is ``<prefix>.<token>``; the tokens are random, since whoever is asked sees the prefix, and NATS lets every
service publish to every inbox: who was asked one thing cannot answer another. A request costs a dict entry and a bare future;
deadlines are swept by one timer that runs only while something waits (a `wait_for` per request costs more than all the rest of it).
"""

import asyncio
import contextlib
import os
from collections.abc import Callable
from math import inf
from struct import Struct
from time import monotonic

from cliffracer.errors import NOT_PERMITTED, DeadlineExceeded, Forbidden, ServiceError, Unavailable
from cliffracer.messaging.transport.interface import Bus, Inbox, Receive, Reply
from cliffracer.wire.calls import GONE_BLOCK
from cliffracer.wire.subjects import is_inbox

_TOKEN = 8  # random bytes of one
_DRAWN = 256  # tokens that are drawn at once: asking the system for each would cost more than the rest of a request
_CUT = Struct(f"{2 * _TOKEN}s" * _DRAWN).unpack
_TICK = 0.02  # seconds between two sweeps, at least
_EARLY = 0.5  # seconds before a deadline at which the server is asked for a sign of life, if it gave none of late
_NOBODY = b"NATS/1.0 503"
Ask = Callable[[bytes, bytes, bytes | None, bytes, float], None]
"""``ask(subject, payload, block, token, deadline)``: publish a request that is to be answered at a token of ours."""


class Mux:
    """Matches replies with those who wait for them."""

    __slots__ = ("_ask", "_bus", "_cut", "_due", "_inboxes", "_loop", "_timer", "_tokens", "_waiting", "prefix", "subject")

    def __init__(self, bus: Bus, prefix: str, ask: Ask) -> None:
        self.subject = f"{prefix}.*"
        self.prefix = f"{prefix}.".encode()
        self._cut = len(self.prefix)
        self._bus = bus
        self._ask = ask
        self._loop = asyncio.get_running_loop()
        self._tokens: list[bytes] = []
        self._waiting: dict[bytes, tuple[asyncio.Future[Reply], float, bytes]] = {}
        self._inboxes: dict[bytes, Receive] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._due = inf

    def __len__(self) -> int:
        return len(self._waiting) + len(self._inboxes)

    async def request(
        self,
        subject: bytes,
        payload: bytes,
        block: bytes | None = None,
        *,
        timeout: float,
        abandoned: Callable[[bytes], None] | None = None,
    ) -> Reply:
        """Publish with a reply subject of its own and return what comes back; see `Bus.request`."""
        deadline = monotonic() + timeout
        if timeout <= 0:
            raise DeadlineExceeded(f"no time left to ask {_text(subject)}")
        bus, ask = self._bus, self._ask
        if not bus.open:
            await bus.ready(deadline)
        token = (self._tokens or self._drawn()).pop()
        future: asyncio.Future[Reply] = self._loop.create_future()
        self._waiting[token] = (future, deadline, subject)
        try:
            if deadline < self._due:
                self._arm(deadline)
            ask(subject, payload, block, token, deadline)
            return await future
        except (asyncio.CancelledError, DeadlineExceeded):
            if abandoned is not None:
                with contextlib.suppress(ServiceError):  # who cannot be told is not told; the cancellation goes on
                    abandoned(self.prefix + token)
            raise
        finally:
            del self._waiting[token], future  # it may have failed, and what it raises has this frame in its traceback: a circle

    def inbox(self, receive: Receive) -> Inbox:
        """Return a private subject whose messages all go to ``receive``, until it is closed."""
        token = (self._tokens or self._drawn()).pop()
        self._inboxes[token] = receive
        return Inbox(self.prefix + token, lambda: self._inboxes.pop(token, None))

    def _drawn(self) -> list[bytes]:
        """Return new tokens, which nobody can guess."""
        self._tokens = list(_CUT(os.urandom(_TOKEN * _DRAWN).hex().encode()))
        return self._tokens

    def receive(self, subject: bytes, reply: bytes, block: bytes | None, payload: bytes) -> None:
        """Hand a message on `subject` to whoever waits for it; a late or second reply is dropped."""
        token = subject[self._cut :]
        entry = self._waiting.get(token)
        if entry is not None:
            try:  # asking first whether it is done leaves a gap, in which Ctrl-C may give it up
                if block is not None and not payload and block.startswith(_NOBODY):
                    entry[0].set_exception(Unavailable(f"No service answers {_text(entry[2])}.", reason="nobody"))
                else:
                    entry[0].set_result(Reply(block, payload))
            except asyncio.InvalidStateError:
                return
        elif (inbox := self._inboxes.get(token)) is not None:
            inbox(subject, reply, block, payload)
        elif is_inbox(reply):  # a stream's, which has ended here: its other end is told what it is told of processes
            with contextlib.suppress(ServiceError):
                self._bus.publish(reply, b"", GONE_BLOCK, deadline=monotonic() + 1.0)

    def refuse(self, subject: str) -> None:
        """Fail the requests to a subject that the server does not let us publish to; it says so without naming the request."""
        for future, _, asked in self._waiting.values():
            if not future.done() and _text(asked).lower() == subject.lower():
                text = f"the NATS permissions of this service do not allow publishing to {_text(asked)}"
                future.set_exception(Forbidden(text, reason=NOT_PERMITTED))

    def close(self) -> None:
        """Fail everything that waits."""
        if self._timer is not None:
            self._timer.cancel()
        self._inboxes.clear()
        for future, _, _ in self._waiting.values():
            if not future.done():
                future.set_exception(Unavailable("the connection to NATS was closed", reason="closed", outcome="unknown"))

    def _arm(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._due, left = due, due - monotonic()
        early = left > _EARLY
        self._timer = self._loop.call_later(left - _EARLY if early else left, self._look if early else self._sweep)

    def _look(self) -> None:
        """Ask whose fault it will be: so soon before a deadline, the one who was asked may be late, or the server hang."""
        self._bus.probe()
        self._timer = self._loop.call_later(self._due - monotonic(), self._sweep)

    def _sweep(self) -> None:
        now = monotonic()
        self._timer = None
        self._due = inf
        due = inf
        for future, deadline, subject in self._waiting.values():
            if deadline > now:
                due = min(due, deadline)
            elif not future.done():
                silent = self._bus.silent
                why = f": NATS itself does not answer, for {silent:.1f} s" if silent > 0.8 * _EARLY else ""
                future.set_exception(DeadlineExceeded(f"{_text(subject)} did not answer in time{why}"))
        if due < inf:
            self._arm(max(due, now + _TICK))  # thousands of deadlines close together are one sweep


def _text(subject: bytes) -> str:
    return subject.decode("utf-8", "replace")
