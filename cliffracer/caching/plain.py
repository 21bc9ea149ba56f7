"""Answers of functions that are not async: made in one thread, waited for in others. They are kept in memory alone."""

import threading
from collections.abc import Callable
from concurrent.futures import Future as Promise
from functools import partial
from typing import Any

from cliffracer.caching.cached import Cached
from cliffracer.caching.entries import Marks
from cliffracer.caching.keys import Key
from cliffracer.caching.rules import AGAIN, OWN, Rules, failed, given
from cliffracer.context import current
from cliffracer.errors import DeadlineExceeded


class PlainAnswers:
    """The way to an answer without an event loop; made in the thread of one, which must not wait."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._thread = threading.get_ident()
        self._running: dict[str, Promise[Any]] = {}
        self._lock = threading.Lock()

    def answer(self, cached: Cached, positional: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """Return the answer to a call, as `Answers.answer` does; a thread waits for another that makes the same."""
        make = partial(cached.function, *positional, **named)
        key = self._rules.key(cached, positional, named)
        if key is None:
            return make()
        while True:
            payload, fresh, marks = self._rules.found(cached, key)
            if fresh and payload is not None:
                cached.hits += 1
                return cached.decoded(payload)
            with self._lock:
                running = self._running.get(key.answer)
                if running is None:
                    mine = self._running[key.answer] = Promise()
                    break
            if payload is not None or threading.get_ident() == self._thread:
                return cached.decoded(payload) if payload is not None else make()
            outcome = _waited(running)
            if outcome is OWN:
                return make()
            if outcome is not AGAIN:
                cached.hits += 1
                return given(cached, outcome)
        return self._lead(cached, key, marks, mine, make, payload)

    def _lead(  # noqa: PLR0917 - called in one place
        self, cached: Cached, key: Key, marks: Marks, mine: "Promise[Any]", make: Callable[[], Any], stale: bytes | None
    ) -> Any:
        outcome = AGAIN
        cached.misses += 1
        try:
            result = make()
            outcome = self._rules.made(cached, result)
            if isinstance(outcome, bytes):
                self._rules.memory.put(key.answer, self._rules.entry(cached, outcome, marks))
            return result  # noqa: TRY300 - an else would read worse
        except Exception as error:  # whatever the function raises: those who wait get it, too
            outcome = failed(cached, error, stale)
            if isinstance(outcome, bytes):
                return cached.decoded(outcome)
            raise
        finally:
            with self._lock:
                del self._running[key.answer]
            mine.set_result(outcome)


def _waited(running: "Promise[Any]") -> Any:
    context = current.get()
    try:
        return running.result(None if context is None else context.remaining())
    except TimeoutError:
        raise DeadlineExceeded("the time for this call is over") from None
