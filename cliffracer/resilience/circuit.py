"""The state of a circuit breaker, and the budget of retries: pure logic with the time as an argument, thread-safe.

The breaker is the circuit breaker of Nygard's *Release It!*; the budget is the token bucket of Finagle and of gRPC's A6.
"""

from collections import deque
from threading import Lock
from typing import Literal

from cliffracer.errors import Unavailable
from cliffracer.resilience.policies import Breaker

State = Literal["closed", "half_open", "open"]
_LEVELS: dict[State, int] = {"closed": 0, "half_open": 1, "open": 2}
_SLOTS = 10  # parts of a window, which moves on part by part
_FLOOR = 1.0  # retries per second at least: a tenth of few calls would be none
_SAVED = 10.0  # seconds of retries that are saved up at most
_MOST = 100.0


class Circuit:
    """Counts the outcomes of calls to one target, and refuses calls while it is open."""

    def __init__(self, options: Breaker, target: str) -> None:
        self._failures = options.failures
        self._share = options.share
        self._window, self._reset = float(options.window), float(options.reset)  # type: ignore[arg-type]  # read by the policy
        self._target = target
        self._lock = Lock()
        self._slots: deque[list[int]] = deque()  # number of the part of time, calls that went well, calls that failed
        self._probe = 0
        self.forget()

    def forget(self) -> None:
        """Be as new."""
        self._slots.clear()
        self._until = 0.0
        self._probe += 1  # calls that are under way say nothing about the new state
        self.state: State = "closed"
        self.opened = 0
        """How often it has opened."""
        self.refused = 0
        """Calls that were refused."""

    def admit(self, now: float) -> int:
        """Return the number of the probe that a call is, 0 for an ordinary one; `Unavailable` while it is open."""
        if self.state == "closed":
            return 0
        with self._lock:
            if not self.level:  # it was closed by another thread
                return 0
            if now < self._until:
                self.refused += 1
                wait = self._until - now
                raise Unavailable(self.words(now), reason="breaker", retry_after=round(wait, 3))
            self.state = "half_open"
            self._until = now + self._reset  # if a probe never ends, there is another one
            self._probe += 1
            return self._probe

    @property
    def level(self) -> int:
        """The state as a number: 0 closed, 1 half open, 2 open."""
        return _LEVELS[self.state]

    def words(self, now: float) -> str:
        """Return why calls are refused; empty if they are not."""
        if self.state == "closed":
            return ""
        if self.state == "half_open":
            return f"the breaker to {self._target} is half open: one call tries whether it is back"
        return f"the breaker to {self._target} is open, next try in {max(0.0, self._until - now):.1f} s"

    def record(self, probe: int, now: float, *, good: bool | None) -> bool:
        """Count the outcome of an admitted call, None if it says nothing; return whether that opened the breaker."""
        with self._lock:
            if self.state != "closed":
                return probe == self._probe and probe > 0 and self._probed(now, good)
            if good is None or probe:
                return False
            slot = self._slot(now)
            slot[1 if good else 2] += 1
            return not good and self._too_many() and self._open(now)

    def _probed(self, now: float, good: bool | None) -> bool:
        if good:
            self.state = "closed"
            self._slots.clear()
            return False
        if good is None:  # its caller left: the next call is the probe
            self.state, self._until = "open", now
            return False
        return self._open(now)

    def _open(self, now: float) -> bool:
        self.state, self._until = "open", now + self._reset
        self.opened += 1
        return True

    def _slot(self, now: float) -> list[int]:
        number = int(now * _SLOTS / self._window)
        slots = self._slots
        while slots and slots[0][0] <= number - _SLOTS:
            slots.popleft()
        if not slots or slots[-1][0] < number:
            slots.append([number, 0, 0])
        return slots[-1]

    def _too_many(self) -> bool:
        good, failed = (sum(slot[part] for slot in self._slots) for part in (1, 2))
        return failed >= self._failures and failed >= self._share * (good + failed)


class Budget:
    """The allowed retries: a share of the calls, and one per second; saved up for ten seconds."""

    def __init__(self, share: float) -> None:
        self._share = share
        self._lock = Lock()
        self.forget()

    def forget(self) -> None:
        """Be as new."""
        self._tokens = _SAVED * _FLOOR if self._share else 0.0
        self._then = 0.0

    def called(self) -> None:
        """Add the share of one call."""
        self._tokens = min(_MOST, self._tokens + self._share)  # a lost update by a racing thread costs a tenth of a retry

    def take(self, now: float) -> bool:
        """Take one retry; False if there is none left."""
        with self._lock:
            if self._share and self._tokens < _SAVED * _FLOOR:
                self._tokens = min(_SAVED * _FLOOR, self._tokens + max(0.0, now - self._then) * _FLOOR)
            self._then = now
            if self._tokens < 1:
                return False
            self._tokens -= 1
            return True
