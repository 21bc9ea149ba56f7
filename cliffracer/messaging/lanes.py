"""Queues for ordered handling: events of one key one after another, those of different keys side by side.

Nothing here knows the broker, or time. An event is kept from its arrival until it is done. If it is given back for another
attempt it keeps its place, so that no other event of its key overtakes it.
"""

from bisect import bisect_left
from collections import deque
from enum import Enum, auto
from operator import attrgetter
from typing import Generic, TypeVar

T = TypeVar("T")

Place = tuple[int, int]
"""(number of the stream, which changes if it is made anew; sequence in it)."""


class State(Enum):
    """The state of an event."""

    WAITING = auto()
    RUNNING = auto()
    AWAY = auto()
    """Given back, to be delivered again."""


class Entry(Generic[T]):
    """One event that is not done."""

    __slots__ = ("before", "begun", "chased", "empty", "item", "lane", "place", "size", "slim", "state")

    def __init__(self, lane: "Lane[T]", place: Place, item: T) -> None:
        self.lane = lane
        self.place = place
        self.item = item
        self.state = State.WAITING
        self.slim = False
        """Whether it waits aside, so that it takes no room from other keys."""
        self.size = 0
        """Bytes of it that are kept while it waits aside."""
        self.empty = False
        """Whether its payload was dropped: it has to be delivered again when it is its turn."""
        self.begun = False
        self.chased = False
        """Whether it was asked for once more, because it was not delivered again in time."""
        self.before = 0
        """Deliveries that do not count as attempts: another event of its key was in front, so it cannot have been begun."""


class Lane(Generic[T]):
    """The events of one key that are not done, in order."""

    __slots__ = ("entries", "key", "running", "stands")

    def __init__(self, key: bytes) -> None:
        self.key = key
        self.entries: list[Entry[T]] = []
        self.running: Entry[T] | None = None
        self.stands = False
        """Whether its first event is stuck: it failed and is to be delivered again, or it takes long."""


class Lanes(Generic[T]):
    """The events of all keys."""

    def __init__(self) -> None:
        self._lanes: dict[bytes, Lane[T]] = {}
        self._ready: deque[Lane[T]] = deque()
        self.known: dict[Place, Entry[T]] = {}
        """Events that have arrived and are not done."""
        self.running = 0
        self.slim = 0
        """How many events wait aside."""

    def add(self, key: bytes, place: Place, item: T) -> Entry[T]:
        """Add an event in its place; one that is delivered again keeps its place."""
        entry = self.known.get(place)
        if entry is not None:
            self.fetch(entry)
            entry.item, entry.empty, entry.chased = item, False, False
            if entry.state is State.AWAY:
                entry.state = State.WAITING
        else:
            lane = self._lanes.get(key)
            if lane is None:
                lane = self._lanes[key] = Lane(key)
            entry = self.known[place] = Entry(lane, place, item)
            if not lane.entries or lane.entries[-1].place < place:
                lane.entries.append(entry)
            else:
                lane.entries.insert(bisect_left(lane.entries, place, key=attrgetter("place")), entry)
        self._look(entry.lane)
        return entry

    def next(self) -> Entry[T] | None:
        """Return an event whose turn it is, and mark it as running; None if there is none."""
        while self._ready:
            lane = self._ready.popleft()
            if _begins(lane):
                first = lane.running = lane.entries[0]
                first.state = State.RUNNING
                self.running += 1
                return first
        return None

    def thin(self, entry: Entry[T]) -> bool:
        """Put a waiting event aside; False if it was there already."""
        if entry.slim or entry.state is not State.WAITING:
            return False
        entry.slim = True
        self.slim += 1
        return True

    def fetch(self, entry: Entry[T]) -> None:
        """Take back an event that waited aside."""
        self.slim -= entry.slim
        entry.slim, entry.size = False, 0

    def again(self, entry: Entry[T]) -> None:
        """Note that an event was given back: it is delivered again, and those of its key wait for it."""
        self._stopped(entry)
        self.fetch(entry)
        entry.state = State.AWAY
        self._look(entry.lane)

    def done(self, entry: Entry[T]) -> Entry[T] | None:
        """Note that an event is over, whatever the outcome; return the event whose turn it is now."""
        self._stopped(entry)
        if self.known.pop(entry.place, None) is None:
            return None
        lane = entry.lane
        self.slim -= entry.slim
        first = lane.entries[0] is entry
        lane.entries.remove(entry)
        if not lane.entries:
            del self._lanes[lane.key]
            return None
        lane.stands = lane.stands and not first
        self._look(lane)
        return lane.entries[0] if first else None

    def _stopped(self, entry: Entry[T]) -> None:
        if entry.lane.running is entry:
            entry.lane.running = None
            self.running -= 1

    def _look(self, lane: Lane[T]) -> None:
        if _begins(lane):
            self._ready.append(lane)


def _begins(lane: Lane[T]) -> bool:
    return lane.running is None and bool(lane.entries) and lane.entries[0].state is State.WAITING
