"""Durable one-way calls (``payments.send.charge(amount=10)``) that a service has been sent, now or while it was down."""

import asyncio
import random
from collections.abc import Mapping, Sequence

from loguru import logger

from cliffracer.clock import SYSTEM, Clock
from cliffracer.declarations import RETRY
from cliffracer.errors import CliffracerError, DeadlineExceeded, NotFound, SetupError, Unavailable
from cliffracer.messaging.broker import Method
from cliffracer.messaging.bus import Subscription
from cliffracer.messaging.consumption import Consumption
from cliffracer.messaging.delivery import Delivery
from cliffracer.messaging.jetstream import JetStream
from cliffracer.messaging.siblings import AT_ONCE
from cliffracer.messaging.streams import durable_name, sends_of
from cliffracer.wire.subjects import Subjects

_FIRST_PAUSE = 0.5  # seconds until the next attempt to begin
_LONGEST_PAUSE = 30.0
_ELSEWHERE = (*[0.0] * AT_ONCE, *RETRY)
"""After how many seconds a call of a method that is not here is tried again: replicas of another version may have it."""


class Sends:
    """Hands one-way calls to the methods of a service; the consumer is made when the first was sent, not before."""

    def __init__(
        self,
        jetstream: JetStream,
        subjects: Subjects,
        service: str,
        methods: Mapping[str, Method],
        *,
        clock: Clock = SYSTEM,
    ) -> None:
        self.name = durable_name(subjects, service, "send")
        self.patterns = [*methods]
        """What replicas tell each other that they have."""
        self._jetstream = jetstream
        self._subjects = subjects
        self._service = service
        self._methods = methods
        self._source = sends_of(subjects, service)
        self._clock = clock
        self._subscription: Subscription | None = None
        self._starting: asyncio.Task[None] | None = None
        self._at_once = False  # whether `start` itself begins, and need not be woken
        self.consumption: Consumption | None = None

    async def start(self) -> None:
        """Begin at once if anybody has ever sent anything, otherwise when somebody does."""
        self._subscription = await self._jetstream.bus.subscribe(self._source.filters[0], self._wake)
        try:
            await self._jetstream.stream(self._source.stream.name)
        except (NotFound, SetupError):  # nobody sends here, or there is no JetStream for it
            return
        except (Unavailable, DeadlineExceeded):  # an election: it need not hold up the start
            self._wake(b"", b"", None, b"")
            return
        if self._starting is None:  # else somebody has sent since we asked
            self._at_once = True
            await self._begin()

    async def stored(self) -> int:
        """Ask how many one-way calls for this service are stored and not done, also before it takes any."""
        try:
            info = await self._jetstream.stream(self._source.stream.name, subjects=self._source.filters[0])
        except (NotFound, SetupError):  # nobody sends here, or there is no JetStream for it
            return 0
        return sum((info.state.subjects or {}).values())

    async def drain(self, seconds: float) -> None:
        """Take nothing more, and finish what is in hand."""
        if self._subscription is not None:
            await self._subscription.close()
            self._subscription = None
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.wait([self._starting])
        if self.consumption is not None:
            await self.consumption.drain(seconds)

    async def _handle(self, delivery: Delivery) -> None:
        method = self._methods.get(_name(delivery))
        if method is None:
            raise NotFound(f"this version of {self._service} has no method {_name(delivery)}")
        await method.handle(delivery)

    def _retry(self, delivery: Delivery) -> Sequence[float]:
        method = self._methods.get(_name(delivery))
        return _ELSEWHERE if method is None else method.retry

    def _shown(self, delivery: Delivery) -> str:
        method = self._methods.get(_name(delivery))
        return (method and method.shown) or f"{self._service}.{_name(delivery)}"

    def _wake(self, _subject: bytes, _reply: bytes, _block: bytes | None, _payload: bytes) -> None:
        if self._starting is None and not self._at_once and self.consumption is None:
            self._starting = asyncio.get_running_loop().create_task(self._begun())

    async def _begun(self) -> None:
        pause = _FIRST_PAUSE
        try:
            while self.consumption is None:
                try:
                    await self._begin()
                except CliffracerError as error:  # what is stored waits, and perhaps nobody sends another that would wake us
                    logger.warning("{service} cannot take one-way calls yet: {error}", service=self._service, error=error)
                    await asyncio.sleep(pause * (0.5 + random.random()))  # noqa: S311 - jitter
                    pause = min(2 * pause, _LONGEST_PAUSE)
        finally:
            self._starting = None

    async def _begin(self) -> None:
        consumption = Consumption(
            self._jetstream,
            self._subjects,
            self._service,
            "send",
            self.patterns,
            self._handle,
            retry_of=self._retry,
            name_of=self._shown,
            source=self._source,
            start="all",
            clock=self._clock,
        )
        try:
            await consumption.start()
        except BaseException:  # cancelled or failed in the middle: nothing of it stays
            await consumption.pull.close()
            raise
        self.consumption = consumption
        if self._subscription is not None:
            await self._subscription.close()
            self._subscription = None


def _name(delivery: Delivery) -> str:
    return delivery.subject.rpartition(".")[2]
