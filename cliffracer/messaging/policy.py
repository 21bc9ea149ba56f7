"""What becomes of a delivery: done, tried again after a while, or parked. The policy of durable events stands here only."""

from collections.abc import Awaitable, Callable, Sequence

from loguru import logger

from cliffracer.clock import Clock
from cliffracer.errors import CliffracerError, Forbidden, Internal, InvalidInput, Overloaded, Unauthenticated
from cliffracer.messaging.broker import Counts
from cliffracer.messaging.deadletters import DeadLetters, cause, in_one_line
from cliffracer.messaging.delivery import Delivery

RetryOf = Callable[[Delivery], Sequence[float]]
"""The schedule of one delivery, where not all of a consumer have the same."""
NameOf = Callable[[Delivery], str]
"""How the log names what handles a delivery: ``charge (payments.py:9)``."""
PASSED_ON = 50  # deliveries beyond all of these, where some may have been to replicas that passed it on
Mixed = Callable[[], Awaitable[bool]]
"""Says whether replicas run, or did of late, that pass on events that are for others."""
UNFINISHED = 2  # deliveries beyond the schedule that may end without a word (a replica killed) before the event is parked
_FINAL = (InvalidInput, Unauthenticated, Forbidden)
"""What another attempt does not change: parked at once, so that what strangers send does not hold up the rest."""
LEAST_WAIT = 0.05  # seconds, for a handler that says it is overloaded and may be asked again at once
PARK_AGAIN = 30.0  # seconds until the next attempt, when parking itself fails


class Policy:
    """Answers the deliveries of one function, by what its handler did: returned, raised, or never came back."""

    def __init__(  # noqa: PLR0917 - made in one place
        self,
        dead: DeadLetters,
        service: str,
        function: str,
        retry: Sequence[float],
        clock: Clock,
        mixed: Mixed,
        retry_of: RetryOf | None = None,
        name_of: NameOf | None = None,
        *,
        unfinished: int = UNFINISHED,
    ) -> None:
        self.counts = Counts()
        self._dead = dead
        self._service = service
        self._function = function
        self._retry = tuple(retry)
        self._retry_of = retry_of
        self._name_of = name_of or (lambda _: f"{service}.{function}")
        self._unfinished, self._mixed = unfinished, mixed
        self.most = unfinished + 1 + (len(self._retry) if retry_of is None else 0)
        """Deliveries up to which an event is tried again, whatever became of them; see `gave_up`."""
        self._clock = clock

    def retry(self, delivery: Delivery) -> Sequence[float]:
        """Return after how many seconds each attempt is followed by another."""
        return self._retry if self._retry_of is None else self._retry_of(delivery)

    async def gave_up(self, delivery: Delivery) -> bool:
        """Park an event that was delivered more often than it has attempts, and some more, and never came back; say whether it is one.

        Where replicas of another version may have passed it on, it takes some more: those are deliveries, too.
        """
        beyond = delivery.attempt - len(self.retry(delivery)) - 1 - self._unfinished
        if beyond <= 0 or (beyond <= PASSED_ON and await self._mixed()):
            return False
        await self._park(delivery, Internal(f"delivered {delivery.attempt} times and never finished: do its replicas die of it?"))
        return True

    def done(self, delivery: Delivery) -> None:
        """Acknowledge what was handled."""
        self.counts.handled += 1
        delivery.ack()

    async def failed(self, delivery: Delivery, error: BaseException) -> None:
        """Give the event back for another attempt, or park it after the last."""
        self.counts.failed += 1
        schedule = self.retry(delivery)
        if isinstance(error, _FINAL) or delivery.attempt > len(schedule):
            await self._park(delivery, error)
            return
        wait = schedule[delivery.attempt - 1]
        logger.warning(
            "{who} failed for {subject}, attempt {attempt}: {error}; again in {wait:g} s",
            who=self._name_of(delivery), service=self._service, function=self._function, subject=self._dead.name_of(delivery.subject),
            attempt=delivery.attempt, error=in_one_line(cause(error)), wait=wait,
        )  # fmt: skip
        if self._clock.movable:  # the server does not know this clock, so the delivery stays in hand until it is due
            await self._clock.until(self._clock.now() + wait)
            wait = 0.0
        delivery.nak(wait)

    async def patience(self, refused: Overloaded) -> None:
        """Wait until it may be tried: nothing was, so the delivery stays in hand, where it counts as no other attempt."""
        wait = max(refused.retry_after, LEAST_WAIT)
        logger.debug("{service}.{function} is overloaded: again in {wait:g} s", service=self._service, function=self._function, wait=wait)
        await self._clock.until(self._clock.now() + wait)

    async def _park(self, delivery: Delivery, error: BaseException) -> None:
        try:
            number = await self._dead.park(delivery, error, service=self._service, function=self._function)
        except CliffracerError as problem:
            logger.error(
                "{subject} ({stream}:{sequence}) could not be parked and is tried again: {problem}",
                subject=self._dead.name_of(delivery.subject), stream=delivery.stream, sequence=delivery.stream_seq, problem=problem,
            )  # fmt: skip
            delivery.nak(PARK_AGAIN)
            return
        self.counts.parked += 1
        known = isinstance(error, _FINAL)  # before any function of the user's began, and anybody may send such: no traceback for each
        error_id = error.error_id if isinstance(error, Internal) else None  # it was logged, traceback and all, when it happened
        logger.opt(exception=None if known or error_id else error).error(
            "{who} gave up on {subject} ({stream}:{sequence}) after attempt {attempt}: {error}; "
            "parked, see: cliffracer dead show {number}",
            who=self._name_of(delivery), service=self._service, function=self._function, subject=self._dead.name_of(delivery.subject),
            stream=delivery.stream, sequence=delivery.stream_seq, attempt=delivery.attempt, error=in_one_line(cause(error)), number=number,
            **({"error_id": error_id} if error_id else {}),
        )  # fmt: skip
        delivery.term()
