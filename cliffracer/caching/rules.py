"""What both ways to an answer share, with and without an event loop: under what it is kept, and whether it is still good."""

from collections.abc import Callable
from random import random
from typing import Any

from loguru import logger

from cliffracer.caching.cached import Cached
from cliffracer.caching.entries import Entry, Marks
from cliffracer.caching.keys import Key, Unkeyable
from cliffracer.caching.memory import Memory
from cliffracer.declarations import where
from cliffracer.errors import DeadlineExceeded
from cliffracer.resilience.verdicts import replaceable

JITTER = 0.1  # an answer lives up to a tenth shorter: what was made together must not have to be made again together
AHEAD = 2
"""Times its ttl that an answer lives at most, however clocks are set: one that was made an hour ahead of this one lives no hour longer."""
AGAIN: Any = object()
"""What became of an answer whose maker has left: the next one makes it."""
OWN: Any = object()
"""The same of one that cannot be handed on: everybody makes their own."""


class Rules:
    """The rules by which one running app keeps answers, and its memory."""

    def __init__(
        self, service: str, version: str, *, now: Callable[[], float], provides: Callable[[Any], bool], transaction: Callable[[], Any]
    ) -> None:
        self._service, self._version = service, version
        self._now = now
        self._provides = provides
        self.transaction = transaction
        """Returns the transaction that this task has open: what it reads there is not for others."""
        self.memory = Memory()
        self._told: set[str] = set()

    def key(self, cached: Cached, positional: tuple[Any, ...], named: dict[str, Any]) -> Key | None:
        """Return under what an answer is kept; None if it is not."""
        if self.transaction() is not None:
            return None
        try:
            return cached.key(self._service, self._version, positional, named, self._provides)
        except Unkeyable as error:
            self.tell(f"answers of {where(cached.function)} are not kept: {error}")
            return None

    def call_tag(self, cached: Cached, positional: tuple[Any, ...], named: dict[str, Any]) -> str:
        """Return what tags the answers to one call."""
        try:
            return cached.call_tag(self._service, positional, named, self._provides)
        except Unkeyable as error:
            raise TypeError(str(error)) from None

    def found(self, cached: Cached, key: Key) -> tuple[bytes | None, bool, Marks]:
        """Return what is in memory if it can be given, whether it is fresh, and how its tags stand."""
        entry, marks = self.memory.find(key.answer, key.tags)
        return *self.good(cached, entry, marks), marks

    def good(self, cached: Cached, entry: Entry | None, marks: Marks) -> tuple[bytes | None, bool]:
        """Return what is kept if it can be given, and whether it is fresh."""
        if entry is None or entry.marks != marks:
            return None, False
        now = self._now()
        if now >= entry.until + cached.stale or entry.until > now + AHEAD * cached.ttl:
            return None, False
        if cached.store != "memory" and not cached.readable(entry.payload):
            return None, False
        return entry.payload, now < entry.until

    def made(self, cached: Cached, result: Any) -> Any:
        """Return what a new answer is to those who wait for it: the bytes that are kept, None, or `OWN`."""
        payload = cached.encoded(result)
        if payload is not None:
            return None if result is None else payload
        if result is not None:
            what = type(result).__name__
            self.tell(f"{where(cached.function)} returned a {what} that does not come back as it was: it is not kept")
        return OWN

    def entry(self, cached: Cached, payload: bytes, marks: Marks) -> Entry:
        """Return an answer as it is kept."""
        life = cached.ttl * (1 - JITTER * random())  # noqa: S311 - spreads the ends, keeps no secret
        return Entry(payload, self._now() + life, dict(marks))

    def tell(self, line: str) -> None:
        """Log a line, once."""
        if line not in self._told and len(self._told) < 1000:
            self._told.add(line)
            logger.warning(line)


def failed(cached: Cached, error: Exception, stale: bytes | None) -> Any:
    """Return what a failed making comes to, for its caller and for those who wait: the old answer, an error, or `AGAIN`."""
    if stale is not None and replaceable(error):
        cached.stales += 1
        return stale
    return AGAIN if isinstance(error, DeadlineExceeded) else error


def given(cached: Cached, outcome: Any) -> Any:
    """Return, or raise, what became of an answer that somebody else made."""
    if isinstance(outcome, Exception):
        raise outcome
    return None if outcome is None else cached.decoded(outcome)
