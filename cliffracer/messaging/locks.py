"""Locks and leaders: one holder in the cluster, as long as it renews its lease.

The record of a lock is one message under compare-and-set. Its holder rewrites it three times per ``ttl``; a waiter takes it
over when it has not changed for a whole ``ttl`` by the waiter's own clock, so that no two clocks are compared. A holder that could
not write for a ``ttl`` has lost it, and notices that before anybody else can have it.
"""

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Self

import msgspec
from loguru import logger

from cliffracer.context import new_id
from cliffracer.errors import CliffracerError, Conflict, DeadlineExceeded, NotFound, Unavailable, Unsendable
from cliffracer.messaging.bus import Subscription, is_closed
from cliffracer.messaging.ensuring import agreements, ensure_agreements
from cliffracer.messaging.jetstream import JetStream, read_stored
from cliffracer.shielding import shielded
from cliffracer.wire.headers import MESSAGE_ID, encode_headers
from cliffracer.wire.subjects import Subjects, as_token

_SAFETY = 0.8  # share of the ttl after which a holder that cannot write gives up, before others may take it
_SHORTEST = 0.1  # seconds
_LONGEST = 256
_POLL = 1.0  # seconds between two polls, in case a notice of release is missed
_STEADY = 60.0  # seconds after which a leader that stops begins again as soon as one that had never failed
_TRY = 1.0  # seconds that asking for a lock may take however short the wait for it: NATS may be away, or hang


class _Record(msgspec.Struct):
    owner: str = ""
    """Empty: free."""
    ttl: float = 0.0


