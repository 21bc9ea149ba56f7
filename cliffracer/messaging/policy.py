"""The policy for durable events, in one place: a delivery is acknowledged, tried again after a while, or parked."""

from collections.abc import Awaitable, Callable, Sequence

from loguru import logger

from cliffracer.clock import Clock
from cliffracer.errors import CliffracerError, Forbidden, Internal, InvalidInput, Overloaded, Unauthenticated
from cliffracer.messaging.broker import Counts
from cliffracer.messaging.deadletters import DeadLetters, cause, in_one_line
from cliffracer.messaging.delivery import Delivery

RetryOf = Callable[[Delivery], Sequence[float]]
"""Returns the retry schedule of a delivery, where they differ within a consumer."""
NameOf = Callable[[Delivery], str]
"""Returns the name of a delivery's handler for the log: ``charge (payments.py:9)``."""
PASSED_ON = 50  # further deliveries, where some may have been to replicas that passed it on
Mixed = Callable[[], Awaitable[bool]]
"""Says whether replicas that pass on events for others are running, or were recently."""
UNFINISHED = 2  # deliveries beyond the schedule without an outcome (a replica was killed) before the event is parked
_FINAL = (InvalidInput, Unauthenticated, Forbidden)
"""Errors that another attempt does not change: parked at once, so that bad input does not hold up the rest."""
LEAST_WAIT = 0.05  # seconds, for a handler that says it is overloaded and may be asked again at once
PARK_AGAIN = 30.0  # seconds until the next attempt, when parking itself fails


class Policy:
    """Answers the deliveries of one function by the outcome: its handler returned, raised, or never finished."""

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
        """Deliveries after which an event is given up, whatever their outcome; see `gave_up`."""
        self._clock = clock

    def retry(self, delivery: Delivery) -> Sequence[float]:
        """Return the seconds before each further attempt."""
        return self._retry if self._retry_of is None else self._retry_of(delivery)

    async def gave_up(self, delivery: Delivery) -> bool:
        """Park an event that was delivered more often than it has attempts, with a margin, and never finished; say whether it was.

        Where replicas of another version may have passed it on, the margin is larger: those are deliveries, too.
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
            await self._clock.pause(wait)
            wait = 0.0
        delivery.nak(wait)

    async def patience(self, refused: Overloaded) -> None:
        """Wait until an overloaded handler may be tried; the delivery stays in hand, so this is not counted as an attempt."""
        wait = max(refused.retry_after, LEAST_WAIT)
        logger.debug("{service}.{function} is overloaded: again in {wait:g} s", service=self._service, function=self._function, wait=wait)
        await self._clock.pause(wait)

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
        known = isinstance(error, _FINAL)  # raised before any function of the user's began, for anybody's input: no traceback for each
        error_id = error.error_id if isinstance(error, Internal) else None  # it was logged already, with its traceback
        logger.opt(exception=None if known or error_id else error).error(
            "{who} gave up on {subject} ({stream}:{sequence}) after attempt {attempt}: {error}; "
            "parked, see: cliffracer dead show {number}",
            who=self._name_of(delivery), service=self._service, function=self._function, subject=self._dead.name_of(delivery.subject),
            stream=delivery.stream, sequence=delivery.stream_seq, attempt=delivery.attempt, error=in_one_line(cause(error)), number=number,
            **({"error_id": error_id} if error_id else {}),
        )  # fmt: skip
        delivery.term()
