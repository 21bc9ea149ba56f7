"""The cache of one running app: one call computes an answer, and concurrent ones wait for it (single flight)."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from functools import partial
from typing import Any, TypeVar

from loguru import logger

from cliffracer.caching.cached import Cached
from cliffracer.caching.entries import Entry, Marks, Store
from cliffracer.caching.keys import Key
from cliffracer.caching.outage import Away, Reached
from cliffracer.caching.plain import PlainAnswers
from cliffracer.caching.rules import AGAIN, OWN, Rules, failed, given
from cliffracer.context import current
from cliffracer.declarations import where
from cliffracer.errors import Unavailable

T = TypeVar("T")
LEASE = 5.0  # seconds to wait for another replica that is computing the same answer
_POLL = (0.01, 0.2)  # seconds between two polls for it


class _Flight:
    """An answer that is being computed. ``looked``: what is cached already, fresh or stale; ``done``: the outcome."""

    __slots__ = ("done", "looked")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.looked: asyncio.Future[bytes | None] = loop.create_future()
        self.done: asyncio.Future[Any] = loop.create_future()


class Answers:
    """The answers of one app in one process: `cliffracer.caching.cached.Keeper`."""

    def __init__(
        self,
        service: str,
        version: str,
        *,
        now: Callable[[], float],
        provides: Callable[[Any], bool],
        transaction: Callable[[], Any],
    ) -> None:
        self.service = service
        self._rules = Rules(service, version, now=now, provides=provides, transaction=transaction)
        self.memory = self._rules.memory
        self.answer_plainly = PlainAnswers(self._rules).answer
        self.call_tag = self._rules.call_tag
        self._loop = asyncio.get_running_loop()
        self.stores: dict[str, Reached] = {}
        self._flights: dict[str, _Flight] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.say: Callable[[list[str]], None] | None = None
        """Tells the other replicas which tags are invalidated."""

    def use(self, name: str, store: Store) -> None:
        """Add a store beside memory."""
        self.stores[name] = Reached(name, store)

    async def answer(self, cached: Cached, positional: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """Return the answer to a call: a cached or a new one."""
        make = partial(cached.function, *positional, **named)
        key = self._rules.key(cached, positional, named)
        if key is None or asyncio.get_running_loop() is not self._loop:
            return await make()
        if cached.store == "memory":
            payload, fresh, _ = self._rules.found(cached, key)
            if fresh and payload is not None:
                cached.hits += 1
                return cached.decoded(payload)
        while (flight := self._flights.get(key.answer)) is not None:
            outcome = await asyncio.shield(flight.looked)
            if outcome is None:
                outcome = await asyncio.shield(flight.done)
            if outcome is OWN:
                return await make()
            if outcome is not AGAIN:
                cached.hits += 1
                return given(cached, outcome)
        return await self._lead(cached, key, make)

    async def _lead(self, cached: Cached, key: Key, make: Callable[[], Awaitable[Any]]) -> Any:
        flight = self._flights[key.answer] = _Flight(self._loop)
        outcome, stale = AGAIN, None
        try:
            payload, fresh, marks = await self._look(cached, key)
            if fresh:
                cached.hits += 1
                outcome = payload
                return cached.decoded(payload or b"")
            stale = payload
            flight.looked.set_result(stale)
            cached.misses += 1
            result, outcome = await self._made(cached, key, marks, make, stale)
            return result  # noqa: TRY300 - an else would read worse
        except Exception as error:  # whatever the function raises: waiting calls get it, too
            outcome = failed(cached, error, stale)
            if isinstance(outcome, bytes):
                return cached.decoded(outcome)
            raise
        finally:
            del self._flights[key.answer]
            if not flight.looked.done():
                flight.looked.set_result(None)
            flight.done.set_result(outcome)
            del flight, outcome  # an error's traceback refers to this frame: a cycle, which would keep the caller's objects

    async def _look(self, cached: Cached, key: Key) -> tuple[bytes | None, bool, Marks | None]:
        """Return the entry, whether it is fresh, and the marks of its tags; None and None if the store is away."""
        store = self._store(cached)
        try:
            entry, marks = await store.look(key.answer, key.tags)
        except Away:
            cached.failures += 1
            return None, False, None
        return *self._rules.good(cached, entry, marks), marks

    async def _made(
        self, cached: Cached, key: Key, marks: Marks | None, make: Callable[[], Awaitable[Any]], stale: bytes | None
    ) -> tuple[Any, Any]:
        """Return a new answer, and the one for waiting calls; another replica's, if that was faster."""
        store, ours = self._store(cached), False
        if marks is not None and isinstance(store, Reached):
            payload, ours = await self._turn(cached, store, key, stale)
            if payload is not None:
                return cached.decoded(payload), payload
        try:
            result = await make()
            outcome = self._rules.made(cached, result)
            if isinstance(outcome, bytes) and marks is not None:
                await self._keep(cached, store, key, self._rules.entry(cached, outcome, marks))
            return result, outcome
        finally:
            if ours:
                self._begin(store.release(key.answer))

    async def _keep(self, cached: Cached, store: Store, key: Key, entry: Entry) -> None:
        try:
            await store.keep(key.answer, entry, cached.ttl + cached.stale)
        except Away as error:
            cached.failures += 1
            if error.theirs:
                self._rules.tell(f"an answer of {where(cached.function)} cannot be kept: {error}")

    async def _turn(self, cached: Cached, store: Store, key: Key, stale: bytes | None) -> tuple[bytes | None, bool]:
        """Wait for our turn to compute an answer; return another replica's answer, if there is one by now, and whether it is our turn."""
        context = current.get()
        left = None if context is None else context.remaining()
        until, wait, ours = self._loop.time() + (LEASE if left is None else min(LEASE, left / 2)), _POLL[0], False
        try:
            while True:
                ours = await self._claimed(store, key)
                payload, fresh = self._rules.good(cached, *await store.look(key.answer, key.tags))
                if fresh and payload is not None:
                    if ours:
                        self._begin(store.release(key.answer))
                    return payload, False
                if ours or self._loop.time() >= until:
                    return None, ours
                if stale is not None:
                    return stale, False
                await asyncio.sleep(wait)
                wait = min(2 * wait, _POLL[1])
        except Away:
            return None, ours
        except asyncio.CancelledError:  # the others must not wait until the lease is over
            if ours:
                self._begin(store.release(key.answer))
            raise

    async def _claimed(self, store: Store, key: Key) -> bool:
        """Claim an answer; a claim that is under way when we are cancelled is released."""
        claiming = self._loop.create_task(store.claim(key.answer, LEASE), name="claim of an answer")
        try:
            return await asyncio.shield(claiming)
        except asyncio.CancelledError:
            self._begin(self._given_back(store, key, claiming))
            raise

    async def _given_back(self, store: Store, key: Key, claiming: "asyncio.Task[bool]") -> None:
        if await claiming:
            await store.release(key.answer)

    async def forget(self, tags: Iterable[str]) -> None:
        """Invalidate everything with one of these tags; in an open transaction, after its commit.

        `Unavailable` if a store cannot be told.
        """
        listed, transaction = list(tags), self._rules.transaction()
        if transaction is not None:
            transaction.after_commit(partial(self._committed, listed))
        else:
            await self._forget(listed)

    def _committed(self, tags: list[str]) -> None:
        self.memory.drop(tags)
        self._begin(self._forget(tags))

    async def _forget(self, tags: list[str]) -> None:
        self.memory.drop(tags)
        try:
            told = await asyncio.gather(*(store.tell(tags) for store in self.stores.values()), return_exceptions=True)
        finally:
            if self.say is not None:
                self.say(tags)
        for error in filter(None, told):  # an unreachable store must not keep the others from being told
            raise error

    async def close(self) -> None:
        """Finish background work."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(self._logged(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _logged(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Away:
            return
        except Unavailable as error:
            logger.warning("{}; it is good no more when its time is over", error.message)

    def _store(self, cached: Cached) -> Store:
        return self.memory if cached.store == "memory" else self.stores[cached.store]
