"""What waits to be handled in order: events of one key one after another, those of different keys side by side.

Nothing here knows the broker, or time. An event is known from when it came until it is done; while it was given back for another
attempt it keeps its place, so that none of its key overtakes it.
"""

from bisect import bisect_left
from collections import deque
from enum import Enum, auto
from operator import attrgetter
from typing import Generic, TypeVar

T = TypeVar("T")

Place = tuple[int, int]
"""Which stream, should it have been made anew, and the number in it."""


class State(Enum):
    """What is going on with an event."""

    WAITING = auto()
    RUNNING = auto()
    AWAY = auto()
    """Given back, to come again."""


class Entry(Generic[T]):
    """One event that is not done."""

    __slots__ = ("before", "begun", "chased", "empty", "item", "lane", "place", "size", "slim", "state")

    def __init__(self, lane: "Lane[T]", place: Place, item: T) -> None:
        self.lane = lane
        self.place = place
        self.item = item
        self.state = State.WAITING
        self.slim = False
        """Whether it waits aside, where it takes none of the room that those of other keys need."""
        self.size = 0
        """Bytes that are kept of it while it waits aside."""
        self.empty = False
        """Whether none are: it is to come again when it is its turn."""
        self.begun = False
        self.chased = False
        """Whether it was asked for once more, because it did not come again."""
        self.before = 0
        """Deliveries that were no attempts: another of its key was in front, so nobody can have begun it."""


class Lane(Generic[T]):
    """The events of one key that are not done, in order."""

    __slots__ = ("entries", "key", "running", "stands")

    def __init__(self, key: bytes) -> None:
        self.key = key
        self.entries: list[Entry[T]] = []
        self.running: Entry[T] | None = None
        self.stands = False
        """Whether its first does not get on: it failed and is to come again, or takes long."""


class Lanes(Generic[T]):
    """The events of all keys."""

    def __init__(self) -> None:
        self._lanes: dict[bytes, Lane[T]] = {}
        self._ready: deque[Lane[T]] = deque()
        self.known: dict[Place, Entry[T]] = {}
        """What came and is not done."""
        self.running = 0
        self.slim = 0
        """How many wait aside."""

    def add(self, key: bytes, place: Place, item: T) -> Entry[T]:
        """Put an event into its place; one that comes again keeps the one that it had."""
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
        """Return an event whose turn it is, which is running from now on; None if there is none."""
        while self._ready:
            lane = self._ready.popleft()
            if _begins(lane):
                first = lane.running = lane.entries[0]
                first.state = State.RUNNING
                self.running += 1
                return first
        return None

    def thin(self, entry: Entry[T]) -> bool:
        """Put one that waits aside; say whether that is new."""
        if entry.slim or entry.state is not State.WAITING:
            return False
        entry.slim = True
        self.slim += 1
        return True

    def fetch(self, entry: Entry[T]) -> None:
        """Take an event back from where it waited aside."""
        self.slim -= entry.slim
        entry.slim, entry.size = False, 0

    def again(self, entry: Entry[T]) -> None:
        """Note that an event was given back: it comes again, and those of its key wait for it."""
        self._stopped(entry)
        self.fetch(entry)
        entry.state = State.AWAY
        self._look(entry.lane)

    def done(self, entry: Entry[T]) -> Entry[T] | None:
        """Note that an event is over, whatever became of it; return the one whose turn comes by that."""
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
