"""A bounded set of connections that survives cancelled callers, restarts of the server and its own exhaustion.

Why not psycopg's own pool: after 12,000 random cancellations it could give out one of its eight connections, and
its context manager costs as much CPU as a small query. Here taking a free connection and giving one back are plain
function calls, so there is no await in which a cancelled task could lose one; connecting and mending run in the
pool's own tasks, never in a caller's.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from random import uniform
from time import monotonic
from typing import Any

from cliffracer.database.away import silent
from cliffracer.database.link import Link
from cliffracer.errors import SetupError, Unavailable

log = logging.getLogger("cliffracer.database")

MEND_WITHIN = 10.0
MEND_AT_LAST = 1.0
"""Seconds that `close` waits for connections that are being mended."""
TIDY_EVERY = 30.0
BACKOFF = (0.05, 1.0)


class Pool:
    """At most ``largest`` links, at least ``smallest`` when the server is there."""

    def __init__(
        self,
        connect: Callable[[], Awaitable[Link]],
        *,
        smallest: int = 1,
        largest: int = 10,
        patience: float = 30.0,
        lifetime: float = 3600.0,
        idle: float = 600.0,
        name: str = "database",
    ) -> None:
        if not 0 <= smallest <= largest or largest < 1:
            raise SetupError(f"database_pool_min ({smallest}) and database_pool_max ({largest}): 0 <= min <= max and max >= 1 must hold.")
        self.name = name
        self.largest = largest
        self.patience = patience
        self.connect = connect
        self.standby = False
        """Whether its address asks for a server that takes no changes."""
        self._smallest = smallest
        self._lifetime = lifetime
        self._idle = idle
        self._links: set[Link] = set()
        self._free: list[Link] = []
        self._waiting: deque[asyncio.Future[Link]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._mending: set[asyncio.Task[None]] = set()  # of those
        self._connecting = 0
        self._closed = False
        self._emptied: asyncio.Event = asyncio.Event()
        self._tidy: asyncio.TimerHandle | None = None
        self._answered = float("-inf")
        self.trouble: BaseException | None = None
        """Why the last attempt to connect failed; None since one succeeded."""
        self.taken = self.waited = self.refused = self.lost = self.opened = 0
        self.wait_seconds = 0.0

    async def open(self, first: Link) -> None:
        """Take the first connection in and start to fill up; there is nothing to wait for."""
        self._add(first)
        self._fill()
        self._tidy = asyncio.get_running_loop().call_later(TIDY_EVERY, self._tidy_up)

    def take(self) -> Link | None:
        """Return a free connection that is alive; None if there is none right now."""
        while self._free:
            link = self._free.pop()
            if link.alive():
                self.taken += 1
                return link
            self._drop(link)
        return None

    async def acquire(self, within: float | None = None) -> Link:
        """Return a connection, waiting for it at most ``within`` seconds; then `Unavailable`."""
        link = self.take()
        if link is not None:
            return link
        if self._closed:
            raise Unavailable("the database is closed")
        loop = asyncio.get_running_loop()
        limit = self.patience if within is None else min(within, self.patience)
        waiter: asyncio.Future[Link] = loop.create_future()
        self._waiting.append(waiter)
        self.waited += 1
        self._grow()
        timer = loop.call_later(limit, self._refuse, waiter, limit)
        began = loop.time()
        try:
            link = await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self.give(waiter.result())  # it arrived just as the caller gave up
            elif waiter in self._waiting:
                self._waiting.remove(waiter)
            raise
        finally:
            timer.cancel()
            self.wait_seconds += loop.time() - began
        self.taken += 1
        return link

    async def acquire_before(self, deadline: float | None) -> Link:
        """Return a connection, waiting for it at most until a moment of `time.monotonic`."""
        return await self.acquire(None if deadline is None else max(0.0, deadline - monotonic()))

    def give(self, link: Link) -> None:
        """Take a connection back; one that is not clean is mended first, in the background."""
        if link.clean():
            self._put(link)
        elif self._closed:
            self._drop(link)
        else:
            mending = self._spawn(self._mend(link))
            self._mending.add(mending)
            mending.add_done_callback(self._mending.discard)

    async def close(self, within: float = 5.0) -> None:
        """Wait for connections that are in use, at most ``within`` seconds, and close all of them."""
        self._closed = True
        if self._tidy is not None:
            self._tidy.cancel()
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_exception(Unavailable("the database is closed"))
        for link in self._free:
            self._drop(link)
        self._free.clear()
        await self._mended()
        if self._links:
            try:
                async with asyncio.timeout(within):
                    await self._emptied.wait()
            except TimeoutError:
                log.warning("%d connections of %s were still in use and are cut", len(self._links), self.name)
        for link in list(self._links):
            self._drop(link)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _mended(self) -> None:
        """Wait a moment for connections that are being mended; not for long, since the server may hang."""
        mending = list(self._mending)
        if mending:
            await asyncio.wait(mending, timeout=MEND_AT_LAST)
        for task in mending:
            task.cancel()
        await asyncio.gather(*mending, return_exceptions=True)

    def busy(self, within: float) -> bool:
        """Say whether all connections are in use, and one was given back in good order within so many seconds."""
        exhausted = not self._free and len(self._links) == self.largest
        return exhausted and asyncio.get_running_loop().time() - self._answered <= within

    def statistics(self) -> dict[str, float]:
        """Return the numbers for health and metrics: sizes now, counts since start."""
        return {
            "size": len(self._links),
            "free": len(self._free),
            "used": len(self._links) - len(self._free),
            "max": self.largest,
            "waiting": sum(not waiter.done() for waiter in self._waiting),
            "taken_total": self.taken,
            "waited_total": self.waited,
            "wait_seconds_total": round(self.wait_seconds, 6),
            "refused_total": self.refused,
            "opened_total": self.opened,
            "lost_total": self.lost,
        }

    # -- the pool's own work ---------------------------------------------------------------------------------------

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _add(self, link: Link) -> None:
        self._links.add(link)
        self.opened += 1
        self._put(link)

    def _put(self, link: Link) -> None:
        self._answered = now = asyncio.get_running_loop().time()
        if self._closed or now - link.born > self._lifetime:
            self._drop(link, lost=False)
            return
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(link)
                return
        link.idle_since = now
        self._free.append(link)

    def _drop(self, link: Link, *, lost: bool = True) -> None:
        if link in self._links:
            self._links.discard(link)
            self.lost += lost and not self._closed
            link.close()
        if self._closed:
            if not self._links:
                self._emptied.set()
        else:
            self._fill()

    def _fill(self) -> None:
        while len(self._links) + self._connecting < self._smallest:
            self._start_connecting()
        self._grow()

    def _grow(self) -> None:
        if len(self._links) + self._connecting >= self.largest or (self.trouble is not None and self._connecting):
            return
        wanted = sum(not waiter.done() for waiter in self._waiting)
        while self._connecting < wanted and len(self._links) + self._connecting < self.largest:
            self._start_connecting()

    def _start_connecting(self) -> None:
        self._connecting += 1
        self._spawn(self._connect_one())

    async def _connect_one(self) -> None:
        link: Link | None = None
        try:
            link = await self._connected()
        finally:
            self._connecting -= 1
            if link is not None:
                self._add(link)
                self._fill()  # while there was trouble only one was tried

    async def _connected(self) -> Link | None:
        """Return a new connection, tried for as long as somebody needs it; one attempt at a time, at random moments.

        All replicas lose their connections at the same time, and must not overrun a server that has just started.
        """
        pause = BACKOFF[0]
        while not self._closed:
            try:
                link = await self.connect()
            except Exception as error:  # noqa: BLE001 - whatever the library says, the next attempt may succeed
                self._note(error)
            else:
                self._note(None)
                return link
            if self._connecting > 1 or not self._needed():
                return None
            await asyncio.sleep(pause * uniform(0.5, 1.0))  # noqa: S311 - it keeps no secret
            pause = min(pause * 2, BACKOFF[1])
        return None

    def _needed(self) -> bool:
        while self._waiting and self._waiting[0].done():
            self._waiting.popleft()
        return bool(self._waiting) or len(self._links) + self._connecting <= self._smallest

    def _note(self, trouble: BaseException | None) -> None:
        if trouble is not None and self.trouble is None:
            log.warning("cannot connect to %s: %s", self.name, trouble)
        elif trouble is None and self.trouble is not None:
            log.info("connected to %s again", self.name)
        self.trouble = trouble

    async def _mend(self, link: Link) -> None:
        try:
            async with asyncio.timeout(MEND_WITHIN):
                await link.mend()
        except Exception as error:  # noqa: BLE001 - a connection that cannot be mended is replaced, whatever the reason
            log.debug("a connection of %s is replaced: %s", self.name, error)
            self._drop(link)
        except asyncio.CancelledError:
            self._drop(link)
            raise
        else:
            self._put(link)

    def _refuse(self, waiter: "asyncio.Future[Link]", limit: float) -> None:
        if waiter.done():
            return
        self.refused += 1
        self._waiting.remove(waiter)
        # A full server is reachable, since some connections are in use; a silent one is not, though some may wait for its answer.
        reached = self.trouble is None or (self._links and not silent(self.trouble))
        error = Unavailable(f"no database connection became free within {limit:.3g} s" if reached else "the database cannot be reached")
        if self.trouble is not None:
            error.add_note(f"{self.name}: {self.trouble}")
        elif len(self._links) < self.largest:
            error.add_note(f"{self.name} has not let another connection in yet: it hangs, or is slow.")
        else:
            error.add_note(f"All {self.largest} connections are in use. Shorten the transactions, or raise database_pool_max.")
        waiter.set_exception(error)

    def _tidy_up(self) -> None:
        loop = asyncio.get_running_loop()
        self._tidy = loop.call_later(TIDY_EVERY, self._tidy_up)
        for link in list(self._free):
            spare = len(self._links) > self._smallest and loop.time() - link.idle_since > self._idle
            gone = not link.alive()
            if gone or spare or loop.time() - link.born > self._lifetime:
                self._free.remove(link)
                self._drop(link, lost=gone)
