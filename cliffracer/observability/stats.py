"""Figures of one handler: how many calls, how many failed, how long they took."""

from collections.abc import Iterable
from typing import Self

BUCKETS = 40
LONG = 1e5  # seconds, from which on a call is in the last bucket
CANCELLED = "Cancelled 499"
UNFIT = "InvalidInput 400"
LASTING = frozenset({"leader", "websocket"})
"""Kinds of calls that last as long as somebody likes: how long they took says nothing, and nothing that is accepted waits for their end."""


class Tally:
    """Counts what anybody may cause, such as messages that fit nothing, so that a flood of it is none of lines in the log."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0

    def tells(self) -> bool:
        """Count one, and say whether to tell of it: of the 1st, 2nd, 4th, 8th and so on."""
        self.count += 1
        return self.count & (self.count - 1) == 0


class Stats:
    """Counts calls and sorts their durations by powers of two, so that recording one (`invoke` does) is four additions.

    Percentiles read from it are upper bounds of their bucket: true within a factor of two, then interpolated.
    """

    __slots__ = ("buckets", "calls", "cancelled", "errors", "last_error", "lasting", "refused", "seconds")

    def __init__(self) -> None:
        self.calls = 0
        self.errors = 0
        self.cancelled = 0
        self.refused = 0
        """Requests that were answered with an error before a call was made of them; counted as errors too."""
        self.seconds = 0.0
        self.lasting = False
        """Whether its calls last as long as somebody likes, as `LASTING` do, and streams, whose reader decides."""
        self.last_error = ""
        self.buckets = [0] * BUCKETS
        """``buckets[n]``: calls that took under 2**n microseconds and not under 2**(n-1)."""

    @classmethod
    def together(cls, several: Iterable["Stats"]) -> Self:
        """Return the figures of several handlers as those of one: of a function with two routes, say."""
        whole = cls()
        for one in several:
            whole.calls += one.calls
            whole.errors += one.errors
            whole.cancelled += one.cancelled
            whole.refused += one.refused
            whole.seconds += one.seconds
            whole.lasting |= one.lasting
            whole.last_error = one.last_error or whole.last_error
            whole.buckets = [mine + its for mine, its in zip(whole.buckets, one.buckets, strict=True)]
        return whole

    def note(self, seconds: float) -> None:
        """Count a call that has ended; `invoke` does the same where nothing failed."""
        self.calls += 1
        self.seconds += seconds
        self.buckets[int(seconds * 1e6).bit_length() if seconds < LONG else -1] += 1

    def fail(self, error: str) -> None:
        """Count one failure; ``error`` is a class name and a code, nothing of the caller's.

        A caller that leaves is no failure of ours: it is how most sockets and streams end.
        """
        if error == CANCELLED:
            self.cancelled += 1
            return
        self.errors += 1
        self.last_error = error

    def refuse(self, error: str) -> None:
        """Count one request that is answered with an error before a call was made of it."""
        self.refused += 1
        self.fail(error)

    @property
    def requests(self) -> int:
        """How many came: the calls, and what was refused before it was one."""
        return self.calls + self.refused

    def percentile(self, share: float) -> float:
        """Return the seconds under which ``share`` (0 to 1) of the calls stayed, by interpolation in a bucket; 0 without calls."""
        wanted = share * self.calls
        seen = 0
        for power, count in enumerate(self.buckets):
            if count and seen + count >= wanted:
                low = 0.0 if power == 0 else 2.0 ** (power - 1)
                return (low + (2.0**power - low) * max(0.0, wanted - seen) / count) / 1e6
            seen += count
        return 0.0
