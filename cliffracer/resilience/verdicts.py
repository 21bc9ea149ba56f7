"""What an error means for resilience: whether to retry, whether a breaker counts it, whether a fallback may answer."""

from cliffracer.errors import CliffracerError, DeadlineExceeded, Overloaded, ServiceError, Unavailable

OUTCOME = "outcome"
UNKNOWN = "unknown"
"""``details["outcome"]`` of an error after which it is not known whether the work was done."""
TRIED = "tried_again"
"""The detail that says that a layer nearer to the cause has retried already: with three layers there would be 27 attempts."""
RATE = "rate"
"""The reason of an `Overloaded` that is about one caller, not about the callee."""


def repeats(error: BaseException, on: tuple[type[Exception], ...] = ()) -> bool | None:
    """Return True if it was certainly not done, False if it may have been, None if a retry is pointless."""
    if isinstance(error, ServiceError):
        if TRIED in error.details or error.details.get("reason") == "breaker":
            return None
        if isinstance(error, Unavailable | Overloaded):
            return error.details.get(OUTCOME) != UNKNOWN
        return False if isinstance(error, DeadlineExceeded) else True if isinstance(error, on) else None
    if isinstance(error, (*on, ConnectionRefusedError)):
        return True
    return False if isinstance(error, ConnectionError | TimeoutError) else None


def failure(error: Exception, on: tuple[type[Exception], ...] = ()) -> bool:
    """Say whether a breaker counts an error: the callee is away, too slow or too busy.

    `Internal` is an answer, if a poor one: an input that one method cannot bear, which a stranger may send, must not close all of them.
    What a library raises in a function of the user's says nothing so precise, and counts.
    """
    if isinstance(error, Unavailable | Overloaded | DeadlineExceeded):
        return error.details.get("reason") != RATE  # a peer's reason may be anything, also what cannot be hashed
    return isinstance(error, on) or not isinstance(error, CliffracerError)


def replaceable(error: Exception) -> bool:
    """Say whether a fallback may answer: for a failure of the callee, not for its decisions, nor for a mistake in set-up."""
    if isinstance(error, ServiceError):
        return error.code >= 500 or isinstance(error, Overloaded)
    return not isinstance(error, CliffracerError)
