"""Policies for calls to other services that fail: `Retry` and `Breaker`, frozen and checked."""

from datetime import timedelta
from typing import Any

import msgspec

from cliffracer.durations import seconds
from cliffracer.errors import SetupError

Length = float | str | timedelta


class Retry(msgspec.Struct, frozen=True):
    """Try again what failed: ``app.service("users", retry=Retry(attempts=3))``, ``@resilient(retry=Retry())``.

    A call that was certainly not done is always tried again: nobody was there, or the callee answered `Overloaded` or `Unavailable`.
    A call that may have been done (a time-out, a callee that broke off in the middle) is tried again only if it is idempotent: see
    ``idempotent``. All attempts share the deadline of the call, and none is begun that could not end by then.
    """

    attempts: int = 3
    """Attempts in all."""
    base: Length = 0.05
    """Seconds: the first wait is a random part of it, each further one of twice as much (full jitter)."""
    cap: Length = 2.0
    """Seconds that a wait is at most; ``retry_after`` of `Overloaded` is waited for in addition."""
    budget: float = 0.1
    """Retries as a share of calls, beside one per second: when everything fails, the callee must not be asked three times as often."""
    idempotent: bool | None = None
    """Whether a call may be done twice; None: as its method declares, ``@app.rpc(idempotent=True)``; for a function, no."""
    timeout: Length | None = None
    """Seconds that one attempt may take; without it the first one may take all of the time."""
    on: tuple[type[Exception], ...] = ()
    """Further exceptions which mean that nothing was done, such as ``(httpx.ConnectError,)``."""

    def __post_init__(self) -> None:
        """Read and check what was given; `SetupError` for what makes no sense."""
        _whole(self, "attempts")
        if self.attempts < 1:
            raise SetupError(f"Retry(attempts={self.attempts}) tries nothing. Give 1 or more.")
        _lengths(self, "base", "cap", *(["timeout"] if self.timeout is not None else []))
        if self.timeout == 0:
            raise SetupError("Retry(timeout=0) leaves no attempt any time. Give some, or leave it out.")
        if not _share(self.budget):
            raise SetupError(f"Retry(budget={self.budget!r}) is no share of calls. Give 0 to 1, as in 0.1 for a tenth.")
        if self.idempotent not in {None, True, False}:
            raise SetupError(f"Retry(idempotent={self.idempotent!r}) says neither yes nor no. Give True or False, or leave it out.")
        given: Any = self.on if isinstance(self.on, tuple) else (self.on,)
        if not all(isinstance(kind, type) and issubclass(kind, Exception) for kind in given):
            raise SetupError(f"Retry(on={self.on!r}) names something else than exceptions. Give classes, as in (OSError,).")
        msgspec.structs.force_setattr(self, "on", given)

    def within(self, left: float | None) -> float | None:
        """Return the seconds that an attempt may take of those that are left; None: any."""
        own: Any = self.timeout
        return own if left is None else left if own is None else min(own, left)


class Breaker(msgspec.Struct, frozen=True):
    """Stop calling a service that fails: ``app.service("users", breaker=Breaker())``, ``@resilient(breaker=Breaker())``.

    After ``failures`` failed calls within ``window`` seconds, if those are at least ``share`` of all, calls are refused at once with
    `Unavailable` for ``reset`` seconds; then one call tries whether it is back. `Unavailable`, `Overloaded` and `DeadlineExceeded` are
    failures, in a function of one's own any exception of a library, too; what the callee decided (`NotFound`, `InvalidInput`, ...) and a
    defect in one of its methods (`Internal`) are none.
    """

    failures: int = 5
    """Failed calls after which it opens."""
    window: Length = 10
    """Seconds within which they are counted."""
    reset: Length = 5
    """Seconds until one call may try again."""
    share: float = 0.5
    """What part of all calls they have to be: a busy neighbour has five failures in ten seconds on its best days."""

    def __post_init__(self) -> None:
        """Read and check what was given; `SetupError` for what makes no sense."""
        _whole(self, "failures")
        if self.failures < 1:
            raise SetupError(f"Breaker(failures={self.failures}) would always be open. Give 1 or more.")
        _lengths(self, "window", "reset")
        if not self.window or not self.reset:
            raise SetupError("Breaker(window=..., reset=...) need some time: seconds, or '10s'.")
        if not _share(self.share):
            raise SetupError(f"Breaker(share={self.share!r}) is no share of calls. Give 0 to 1.")


def _whole(policy: Any, name: str) -> None:
    given = getattr(policy, name)
    if type(given) is not int:
        raise SetupError(f"{type(policy).__name__}({name}={given!r}) is no whole number. Give one, 1 or more.")


def _share(given: Any) -> bool:
    return type(given) in {int, float} and 0 <= given <= 1


def _lengths(policy: Any, *names: str) -> None:
    for name in names:
        msgspec.structs.force_setattr(policy, name, length(f"{type(policy).__name__}({name}=...)", getattr(policy, name)))


def length(option: str, value: Any, *, some: bool = False) -> float:
    """Return a length of time in seconds; `SetupError`, which names the option, for one that cannot be read, or, with ``some``, is none."""
    try:
        found = seconds(value)
    except (TypeError, ValueError) as error:
        raise SetupError(f"{option}: {error}.") from None
    if some and not found:
        raise SetupError(f"{option}: {value!r} leaves no time for anything. Give more than 0, or leave it out.")
    return found


def check_policies(target: str, retry: object, breaker: object) -> None:
    """Raise `SetupError` for a policy that is none, such as a number of attempts."""
    for name, given, kind, example in (("retry", retry, Retry, "Retry(attempts=3)"), ("breaker", breaker, Breaker, "Breaker(failures=5)")):
        if given is not None and not isinstance(given, kind):
            raise SetupError(f"{target}: {name}={given!r} is no {kind.__name__}. Write {name}={example}.")
