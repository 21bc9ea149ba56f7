"""A guard for the calls to one target: it admits attempts, learns from their outcomes, and decides on retries.

    trying = guard.begin(until)
    while True:
        seconds = trying.enter()                # or Unavailable: the breaker is open
        try:
            result = attempt(seconds)
        except BaseException as error:
            wait = trying.failed(error)         # None: it is raised
            ...
        else:
            trying.succeeded()

It does not use an event loop, so it serves plain functions and coroutines alike.
"""

import importlib
from collections.abc import Callable
from random import random
from time import monotonic
from typing import Any
from weakref import WeakSet

from cliffracer.context import current
from cliffracer.errors import DeadlineExceeded, Overloaded, ServiceError
from cliffracer.resilience.circuit import Budget, Circuit
from cliffracer.resilience.policies import Breaker, Retry, check_policies
from cliffracer.resilience.verdicts import TRIED, failure, repeats

_LONGEST = 60.0  # seconds that a call without a deadline waits for ``retry_after``
_MOST = 1000  # guards that are kept for further calls
_FAIR = 1.0  # seconds: a time-out of an attempt that had less, because of its caller's deadline, says nothing about the target


class Guard:
    """The breaker and the retry budget that all calls to one target share."""

    def __init__(self, target: str, retry: Retry | None, breaker: Breaker | None, now: Callable[[], float]) -> None:
        self.target = target
        self.retry = retry
        self.now = now
        """The clock of the breaker; a test can move it."""
        self.circuit = None if breaker is None else Circuit(breaker, target)
        self.budget = None if retry is None else Budget(retry.budget)
        self.retries = 0
        self.refused = 0
        """Retries that the budget did not allow."""
        self.fallbacks = 0

    def forget(self) -> None:
        """Be as new."""
        self.retries = self.refused = self.fallbacks = 0
        if self.circuit is not None:
            self.circuit.forget()
        if self.budget is not None:
            self.budget.forget()

    def begin(self, until: float | None, patience: float | None = None) -> "Trying":
        """Begin a call that must be over at ``until`` (`time.monotonic`); ``patience`` is how long its caller would wait otherwise."""
        if self.budget is not None:
            self.budget.called()
        return Trying(self, until, patience)


class Trying:
    """One call and its attempts."""

    __slots__ = ("_given", "_guard", "_number", "_patience", "_probe", "_until", "unsure")

    def __init__(self, guard: Guard, until: float | None, patience: float | None) -> None:
        self._guard = guard
        self._until = until
        self._patience = patience
        self._number = 0
        self._probe = 0
        self._given: float | None = None
        self.unsure = False
        """Whether the last attempt may have been done although it failed."""

    def enter(self) -> float | None:
        """Return the seconds that the next attempt may take, None for any; `Unavailable` while the breaker is open."""
        guard = self._guard
        if guard.circuit is not None:
            self._probe = guard.circuit.admit(guard.now())
        left = None if self._until is None else self._until - monotonic()
        self._given = left if guard.retry is None else guard.retry.within(left)
        self._number += 1
        return self._given

    def succeeded(self) -> None:
        """Note that the attempt has succeeded."""
        guard = self._guard
        if guard.circuit is not None:
            guard.circuit.record(self._probe, guard.now(), good=True)

    def failed(self, error: BaseException) -> float | None:
        """Note the failure of the attempt; return the seconds to wait before another one, None if there is to be none."""
        guard, retry = self._guard, self._guard.retry
        on = () if retry is None else retry.on
        if guard.circuit is not None:
            good = None if not isinstance(error, Exception) or self._hurried(error) else not failure(error, on)
            if guard.circuit.record(self._probe, guard.now(), good=good):
                told("warning", "{}", guard.circuit.words(guard.now()), target=guard.target, error=type(error).__name__)
            if guard.circuit.state == "open":
                return None  # another attempt would be refused by the breaker, which would hide the error
        sure = None if retry is None else repeats(error, on)
        if retry is None or sure is None:
            return None
        self.unsure = not sure
        if self._number >= retry.attempts:
            if self._number > 1:
                self._given_up(error)
            return None
        longest = min(float(retry.cap), float(retry.base) * 2 ** min(self._number - 1, 60))  # type: ignore[arg-type]  # read by the policy
        asked = error.retry_after if isinstance(error, Overloaded) else 0.0
        wait = asked + random() * longest  # noqa: S311 - spreads callers, keeps no secret
        late = wait > _LONGEST if self._until is None else monotonic() + wait >= self._until
        return None if late else wait

    def again(self, error: BaseException) -> bool:
        """Take a retry from the budget; False if there is none left."""
        guard = self._guard
        if guard.budget is None or not guard.budget.take(monotonic()):
            guard.refused += 1
            self._given_up(error)
            return False
        guard.retries += 1
        told("debug", "{} is tried again", guard.target, attempt=self._number + 1, error=type(error).__name__)
        return True

    def _given_up(self, error: BaseException) -> None:
        if isinstance(error, ServiceError):
            error.details.setdefault(TRIED, self._number - 1)

    def _hurried(self, error: BaseException) -> bool:
        """Say whether a time-out is due to our caller's short deadline: callers must not be able to open breakers by that."""
        if not isinstance(error, DeadlineExceeded | TimeoutError) or self._given is None:
            return False
        own = self._patience if self._guard.retry is None else self._guard.retry.within(self._patience)
        return self._given < min(_FAIR, 0.9 * (own or _FAIR))


