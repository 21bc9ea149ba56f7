"""Answers kept in this process: the least used go first when they take too much room."""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from threading import Lock

from cliffracer.caching.entries import Entry, Marks

BYTES = 64 * 2**20
"""That all answers of an app take in one process, at most."""
_EACH = 450  # bytes that an answer takes beside its payload
_MARK = 80  # bytes that a tag of it takes beside its text
_MOST_FORGOTTEN = 100_000
_ALL = ""


class Memory:
    """A store that several threads may use, and that is never away."""

    def __init__(self, most: int = BYTES) -> None:
        self._most = most
        self._lock = Lock()
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self._forgotten: dict[str, int] = {}
        self._count = 0
        self.size = 0
        """Bytes that the answers take."""

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, name: str, tags: Sequence[str]) -> tuple[Entry | None, Marks]:
        """Return what is kept under a name, and how the tags stand now."""
        with self._lock:
            marks = {tag: self._forgotten.get(tag, 0) for tag in (*tags, _ALL)}
            entry = self._entries.get(name)
            if entry is not None:
                self._entries.move_to_end(name)
            return entry, marks

    def put(self, name: str, entry: Entry) -> None:
        """Keep an answer, and let the least used go if there is no room."""
        size = _size(entry)
        if size > self._most // 8:
            return  # one that drives out all others is not worth it
        with self._lock:
            if entry.marks.get(_ALL, 0) != self._forgotten.get(_ALL, 0):
                return
            self._drop(name)
            self._entries[name] = entry
            self.size += size
            while self.size > self._most:
                self._drop(next(iter(self._entries)))

    def drop(self, tags: Iterable[str]) -> None:
        """Make everything with one of these tags good no more."""
        with self._lock:
            self._count += 1
            if len(self._forgotten) >= _MOST_FORGOTTEN:  # then all of it is forgotten: what tags stood for needs no memory
                self._clear()
            for tag in tags:
                self._forgotten[tag] = self._count

    def clear(self) -> None:
        """Make everything good no more, what is being made now included."""
        with self._lock:
            self._count += 1
            self._clear()

    async def look(self, name: str, tags: Sequence[str]) -> tuple[Entry | None, Marks]:
        """Return what is kept under a name, and how the tags stand now."""
        return self.find(name, tags)

    async def keep(self, name: str, entry: Entry, life: float) -> None:  # noqa: ARG002 - what is over is driven out
        """Keep an answer."""
        self.put(name, entry)

    async def forget(self, tags: Iterable[str]) -> None:
        """Make everything with one of these tags good no more."""
        self.drop(tags)

    async def claim(self, name: str, seconds: float) -> bool:  # noqa: ARG002 - nobody else keeps here
        """Say that it is us."""
        return True

    async def release(self, name: str) -> None:
        """Do nothing: nothing was claimed."""

    def _clear(self) -> None:
        self._entries.clear()
        self.size = 0
        self._forgotten = {_ALL: self._count}

    def _drop(self, name: str) -> None:
        entry = self._entries.pop(name, None)
        if entry is not None:
            self.size -= _size(entry)


def _size(entry: Entry) -> int:
    return len(entry.payload) + _EACH + sum(len(mark) + _MARK for mark in entry.marks)
