"""Rate limits shared by all replicas: counted in a bucket, under compare-and-set."""

import asyncio
import hashlib
from collections.abc import Callable
from random import random
from time import monotonic, time
from weakref import WeakValueDictionary

from loguru import logger

from cliffracer.errors import CliffracerError, Conflict
from cliffracer.messaging.broker import Backend
from cliffracer.messaging.duties import Values
from cliffracer.messaging.stores import Bucket
from cliffracer.resilience.rates import Rate

BUCKET = Bucket("rates")
_SHARE = 20  # a replica takes a twentieth of an allowance at once, so that high rates cost few round trips
_TRIES = 50
PATIENCE = 2.0
"""Seconds that a call waits to be counted."""
REST = 5.0
"""Seconds without limits after the bucket did not answer, so that calls do not wait for it."""
_REMEMBERED = 10_000  # allowances of which a share may be held here; others are taken call by call, so that no share is lost


class Allowances:
    """Takes calls from allowances. While the bucket cannot be reached all calls pass: a limit must not take a service down."""

    def __init__(self, backend: Backend, now: Callable[[], float] = time) -> None:
        self._store: Values[int] = backend.values(BUCKET, int)
        self._now = now
        self._asking: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._held: dict[str, tuple[int, float]] = {}
        """For each allowance: the share that this replica holds, -1 if the allowance is used up; and when it ends."""
        self._soonest = 0.0  # none of them ends before that
        self._away = False
        self._again = 0.0  # when the bucket is asked again

    async def take(self, name: str, rate: Rate) -> float:
        """Return 0 for an allowed call, else the seconds until the next allowance."""
        now = self._now()
        window = int(now / rate.seconds)
        ends = (window + 1) * rate.seconds
        digest = hashlib.sha256(f"{name} {rate.calls}/{rate.seconds} {window}".encode("utf-8", "surrogatepass")).hexdigest()[:40]
        key = f"{name.partition('.')[0]}.{digest}"  # under the service's name, so that NATS can keep others away
        if not self._use(key):
            lock = self._asking.setdefault(key, asyncio.Lock())
            async with lock:
                if not self._use(key):
                    return await self._more(key, rate, ends)
        return max(0.001, ends - now) if self._held[key][0] < 0 else 0.0

    def _use(self, key: str) -> bool:
        """Use one of the calls that this replica holds; say whether the answer is known without the bucket: also if all are used up."""
        held, ends = self._held.get(key, (0, 0.0))
        if held > 0:
            self._held[key] = (held - 1, ends)
        return held != 0

    async def _more(self, key: str, rate: Rate, ends: float) -> float:
        if monotonic() < self._again:
            return 0.0
        kept = self._keeps(key, ends) or rate.per is None  # of those that all have together there are few
        try:
            async with asyncio.timeout(PATIENCE):
                share = await self._fetch(key, rate, max(1, rate.calls // _SHARE) if kept else 1)
        except Conflict as error:
            logger.debug("a rate cannot be counted now: {}", error)
            return 0.0
        except (CliffracerError, TimeoutError) as error:
            self._again = monotonic() + REST
            self._told(error)
            return 0.0
        self._told(None)
        if kept:
            self._held[key] = (share - 1 if share > 0 else -1, ends)
        return 0.0 if share > 0 else max(0.001, ends - self._now())

    def _told(self, trouble: Exception | None) -> None:
        """Log once that rates are not enforced for a while, and when they are again."""
        if trouble is not None and not self._away:
            logger.bind(error=type(trouble).__name__).warning("rates cannot be counted in NATS now: all calls are let through")
        elif trouble is None and self._away:
            logger.info("rates are counted again")
        self._away = trouble is not None

    async def _fetch(self, key: str, rate: Rate, most: int) -> int:
        """Take a share for this replica and return its size; -1 if nothing is left."""
        for _ in range(_TRIES):
            entry = await self._store.entry(key)
            used = 0 if entry is None else entry.value or 0
            if used >= rate.calls:
                return -1
            share = min(most, rate.calls - used)
            life = max(1.0, 2 * rate.seconds)
            try:
                if entry is None:
                    await self._store.create(key, share, ttl=life)
                else:
                    await self._store.update(key, used + share, entry.revision, ttl=life)
            except Conflict:
                await asyncio.sleep(random() * 0.01)  # noqa: S311 - spreads replicas, keeps no secret
                continue
            return share
        raise Conflict("too many replicas count at once")

    def _keeps(self, key: str, ends: float) -> bool:
        """Say whether there is room to hold a share of an allowance; expired ones are dropped to make room."""
        now = self._now()
        if len(self._held) >= _REMEMBERED and key not in self._held and now >= self._soonest:
            self._held = {known: found for known, found in self._held.items() if found[1] > now}
            self._soonest = min((last for _, last in self._held.values()), default=ends)
        if len(self._held) >= _REMEMBERED and key not in self._held:
            return False
        self._held.setdefault(key, (0, ends))
        self._soonest = min(self._soonest, ends)
        return True