class Lock:
    """``async with lock:`` holds it; ``token`` rises with every holder, so that a store can refuse one who was too slow.

    When it is lost (the server was away for longer than ``ttl``), the block is cancelled and ends with `Unavailable`.
    """

    def __init__(
        self,
        jetstream: JetStream,
        subjects: Subjects,
        name: str,
        *,
        ttl: float = 30.0,
        wait: float | None = None,
        turn: asyncio.Lock | None = None,
    ) -> None:
        if not 0 < len(name) <= _LONGEST:
            raise Unsendable(f"{name[:80]!r} is no name of a lock: 1 to {_LONGEST} characters")
        if ttl < _SHORTEST:
            raise ValueError(f"ttl={ttl:g} is no time to hold a lock for: its holder says three times per ttl that it lives")
        self.name = name
        self.token = 0
        """The fencing token: larger than that of every earlier holder."""
        self.ttl = ttl
        self._wait = wait
        self._turn = asyncio.Lock() if turn is None else turn  # of this process: only one of its waiters contends with other processes
        self._in_turn = False
        self._jetstream = jetstream
        self._namespace = subjects.namespace
        self._stream, self._subject = agreements(subjects.namespace, f"locks.{as_token(name)}")
        self._owner = new_id()
        self._revision = 0
        self._renewed = 0.0
        self._unsure = False  # a write of ours had no answer, so we do not know whether it was stored
        self._asked = False  # whether we have ever read who has it
        self._changed = asyncio.Event()
        self._renewing: asyncio.Task[None] | None = None
        self._holder: asyncio.Task[object] | None = None
        self._cancelling = 0  # cancellations of the holder that are not ours
        self._lost = False

    async def __aenter__(self) -> Self:
        await self.acquire()
        self._holder = asyncio.current_task()
        self._cancelling = 0 if self._holder is None else self._holder.cancelling()
        self._renewing = asyncio.get_running_loop().create_task(self._renew(), name=f"lock {self.name}")
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        holder, self._holder = self._holder, None
        if not self._lost:
            await self._leaving()
            return
        self._pass_on()
        if holder is not None and holder.uncancel() <= self._cancelling and kind is asyncio.CancelledError:  # as `asyncio.timeout` does
            raise Unavailable(f"lock {self.name} was lost: NATS was away for too long", reason="lost")

    @property
    def sure(self) -> bool:
        """Whether nobody else can have it: it was written less than a ``ttl`` ago, with a margin."""
        return not self._lost and time.monotonic() - self._renewed < _SAFETY * self.ttl

    async def acquire(self) -> None:
        """Return when it is ours; `Unavailable` when it was not to be had within ``wait`` seconds: of 0, one try."""
        loop = asyncio.get_running_loop()
        until = None if self._wait is None else loop.time() + self._wait
        try:
            async with asyncio.timeout_at(until):
                await self._turn.acquire()
            self._in_turn = True
            async with asyncio.timeout_at(None if until is None else max(until, loop.time() + _TRY)):
                await ensure_agreements(self._jetstream, self._namespace)
                subscription = await self._jetstream.bus.subscribe(self._subject, self._notice)
                try:
                    await self._contend(until)
                finally:
                    await _closed(subscription)
        except TimeoutError:
            unheard = self._in_turn and not self._asked
            self._give_up()
            if unheard:
                raise Unavailable(f"lock {self.name} could not be asked for: NATS is away, or does not answer", reason="away") from None
            raise Unavailable(f"lock {self.name} is held by somebody else", reason="held") from None
        except BaseException:  # cancelled, too: the next waiter of this process must not wait for us
            self._give_up()
            raise

    def _give_up(self) -> None:
        """Let others try, and release the lock if we got it just as we gave up."""
        if self._unsure or self._renewed:
            self._leaving()
        else:
            self._pass_on()

    def _leaving(self) -> "asyncio.Future[None]":
        """Release it, even if the holder is cancelled, so that no lock is left behind."""
        return shielded(self.release(), f"release of lock {self.name}")

    async def release(self) -> None:
        """Release it at once."""
        try:
            if self._renewing is not None:
                self._renewing.cancel()
                await asyncio.wait([self._renewing])
            with suppress(CliffracerError):  # somebody else has it by now, or will after the ttl
                await self._write(_Record())
        finally:
            self._pass_on()

    def _pass_on(self) -> None:
        """Let the next waiter of this process try."""
        if self._in_turn:
            self._in_turn = False
            self._turn.release()

    async def _contend(self, until: float | None) -> None:
        """Take it when it is free; `TimeoutError` if others have it at ``until``."""
        loop, seen, since = asyncio.get_running_loop(), -1, 0.0
        while True:
            self._changed.clear()
            last = until is not None and loop.time() >= until
            try:
                revision, record = await self._read()
                self._asked = True
                if revision != seen:
                    seen, since = revision, time.monotonic()
                left = since + record.ttl - time.monotonic()
                if not record.owner or record.owner == self._owner or left <= 0:
                    self._revision = revision
                    await self._write(_Record(self._owner, self.ttl))
                    self.token, self._lost = self._revision, False
                    return
            except (Conflict, Unavailable, DeadlineExceeded, NotFound) as error:  # somebody else was faster, or NATS is away
                if is_closed(error):
                    raise
                left = _POLL
            if last:
                raise TimeoutError
            pause = min(max(left, 0.01), _POLL) * (0.75 + random.random() / 2)  # noqa: S311 - jitter
            with suppress(TimeoutError):
                async with asyncio.timeout(pause if until is None else min(pause, until - loop.time())):
                    await self._changed.wait()

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self.ttl / 3)
            while True:
                try:
                    await self._write(_Record(self._owner, self.ttl))
                    break
                except Conflict:
                    self._lose()
                    return
                except CliffracerError:  # whatever keeps us from writing
                    if time.monotonic() - self._renewed > _SAFETY * self.ttl:
                        self._lose()
                        return
                    await asyncio.sleep(min(0.1, self.ttl / 20))

    def _lose(self) -> None:
        self._lost = True
        if self._holder is not None:
            self._holder.cancel()

    async def _read(self) -> tuple[int, _Record]:
        stored = await self._jetstream.last_message(self._stream, self._subject)
        return (0, _Record()) if stored is None else (stored.seq, read_stored(stored.data, _Record) or _Record())

    async def _write(self, record: _Record) -> None:
        """Write the record if nobody else has changed it; a write of our own that had no answer does not count as a change."""
        while True:
            try:
                await self._store(record)
            except (Unavailable, DeadlineExceeded, asyncio.CancelledError):
                self._unsure = True
                raise
            except Conflict:
                if not (self._unsure and await self._wrote()):
                    raise
            else:
                self._unsure = False
                return

    async def _wrote(self) -> bool:
        """Say whether we changed the record ourselves, and continue from its revision."""
        before = self._revision
        try:
            async with asyncio.timeout(self._left()):
                revision, record = await self._read()
        except TimeoutError:
            raise DeadlineExceeded(f"who holds lock {self.name} could not be read in time") from None
        if record.owner == self._owner:
            self._revision = revision
        return self._revision != before

    async def _store(self, record: _Record) -> None:
        """Write the record if it is at the revision that we know; our ttl counts from the beginning of the write."""
        began = time.monotonic()
        condition = {"Nats-Expected-Last-Subject-Sequence": str(self._revision), MESSAGE_ID: new_id()}
        ack = await self._jetstream.store(self._subject, msgspec.json.encode(record), encode_headers(condition), timeout=self._left())
        self._revision, self._renewed = ack.seq, began

    def _left(self) -> float:
        """Return how many seconds one attempt may take."""
        left = self.ttl if self._renewed == 0 else max(0.05, self._renewed + _SAFETY * self.ttl - time.monotonic())
        return min(left, 5.0)

    def _notice(self, _subject: bytes, _reply: bytes, _block: bytes | None, _payload: bytes) -> None:
        self._changed.set()


