"""Databases for tests, made ahead by a thread of its own: however slow the disk is, a test that takes longer than a copy waits for none."""

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
from cliffracer.database.templates import COPY, COPY_LOGGED, DROP, statement, template_of, with_database
from cliffracer.errors import SetupError

log = logging.getLogger("cliffracer.database")

Job = Callable[[Any], None]
PLAIN = ""
FRESH = 1.0
"""Seconds after something was done on the server, for which it is believed to be as it was."""
CLOSE_WITHIN = 3.0
"""Seconds for dropping what is left at the end; the rest is found and dropped by the next stock on that server."""


class Stock:
    """Copies of a database: ``with Stock(url, template="app_test") as stock``, and of ones that are prepared for a purpose.

    Copies that are given back are cleaned and given out again; one of which more than rows was changed is dropped, and
    made anew. All are called after ``prefix`` and a token of the stock. While it lives it holds an advisory lock on the
    token, so that what a killed process left behind is known, and dropped by the next one.
    """

    def __init__(self, url: str, *, template: str | None = None, prefix: str | None = None, ahead: int = 2) -> None:
        self._url = url
        self._ahead = ahead
        self._token = secrets.token_hex(6)
        self._sources = {PLAIN: template_of(url, template)}
        self._prefix = prefix or self._sources[PLAIN]
        self._changed = threading.Condition()
        self._ready: defaultdict[str, deque[str]] = defaultdict(deque)
        self._uses: Counter[str] = Counter()
        self._shapes: dict[str, str] = {}
        """Fingerprints of what was prepared, where rows are all that a test can add to it."""
        self._makes: deque[Job] = deque(self._copying(PLAIN) for _ in range(ahead))
        self._returned: deque[Job] = deque()
        """Goes before making: cleaning is quicker, and dropping late would fill the disk."""
        self._left: deque[Job] = deque()
        self._made: dict[str, str] = {}
        """Every database of ours, and the purpose that it is for."""
        self._count = 0
        self._failure: Exception | None = None
        self._closing = False
        self._link: Any = None
        self._looked = 0.0
        self._copy_by = COPY
        self._thread = threading.Thread(target=self._run, name="cliffracer-databases", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Drop all databases of this stock and end its thread."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()

    def take(self, purpose: str = PLAIN, prepare: Callable[[str], None] | None = None, *, within: float = 60.0) -> str:
        """Return the address of a fresh database.

        From the third time that the same purpose is given on, it is a copy of one that ``prepare(url)``, called once and
        in the stock's thread, has prepared for it; before that, and when they run short, it is a plain one.
        """
        with self._changed:
            self._look()
            self._failure = None  # of an earlier time
            self._uses[purpose] += 1
            if prepare is not None and self._uses[purpose] == 2:
                self._returned.append(self._preparing(purpose, prepare))
            if not self._ready[purpose] and (purpose in self._sources or not self._ready[PLAIN]):
                self._makes.append(self._copying(purpose if purpose in self._sources else PLAIN))
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._ready[purpose] or self._ready[PLAIN] or self._failure or self._closing, within)
            kind = purpose if self._ready[purpose] else PLAIN
            if not self._ready[kind]:
                failure, self._failure = self._failure, None
                raise SetupError(f"the database {self._sources[PLAIN]} cannot be copied: {failure or 'it takes too long'}") from failure
            found = self._ready[kind].popleft()
            if not (self._comes_back(kind) or self._makes):
                self._makes.append(self._copying(kind))
                self._changed.notify_all()
            return with_database(self._url, found)

    def give(self, url: str) -> None:
        """Have a database cleaned or dropped."""
        with self._changed:
            self._returned.append(self._cleaning(urlsplit(url).path.lstrip("/")))
            self._changed.notify_all()

    def _look(self) -> None:
        """Have it noticed that the server was restarted and, while nobody held our lock, our databases were dropped as a dead stock's."""
        asked = monotonic()
        if asked - self._looked > FRESH:
            self._returned.appendleft(lambda link: link.execute("select 1"))
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._looked > asked or self._closing, FRESH)

    # -- the thread ------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while (job := self._next()) is not None:
            try:
                self._do(job)
            except self._trouble as error:
                log.debug("a database for tests could not be made: %s", error)
                with self._changed:
                    self._failure = error
                    self._changed.notify_all()
        end = monotonic() + CLOSE_WITHIN
        with suppress(*self._trouble):  # the next stock on that server finds what is left
            for name in list(self._made):
                if monotonic() < end:
                    self._do(self._dropping(name))
        if self._link is not None:
            self._link.close()

    def _next(self) -> Job | None:
        with self._changed:
            self._changed.wait_for(lambda: self._closing or self._returned or self._makes or self._left)
            return None if self._closing else (self._returned or self._makes or self._left).popleft()

    def _do(self, job: Job) -> None:
        import psycopg  # noqa: PLC0415 - for tests only

        try:
            job(self._connected())
        except psycopg.OperationalError:  # the server may have been restarted since the last test
            job(self._connected())
        with self._changed:
            self._looked = monotonic()
            self._changed.notify_all()

    def _connected(self) -> Any:
        if self._link is None or self._link.closed:
            self._link = self._connection("postgres")
            self._link.execute("set synchronous_commit to off")
            self._link.execute("select pg_advisory_lock(%s)", [int(self._token, 16)])
            # Copying files waits for the disk hundreds of times if the server syncs them, and is quicker otherwise.
            self._copy_by = COPY_LOGGED if self._link.execute("show fsync").fetchone()[0] == "on" else COPY
            self._find_left()
            self._forget_lost()
        return self._link

    def _forget_lost(self) -> None:
        """Forget those of our databases that are not there any more; what they were prepared for is prepared anew."""
        there = {name for (name,) in self._link.execute("select datname from pg_database").fetchall()}
        with self._changed:
            for name in self._made.keys() - there:
                purpose = self._made.pop(name)
                if name in self._ready[purpose]:
                    self._ready[purpose].remove(name)
                if self._sources.get(purpose) == name:
                    del self._sources[purpose]
                    self._shapes.pop(purpose, None)
                    self._uses[purpose] = 0

    def _find_left(self) -> None:
        """Have the databases dropped whose stock is no more."""
        ours = re.compile(rf"{re.escape(self._prefix)}_([0-9a-f]{{12}})_\w+")
        for (name,) in self._link.execute("select datname from pg_database").fetchall():
            found = ours.fullmatch(name)
            if found is None or found[1] == self._token:
                continue
            number = [int(found[1], 16)]
            if self._link.execute("select pg_try_advisory_lock(%s)", number).fetchone()[0]:
                self._link.execute("select pg_advisory_unlock(%s)", number)
                with self._changed:
                    self._left.append(self._dropping(name))

    def _copy(self, link: Any, purpose: str, source: str) -> str:
        self._count += 1
        name = f"{self._prefix}_{self._token}_{self._count}"
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
                self._makes.extend(self._copying(purpose) for _ in range(self._ahead))

        return work

    def _cleaning(self, name: str) -> Job:
        if not self._comes_back(self._made.get(name, PLAIN)):
            return self._dropping(name)

        def work(link: Any) -> None:
            try:
                with self._connection(name) as inside:
                    recycling.alone(inside)
                    clean = self._clean(inside, self._made.get(name, PLAIN))
            except self._trouble as error:
                log.debug("a database for tests is not cleaned but dropped: %s", error)
                clean = False
            if clean:
                self._offer(name)
            else:
                self._dropping(name)(link)

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
            with suppress(*self._trouble):  # one that cannot be dropped now is dropped at the end
                link.execute(statement(DROP, name))
                self._made.pop(name, None)

        return work

    @property
    def _trouble(self) -> tuple[type[Exception], ...]:
        import psycopg  # noqa: PLC0415 - for tests only

        return (psycopg.Error, OSError)
