"""Publishing to a stream: acknowledged, many in flight, repeated under one message id until the outcome is known."""

import asyncio
import math
import random
import time
from collections import deque
from collections.abc import Mapping

from cliffracer.context import new_id
from cliffracer.errors import Conflict, DeadlineExceeded, Unavailable
from cliffracer.messaging.bus import is_closed
from cliffracer.messaging.jetstream import JetStream, PubAck, read_ack
from cliffracer.messaging.singleflight import SingleFlight
from cliffracer.wire.headers import MESSAGE_ID, encode_headers

ATTEMPT = 2.0  # seconds that one attempt waits for its ack, or half of all its time: what is lost with a connection can be repeated then
LIMIT = 4096  # publishes in flight; more wait for their turn
_FIRST_PAUSE = 0.02
_LONGEST_PAUSE = 0.5
_LEAST = 0.01  # seconds that an attempt needs
_RECENT = 60.0  # seconds for which what was refused is remembered


class Publisher:
    """Publishes with acks.

    ``recover`` creates the stream again if none takes a subject; all publishes in flight find that out at the same time.
    """

    def __init__(self, jetstream: JetStream, *, recover: SingleFlight | None = None, attempt: float = ATTEMPT, limit: int = LIMIT) -> None:
        self._jetstream = jetstream
        self._bus = jetstream.bus
        self._recover = recover
        self._attempt = attempt
        self._free = limit
        self._failed, self._why = -math.inf, ""
        self._waiting: deque[asyncio.Future[None]] = deque()  # an asyncio.Semaphore costs as much as all the rest of this

    @property
    def trouble(self) -> str:
        """Why a message was not stored of late; empty if none was refused in the last minute."""
        return self._why if time.monotonic() - self._failed < _RECENT else ""

    async def publish(
        self,
        subject: str,
        payload: bytes,
        headers: Mapping[str, str] | None = None,
        *,
        message_id: str | None = None,
        timeout: float = 10.0,
    ) -> PubAck:
        """Return once a stream has stored the message.

        The message id suppresses duplicates within the stream's window, so an attempt without an answer is repeated.
        `Unavailable` when it was not stored in time as far as we know: NATS away, no stream, the stream full;
        `DeadlineExceeded` when it was sent and the outcome is unknown; `TooLarge`, `Conflict` (a failed condition) at once. Where an
        attempt before that had no answer, the condition may have failed for that one: the conflict's ``outcome`` is ``unknown`` then.
        """
        if headers is None or message_id is not None or MESSAGE_ID not in headers:
            headers = {**(headers or {}), MESSAGE_ID: message_id or new_id()}
        return await self.publish_block(subject, payload, encode_headers(headers), timeout=timeout)

    async def publish_block(self, subject: str, payload: bytes, block: bytes, *, timeout: float = 10.0) -> PubAck:
        """Like `publish`, with a header block that is encoded already and has a message id in it."""
        deadline = time.monotonic() + timeout
        if self._free and not self._waiting:
            self._free -= 1
        else:
            await self._turn(timeout)
            timeout = max(_LEAST, deadline - time.monotonic())
        try:
            reply = await self._bus.request(subject.encode(), payload, block, timeout=min(0.5 * timeout, self._attempt))
            return read_ack(reply.payload, subject)
        except (DeadlineExceeded, Unavailable) as error:
            return await self._persist(subject, payload, block, deadline, error)
        finally:
            if self._waiting:
                self._pass_on()
            else:
                self._free += 1

    async def _turn(self, timeout: float) -> None:
        """Take a slot, in order of arrival."""
        place = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        try:
            async with asyncio.timeout(timeout):
                await place
        except BaseException as error:  # too late, or cancelled: the slot must not be lost
            if place.done() and not place.cancelled():
                self._pass_on()  # it was given at the same moment: the next in line gets it
            if isinstance(error, TimeoutError):
                raise Unavailable("too many publishes wait for their acks", reason="full") from None
            raise

    def _pass_on(self) -> None:
        while self._waiting:
            place = self._waiting.popleft()
            if not place.done():
                place.set_result(None)
                return
        self._free += 1

    async def _persist(self, subject: str, payload: bytes, block: bytes, deadline: float, problem: Exception) -> PubAck:
        """Repeat until the outcome is known or the time is over."""
        pause, unknown = _FIRST_PAUSE, False
        while True:
            reason = problem.details.get("reason") if isinstance(problem, Unavailable) else "unknown"
            unknown = unknown or reason == "unknown"
            if reason == "full":
                self._failed, self._why = time.monotonic(), "there is no room for them in JetStream, or in their stream"
                raise problem
            if reason in {"nobody", "unknown"} and self._recover is not None:  # unknown: perhaps only core subscribers received it
                await self._recovered(deadline)
            nap = pause * (0.5 + random.random())  # noqa: S311 - jitter
            if time.monotonic() + nap + _LEAST >= deadline or is_closed(problem):
                self._failed, self._why = time.monotonic(), "no stream confirmed one in time"
                raise self._given_up(subject, problem, unknown=unknown) from problem
            await asyncio.sleep(nap)
            pause = min(2 * pause, _LONGEST_PAUSE)
            try:
                ack = await self._jetstream.store(subject, payload, block, timeout=min(deadline - time.monotonic(), self._attempt))
            except (DeadlineExceeded, Unavailable) as error:
                problem = error
            except Conflict as error:
                if unknown:  # it may be our own: the server checks the condition before it checks for duplicates
                    error.details["outcome"] = "unknown"
                raise
            else:
                ack.repeated = unknown
                return ack

    async def _recovered(self, deadline: float) -> None:
        assert self._recover is not None
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                await self._recover()
        except (TimeoutError, Unavailable, DeadlineExceeded):  # the next attempt says what is wrong
            return

    def _given_up(self, subject: str, problem: Exception, *, unknown: bool) -> Exception:
        if unknown:
            return DeadlineExceeded(
                f"{subject} was sent, and no stream confirmed it in time: so does a server that hangs, or whose disk is full",
                reason="unknown",
            )
        if isinstance(problem, Unavailable) and problem.details.get("reason") == "nobody":
            return Unavailable(f"no stream stores {subject}: is JetStream enabled?", reason="nobody")
        return problem
