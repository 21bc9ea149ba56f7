"""A worker: the thread that makes or cleans databases for `Clones`, on a connection of its own."""

import logging
import threading
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any

log = logging.getLogger("cliffracer.database")

Job = Callable[[Any], None]
"""Takes a connection to the server and works with it."""


def trouble() -> tuple[type[Exception], ...]:
    """Return the exceptions of a server in trouble."""
    import psycopg  # noqa: PLC0415 - for tests only

    return (psycopg.Error, OSError)


class Worker:
    """Does the jobs of its queues, those of the first queue first, until it is closed.

    All queues are guarded by ``changed``, which is notified when there is something new in them, and of each job done.
    """

    def __init__(self, name: str, changed: threading.Condition, connect: Callable[[], Any], failed: Callable[[Exception], None]) -> None:
        self.urgent: deque[Job] = deque()
        self.jobs: deque[Job] = deque()
        self.leisure: deque[Job] = deque()
        self.did = 0.0
        """When it has last done something."""
        self._changed = changed
        self._connect = connect
        self._failed = failed
        self._link: Any = None
        self._closing = False
        self._making = 0
        self.busy = False
        """Whether it is at a job."""
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def pending(self) -> int:
        """How many of its jobs, neither urgent nor at leisure, are not done."""
        return len(self.jobs) + self._making

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self, *, finish: bool = False) -> None:
        """End after the job that it is at, or after all urgent ones."""
        with self._changed:
            if not finish:
                self.urgent.clear()
            self._closing = True
            self._changed.notify_all()
        self._thread.join()

    def do(self, job: Job) -> None:
        """Do one job in the thread that calls, and again on a new connection if this one is lost: the server may have been restarted."""
        import psycopg  # noqa: PLC0415 - for tests only

        try:
            job(self._connected())
        except psycopg.OperationalError:
            job(self._connected())
        with self._changed:
            self.did = monotonic()
            self._changed.notify_all()

    def leave(self) -> None:
        """Close the connection."""
        if self._link is not None:
            self._link.close()

    def _run(self) -> None:
        while (job := self._next()) is not None:
            try:
                self.do(job)
            except trouble() as error:
                log.debug("a database for tests could not be made: %s", error)
                self._failed(error)
            self._making, self.busy = 0, False

    def _next(self) -> Job | None:
        with self._changed:
            self._changed.wait_for(lambda: self._closing or self.urgent or self.jobs or self.leisure)
            if self._closing:
                return self.urgent.popleft() if self.urgent else None
            self._making, self.busy = int(not self.urgent and bool(self.jobs)), True
            return (self.urgent or self.jobs or self.leisure).popleft()

    def _connected(self) -> Any:
        if self._link is None or self._link.closed:
            self._link = self._connect()
        return self._link
