"""Events in order: those of one key one after another in all replicas together, those of different keys side by side.

One replica at a time takes them, the one that has the lock of the consumer; the others stand by. It begins an event when all
earlier ones of its key are done or parked, and it only knows that of those that it has in hand. So it begins nothing while the
broker has anything open that it has not: after it took over, and whenever the numbers of its deliveries have a gap, which is how
it learns that one went elsewhere. docs/semantics.md argues why order is kept by that.
"""

import asyncio
import random
import time
from typing import Any

from loguru import logger

from cliffracer.errors import CliffracerError, SetupError
from cliffracer.messaging.consumption import Consumption
from cliffracer.messaging.delivery import ACK, TERM, Delivery
from cliffracer.messaging.lanes import Entry, Lane, Lanes
from cliffracer.messaging.locks import Lock, order_of
from cliffracer.wire.cloudevents import key_in

LEASE = 10.0  # seconds after which another replica takes over from one that died
WINDOW = 10_000  # events that may be begun or wait behind failing ones of their keys, before they hold up the others
REMEMBERED = 50_000  # keys of which is known how far they are
SLOW = 1.0  # seconds after which those behind an event give way to those of other keys
ASIDE = 64 * 1024 * 1024  # bytes of events that wait aside; of more, only the numbers are kept, and they come again
AHEAD = 16  # events that are called back at once when their key gets on
PATIENCE = 5.0  # seconds after which it is said what a leader waits for
_TICK = 0.5
_GRACE = 5.0  # seconds after which an event that should have come again is asked for
_LONGEST_PAUSE = 10.0