class Guards:
    """The guards of one app, or of the functions of this process."""

    def __init__(self) -> None:
        self._shared: dict[tuple[str, Retry | None, Breaker | None], Guard] = {}
        self._all: WeakSet[Guard] = WeakSet()
        self.now: Callable[[], float] = monotonic

    def to(self, target: str, retry: Retry | None, breaker: Breaker | None) -> Guard:
        """Return the guard of a target; equal policies share one. Beyond a limit the oldest is only shared by those that hold it."""
        key = target, retry, breaker
        guard = self._shared.get(key)
        if guard is None:
            if len(self._shared) >= _MOST:  # targets may be named by data, without a limit
                del self._shared[next(iter(self._shared))]
            guard = self._shared[key] = self.own(target, retry, breaker)
        return guard

    def own(self, target: str, retry: Retry | None, breaker: Breaker | None) -> Guard:
        """Return a guard that is not shared; it is listed here as long as somebody holds it."""
        check_policies(target, retry, breaker)
        made = Guard(target, retry, breaker, lambda: self.now())  # noqa: PLW0108 - what `now` is by then
        self._all.add(made)
        return made

    def forget(self, now: Callable[[], float] = monotonic) -> None:
        """Reset all guards, and set the clock: a restarted app begins without history."""
        self.now = now
        for guard in self._all:
            guard.forget()

    def all(self) -> dict[str, list[Guard]]:
        """Return the guards by target."""
        found: dict[str, list[Guard]] = {}
        for guard in self._all:
            found.setdefault(guard.target, []).append(guard)
        return found

    @property
    def breaks(self) -> bool:
        """Whether any of them has a breaker."""
        return any(guard.circuit is not None for guard in self._all)

    def troubles(self) -> list[str]:
        """Return which breakers are not closed, in words."""
        now = self.now()
        return sorted({words for guard in self._all if guard.circuit is not None and (words := guard.circuit.words(now))})


def until_of(patience: float | None) -> float | None:
    """Return the deadline of a call with this patience: that, or the deadline of the call that makes it, if earlier."""
    context = current.get()
    theirs = None if context is None else context.deadline
    own = None if patience is None else monotonic() + patience
    return own if theirs is None else theirs if own is None else min(own, theirs)


def told(level: str, text: str, what: str, *, failure: BaseException | None = None, **fields: Any) -> None:
    """Log a line; loguru is imported here, since declaring a service must stay light."""
    logger = importlib.import_module("loguru").logger
    logger.opt(exception=failure).bind(**fields).log(level.upper(), text, what)
