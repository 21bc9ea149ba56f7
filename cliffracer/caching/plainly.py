"""Answers of functions that are not async: made in one thread, waited for in others. They are kept in memory alone."""

import threading
from collections.abc import Callable
from concurrent.futures import Future as Promise
from functools import partial
from typing import Any

from cliffracer.caching.cached import Cached
from cliffracer.caching.entries import Marks
from cliffracer.caching.ground import AGAIN, OWN, Ground, given
from cliffracer.caching.keys import Key
from cliffracer.context import current
from cliffracer.errors import DeadlineExceeded
from cliffracer.resilience.verdicts import replaceable


class Plainly:
    """The way to an answer without an event loop; made in the thread of one, which must not wait."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._thread = threading.get_ident()
        self._running: dict[str, Promise[Any]] = {}
        self._lock = threading.Lock()

    def answer(self, cached: Cached, positional: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """Return the answer to a call, as `Answers.answer` does; a thread waits for another that makes the same."""
        make = partial(cached.function, *positional, **named)
        key = self._ground.key(cached, positional, named)
        if key is None:
            return make()
        while True:
            payload, fresh, marks = self._ground.found(cached, key)
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
            payload = cached.encoded(result)
            if result is not None and payload is not None:
                self._ground.memory.put(key.answer, self._ground.entry(cached, payload, marks))
            outcome = OWN if payload is None else None if result is None else payload
            return result  # noqa: TRY300 - the same
        except Exception as error:
            if stale is not None and replaceable(error):
                cached.stales += 1
                outcome = stale
                return cached.decoded(stale)
            outcome = AGAIN if isinstance(error, DeadlineExceeded) else error
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