class Ordered(Consumption):
    """A function's events in order per key. Those without a key are in order among themselves, as if they had one."""

    _unfinished = 10  # what only waited comes again as well when a replica stops or dies, and is not to be given up for that

    def __init__(self, *about: Any, batch: int | None = None, lease: float = LEASE, **options: Any) -> None:
        super().__init__(*about, **options)
        if batch is not None:
            raise SetupError(f"{self.service}.{self.function}: ordered and batch exclude each other. Leave one of them out.")
        self._in_flight = WINDOW
        self._lease = lease
        self._lanes: Lanes[Delivery] = Lanes()
        self._running: dict[Delivery, tuple[Entry[Delivery], float]] = {}  # with when it began
        self._away: dict[Entry[Delivery], float] = {}  # given back, and when it is to have come again
        self._done: dict[bytes, tuple[int, int]] = {}  # the last of each key that is done, of those of late, and when it was stored
        self._lock: Lock | None = None
        self._standing: asyncio.Task[None] | None = None
        self._looking: asyncio.Task[None] | None = None
        self._stream_number = self._gaps = self._expected = 0  # the last is the number of the next delivery
        self._kept = self._missing = 0  # bytes of what waits aside; what others had and have not answered
        self._yields = self.leading = False
        """Whether this replica is the one that takes events."""

    async def start(self) -> None:
        """Return once stream and consumer are there; events are asked for when no other replica does."""
        await self.ensure()
        self._polling = self._loop.create_task(self._poll(), name=f"lag of {self.name}")
        self._standing = self._loop.create_task(self._stand(), name=f"order of {self.name}")

    async def drain(self, within: float = 10.0) -> None:
        """Take nothing more, finish what is begun within some seconds, and let another replica go on at once."""
        self._closing = True
        if not self.leading:
            await _ended(self._standing)
        await super().drain(within)
        await _ended(self._standing, self._looking)

    async def ensure(self) -> str:
        """Make stream and consumer if they are absent; return when they were made."""
        before = self._stream_created
        made = await super().ensure()
        if before not in ("", self._stream_created):
            self._stream_number += 1
            self._done.clear()
        if self.leading:
            self._doubt()
        return made

    # -- one replica at a time

    async def _stand(self) -> None:
        pause, told = 1.0, ""
        while True:
            try:
                async with Lock(self._jetstream, self._subjects, order_of(self.name), ttl=self._lease) as lock:
                    pause, told = 1.0, ""
                    await self._lead(lock)
                pause = _LONGEST_PAUSE  # in which one of another version can have it
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if self._closing or task is None:
                    raise
                task.uncancel()  # the lock was lost while something else went wrong
            except Exception as error:  # noqa: BLE001 - whatever it is: without us nobody would take these events
                if told != (told := repr(error)):  # once, however often it is tried while NATS is away
                    logger.warning("{name} takes no events in order now: {error!r}", name=self.name, error=error)
            await asyncio.sleep(pause * (0.5 + random.random()))  # noqa: S311 - jitter
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _lead(self, lock: Lock) -> None:
        """Take events until the lock is lost, or they are for others; then begin nothing more, and end what runs before another may."""
        self._lock, self._lanes, self._expected = lock, Lanes(), 0
        self._running, self._away, self._kept, self._yields = {}, {}, 0, False
        self.pull = self._pulling()
        try:
            await self.pull.start()
            self.leading = True
            self._doubt()
            while not self._yields:
                await asyncio.sleep(_TICK)
                await self._tend()
        finally:
            self._lock, self.leading = None, False
            if not self._closing:
                await self.pull.stop()
                await self._give_back(self._ack_wait / 6)
                self._stopping = False

    # -- what comes

    def _take(self, delivery: Delivery) -> None:
        if delivery.consumer_seq != self._expected:
            self._doubt()
        self._expected = delivery.consumer_seq + 1
        if not self._ours(delivery.stored_on) and not self._ours_too(delivery):
            return
        key = key_in(delivery.block)
        number, stored = self._done.get(key, (0, 0))
        if delivery.stream_seq <= number and delivery.timestamp <= stored:  # all of its key up to there are done, and the server forgot
            delivery.ack()  # (a younger one has the number of one that a power cut took from the server)
            return
        place = self._stream_number, delivery.stream_seq
        if (before := self._lanes.known.get(place)) is not None:
            self._kept -= before.size
        entry = self._lanes.add(key, place, delivery)
        delivery.attempt -= entry.before
        self._away.pop(entry, None)
        if self._full or (entry.lane.stands and entry is not entry.lane.entries[0]):
            self._thin(entry)
        self._begin()

    def _begin(self) -> None:
        """Begin what may be begun."""
        if self._closing or self._lock is None or self._looking is not None or not self._lock.sure:
            return
        while self._lanes.running < self._limit and (entry := self._lanes.next()) is not None:
            if entry.empty:
                self._call_back(entry.lane)
                continue
            self._kept -= entry.size
            self._lanes.fetch(entry)
            entry.begun = True
            self._running[entry.item] = entry, time.monotonic()
            self._spawn(self._one(entry.item))

    async def _one(self, delivery: Delivery) -> None:
        await super()._one(delivery)
        if delivery.settled and delivery in self._running:
            self._settled(self._running.pop(delivery)[0], delivery)

    def _settled(self, entry: Entry[Delivery], delivery: Delivery) -> None:
        """Go on with the next of its key, or wait until it comes again."""
        if delivery.settled in (ACK, TERM):
            self._over(entry)
        else:
            self._lanes.again(entry)
            self._away[entry] = time.monotonic() + delivery.delay + _GRACE
            delivery.empty()
            self._stands(entry.lane)
        self._widen()
        self._begin()

    def _over(self, entry: Entry[Delivery]) -> None:
        if entry.place[0] == self._stream_number:
            self._done.pop(entry.lane.key, None)
            self._done[entry.lane.key] = entry.place[1], entry.item.timestamp
            if len(self._done) > REMEMBERED:
                del self._done[next(iter(self._done))]
        following = self._lanes.done(entry)
        if following is not None and not following.begun:  # it was behind another until now, so this is its first attempt
            following.before += following.item.attempt - 1
            following.item.attempt = 1

    async def _pass_on(self, delivery: Delivery) -> None:
        """Let another replica lead, too, where an event is for those of another version: they get it in order."""
        await super()._pass_on(delivery)
        self._yields = self._yields or delivery.settled != ACK

    # -- room for those of other keys

    def _stands(self, lane: Lane[Delivery]) -> None:
        lane.stands = True
        for entry in lane.entries[1:]:
            self._thin(entry)

    def _thin(self, entry: Entry[Delivery]) -> None:
        if self._lanes.thin(entry):
            size = len(entry.item.payload) + len(entry.item.block or b"")
            if self._kept + size <= ASIDE:
                entry.size = size
                self._kept += size
            else:
                entry.item.empty()
                entry.empty = True
            self._widen()

    def _call_back(self, lane: Lane[Delivery]) -> None:
        """Have those come again of which only the numbers were kept, as far as they are next; that is no attempt."""
        free = self._limit - len(self.pull.held) + self._lanes.slim
        for entry in lane.entries[: max(1, min(AHEAD, free))]:
            if entry.empty:
                self._lanes.again(entry)
                entry.empty = False
                entry.before += 1
                self._away[entry] = time.monotonic() + _GRACE
                entry.item.nak()
        self._widen()

    @property
    def _full(self) -> bool:
        return len(self.pull.held) - self._lanes.slim > self._limit

    def _widen(self) -> None:
        """Have room for as many whole events as we may handle, beside the mere numbers and those that are to come again."""
        self.pull.room(self._limit + self._lanes.slim + len(self._away) + self._missing)

    # -- what might be elsewhere

    def _doubt(self) -> None:
        """Begin nothing until all that the broker has open is in hand."""
        self._gaps += 1
        if self._looking is None:
            self._looking = self._loop.create_task(self._look(), name=f"gaps of {self.name}")

    async def _look(self) -> None:
        pause, told = 0.02, time.monotonic() + PATIENCE
        while self._lock is not None:
            gaps, missing = self._gaps, 1
            try:
                missing = await self._elsewhere()
                if missing > 0 and time.monotonic() > told:
                    told = self._tell(missing)
            except CliffracerError as error:  # the pull loop has it made again
                logger.debug("no news of consumer {name}: {error}", name=self.name, error=error)
            if missing <= 0 and gaps == self._gaps:
                break
            held = len(self.pull.held) - self._lanes.slim - len(self._away)
            self._missing = max(0, missing) + max(0, held - self._limit)  # they come, however many others came before them
            self._widen()
            await asyncio.sleep(pause)
            pause = min(2 * pause, 1.0)
        self._missing, self._looking = 0, None
        self._widen()
        self._begin()

    def _tell(self, missing: int) -> float:
        """Say, once, what is waited for; return when to say it again."""
        logger.warning(
            "{service}.{function} begins nothing while other replicas have {missing} of its events: those of one that died come again "
            "within {wait:g} s, those of one that runs without ordered=True when it is done or stops",
            service=self.service, function=self.function, missing=missing, wait=self._ack_wait,
        )  # fmt: skip
        return float("inf")

    async def _elsewhere(self) -> int:
        """Return how many events the broker has open of which we know nothing."""
        self.info = info = await self._jetstream.consumer(self._stream, self.name)
        last = info.delivered.stream_seq
        return info.num_ack_pending - sum(stream == self._stream_number and seq <= last for stream, seq in self._lanes.known)

    # -- now and then

    async def _tend(self) -> None:
        now = time.monotonic()
        if len(self.pull.held) - self._lanes.slim >= self._limit > self._lanes.running:
            slow = [entry for entry, began in self._running.values() if now - began > SLOW]
            for entry in list(self._lanes.known.values()) if slow or self._away else ():
                if entry is not entry.lane.entries[0]:  # they wait, and those of other keys may have to wait for their room
                    self._thin(entry)
        overdue = [entry for entry, due in self._away.items() if due < now]
        if overdue and self._looking is None and self.pull.bus.connected:
            await self._chase(overdue)
        self._begin()

    async def _chase(self, entries: list[Entry[Delivery]]) -> None:
        """Ask again for what did not come again; forget it when the broker has less open than we know of: it was removed, or answered."""
        try:
            unknown = await self._elsewhere()
        except CliffracerError:  # the pull loop sees to that
            return
        for entry in entries:
            if entry not in self._away:
                continue
            if entry.place[0] != self._stream_number:  # of a stream that was deleted
                self._forget(entry)
                continue
            if unknown < 0 and entry.chased:
                unknown += 1
                self._forget(entry)
                continue
            entry.chased = True
            self._away[entry] = time.monotonic() + 2 * _GRACE
            entry.item.settled = b""
            entry.item.nak()

    def _forget(self, entry: Entry[Delivery]) -> None:
        logger.warning("{event} did not come again: it was removed, or answered by another", event=entry.item)
        del self._away[entry]
        self._over(entry)
        self._widen()


async def _ended(*tasks: asyncio.Task[None] | None) -> None:
    for task in filter(None, tasks):
        task.cancel()
        await asyncio.wait([task])
