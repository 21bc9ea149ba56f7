"""Databases for tests, cloned ahead of time by background threads, so that a test does not wait for the disk."""

import logging
import re
import secrets
import threading
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from cliffracer.database import recycling
from cliffracer.database.templates import DROP, FSYNC, RENAME, copying, statement, template_of, with_database
from cliffracer.database.worker import Job, Worker, trouble
from cliffracer.errors import SetupError

log = logging.getLogger("cliffracer.database")

PLAIN = ""
FRESH = 1.0
"""Seconds after the last job during which the server is assumed not to have been restarted."""
KEPT = "kept"
"""Between prefix and token in the names of those that wait for who comes next."""
CLOSE_WITHIN = 3.0
"""Seconds to drop what is left at the end; the rest is found and dropped by the next run on that server."""


class Clones:
    """Copies of a database: ``with Clones(url, template="app_test") as clones``, and of ones that are prepared for a purpose.

    Copies that are given back are cleaned and given out again; one of which more than rows was changed is dropped, and
    made anew. All are called after ``prefix`` and a token of their own. While it lives it holds an advisory lock on the
    token, so that what a killed process left behind is known, and dropped by the next one. With ``keep`` so many clean
    ones stay at the end under names of their own, for the next run: its first test waits for none.
    """

    def __init__(self, url: str, *, template: str | None = None, prefix: str | None = None, ahead: int = 2, keep: int = 0) -> None:
        self._url = url
        self._ahead = ahead
        self._keep = keep
        self._token = secrets.token_hex(6)
        self._sources = {PLAIN: template_of(url, template)}
        self._prefix = prefix or self._sources[PLAIN]
        self._changed = threading.Condition()
        self._ready: defaultdict[str, deque[str]] = defaultdict(deque)
        self._uses: Counter[str] = Counter()
        self._shapes: dict[str, str] = {}
        """Fingerprints of what was prepared, where rows are all that a test can add to it."""
        self._made: dict[str, str] = {}
        """Every database of ours, and the purpose that it is for."""
        self._count = self._waiting = 0
        self._failure: Exception | None = None
        self._closing = False
        self._copy_by = ""
        self._maker = Worker("cliffracer-databases", self._changed, self._connected, self._failed)
        """Waits for the disk. Dropping is urgent, or it would be filled."""
        self._cleaner = Worker("cliffracer-databases-cleaning", self._changed, lambda: None, self._failed)
        """Connects to what it cleans."""
        self._maker.jobs.append(self._begin)

    def __enter__(self) -> Self:
        self._maker.start()
        self._cleaner.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Drop all databases of these that are not kept, and end its threads."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._cleaner.close(finish=self._keep > 0)
        self._maker.close()
        end = monotonic() + CLOSE_WITHIN
        with suppress(*trouble()):  # the next to use that server finds what is left
            if self._keep:
                self._maker.do(self._keeping)
            for name in list(self._made):
                if monotonic() < end:
                    self._maker.do(self._dropping(name))
        self._maker.leave()
        self._cleaner.leave()

    def take(self, purpose: str = PLAIN, prepare: Callable[[str], None] | None = None, *, within: float = 60.0) -> str:
        """Return the address of a fresh database.

        From the third time that the same purpose is given on, it is a copy of one that ``prepare(url)``, called once and
        in a thread of its own, has prepared for it; before that, and when they run short, it is a plain one.
        """
        with self._changed:
            self._look()
            self._failure = None  # of an earlier time
            self._uses[purpose] += 1
            if prepare is not None and purpose != PLAIN and self._uses[purpose] == 2:
                self._maker.leisure.append(self._preparing(purpose, prepare))
            self._waiting += 1
            missing = not self._ready[purpose] and (purpose in self._sources or not self._ready[PLAIN])
            if missing and self._maker.pending < self._waiting:
                self._maker.jobs.append(self._copying(purpose if purpose in self._sources else PLAIN))
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._ready[purpose] or self._ready[PLAIN] or self._failure or self._closing, within)
            self._waiting -= 1
            kind = purpose if self._ready[purpose] else PLAIN
            if not self._ready[kind]:
                failure, self._failure = self._failure, None
                raise SetupError(f"the database {self._sources[PLAIN]} cannot be copied: {failure or 'it takes too long'}") from failure
            found = self._ready[kind].popleft()
            if not (self._comes_back(kind) or self._maker.pending):
                self._maker.jobs.append(self._copying(kind))
                self._changed.notify_all()
            return with_database(self._url, found)

    def give(self, url: str) -> None:
        """Have a database cleaned or dropped."""
        name = urlsplit(url).path.lstrip("/")
        with self._changed:
            if self._comes_back(self._made.get(name, PLAIN)):
                self._cleaner.urgent.append(self._cleaning(name))
            else:
                self._maker.urgent.append(self._dropping(name))
            self._changed.notify_all()

    def _look(self) -> None:
        """Check for a restart of the server: while nobody held our lock, another process may have dropped our databases as left-overs."""
        asked = monotonic()
        if asked - self._maker.did > FRESH and not self._maker.busy:
            self._maker.urgent.appendleft(lambda link: link.execute("select 1"))
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._maker.did > asked or self._closing, FRESH)

    # -- the threads -----------------------------------------------------------------------------------------------

    def _connected(self) -> Any:
        link = self._connection("postgres")
        link.execute("set synchronous_commit to off")
        link.execute("select pg_advisory_lock(%s)", [int(self._token, 16)])
        self._copy_by = copying(link.execute(FSYNC).fetchone()[0])
        self._find_left(link)
        self._forget_lost(link)
        return link

    def _failed(self, error: Exception) -> None:
        with self._changed:
            self._failure = error
            self._changed.notify_all()

    def _begin(self, link: Any) -> None:
        """Take over what an earlier run has kept, and queue what is missing."""
        kept = [name for name in _names(link) if self._keep and name.startswith(f"{self._prefix}_{KEPT}_")]
        for name in kept[: self._keep]:
            mine = self._name()
            with suppress(*trouble()):  # another process has taken it
                link.execute(statement(RENAME, name, mine))
                recycling.unsynced(link, mine)
                self._made[mine] = PLAIN
                self._offer(mine)
        with self._changed:
            self._maker.jobs.extend(self._copying(PLAIN) for _ in range(self._ahead - len(self._made)))

    def _keeping(self, link: Any) -> None:
        there = sum(name.startswith(f"{self._prefix}_{KEPT}_") for name in _names(link))
        for name in list(self._ready[PLAIN])[: max(0, self._keep - there)] if self._comes_back(PLAIN) else ():
            with suppress(*trouble()):  # somebody is still connected: it is dropped, as those that are too many
                link.execute(statement(RENAME, name, name.replace(self._prefix, f"{self._prefix}_{KEPT}", 1)))
                del self._made[name]

    def _forget_lost(self, link: Any) -> None:
        """Forget databases of ours that are gone; what they were prepared for is prepared again."""
        there = set(_names(link))
        with self._changed:
            for name in self._made.keys() - there:
                purpose = self._made.pop(name)
                if name in self._ready[purpose]:
                    self._ready[purpose].remove(name)
                if self._sources.get(purpose) == name:
                    del self._sources[purpose]
                    self._shapes.pop(purpose, None)
                    self._uses[purpose] = 0

    def _find_left(self, link: Any) -> None:
        """Queue for dropping the databases of processes that have ended."""
        ours = re.compile(rf"{re.escape(self._prefix)}_([0-9a-f]{{12}})_\w+")
        for name in _names(link):
            found = ours.fullmatch(name)
            if found is None or found[1] == self._token:
                continue
            number = [int(found[1], 16)]
            if link.execute("select pg_try_advisory_lock(%s)", number).fetchone()[0]:
                link.execute("select pg_advisory_unlock(%s)", number)
                with self._changed:
                    self._maker.leisure.append(self._dropping(name))

    def _name(self) -> str:
        self._count += 1
        return f"{self._prefix}_{self._token}_{self._count}"

    def _copy(self, link: Any, purpose: str, source: str) -> str:
        name = self._name()
        self._made[name] = purpose
        link.execute(statement(self._copy_by, name, source))
        recycling.unsynced(link, name)
        return name

    def _copying(self, purpose: str) -> Job:
        def work(link: Any) -> None:
            kind = purpose if purpose in self._sources else PLAIN
            self._offer(self._copy(link, kind, self._sources[kind]))

        return work

    def _offer(self, name: str) -> None:
        with self._changed:
            self._failure = None
            self._ready[self._made[name]].append(name)
            self._changed.notify_all()

    def _preparing(self, purpose: str, prepare: Callable[[str], None]) -> Job:
        def work(link: Any) -> None:
            name = self._copy(link, purpose, self._sources[PLAIN])
            try:
                prepare(with_database(self._url, name))
            except Exception as error:  # noqa: BLE001 - the test that prepares its own, plain copy reports it
                log.debug("no database could be prepared for tests: %s", error)
                return
            with self._connection(name) as inside:
                if not recycling.filled(inside):
                    self._shapes[purpose] = recycling.fingerprint(inside)
            with self._changed:
                self._sources[purpose] = name
                self._maker.jobs.extend(self._copying(purpose) for _ in range(self._ahead))

        return work

    def _cleaning(self, name: str) -> Job:
        def work(_: Any) -> None:
            try:
                with self._connection(name) as inside:
                    recycling.alone(inside)
                    clean = self._clean(inside, self._made.get(name, PLAIN))
            except trouble() as error:
                log.debug("a database for tests is not cleaned but dropped: %s", error)
                clean = False
            if clean:
                self._offer(name)
                return
            with self._changed:
                self._maker.urgent.append(self._dropping(name))
                self._changed.notify_all()

        return work

    def _comes_back(self, purpose: str) -> bool:
        """Say whether databases for a purpose can be cleaned and given out again."""
        return purpose in self._shapes or (purpose == PLAIN and self._sources[PLAIN] == "template1")

    def _clean(self, inside: Any, purpose: str) -> bool:
        shape = self._shapes.get(purpose)
        return recycling.stripped(inside) if shape is None else recycling.emptied(inside, shape)

    def _connection(self, name: str) -> Any:
        import psycopg  # noqa: PLC0415 - for tests only

        return psycopg.connect(with_database(self._url, name), autocommit=True)

    def _dropping(self, name: str) -> Job:
        def work(link: Any) -> None:
            with suppress(*trouble()):  # one that cannot be dropped now is dropped at the end
                link.execute(statement(DROP, name))
                self._made.pop(name, None)

        return work


def _names(link: Any) -> list[str]:
    return [name for (name,) in link.execute("select datname from pg_database order by datname").fetchall()]