def leader_of(function: str) -> str:
    """Return the name of a leader's lock, from the name of its function in the cluster."""
    return f"leader-{function}"


def order_of(consumer: str) -> str:
    """Return the name of the lock for taking the events of a consumer in order."""
    return f"ordered-{consumer}"


async def _closed(subscription: Subscription) -> None:
    with suppress(CliffracerError):
        await subscription.close()


class Leader:
    """Runs a function in the replica that gets the lock; it is cancelled if the lock is lost, and begins elsewhere."""

    def __init__(
        self, jetstream: JetStream, subjects: Subjects, name: str, run: Callable[[], Awaitable[object]], *, ttl: float = 15.0
    ) -> None:
        self.name = name
        self.leading = False
        self._jetstream = jetstream
        self._subjects = subjects
        self._ttl = ttl
        self._run = run
        self._task: asyncio.Task[None] | None = None
        self._pause = 1.0

    async def start(self) -> None:
        """Begin to contend for the lock; `SetupError` where there is no JetStream that could keep it."""
        with suppress(Conflict, DeadlineExceeded, Unavailable):  # for now: it is tried again
            await ensure_agreements(self._jetstream, self._subjects.namespace)
        self._task = asyncio.get_running_loop().create_task(self._stand(), name=f"leader {self.name}")

    async def drain(self, seconds: float) -> None:
        """Cancel the function if it runs here, and let another replica lead at once."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task], timeout=max(1.0, seconds))
            self._task = None

    async def _stand(self) -> None:
        began, told = math.inf, ""
        while True:
            try:
                async with Lock(self._jetstream, self._subjects, self.name, ttl=self._ttl):
                    self.leading, told, began = True, "", time.monotonic()
                    await self._run()
                    await asyncio.Event().wait()  # its work is done, and no other replica has to do it again
            except Exception as error:  # noqa: BLE001 - whatever it raised, here or elsewhere it is tried again
                if told != (told := repr(error)):  # once, however often it is tried while NATS is away
                    logger.warning("leader {name} stopped: {error!r}", name=self.name, error=error)
            finally:
                self.leading = False
            if time.monotonic() - began > _STEADY:
                self._pause = 1.0
            began = math.inf
            await asyncio.sleep(self._pause * (0.5 + random.random()))  # noqa: S311 - jitter
            self._pause = min(2 * self._pause, 30.0)
