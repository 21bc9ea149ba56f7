"""Accepts all waiting connections at once, since uvloop accepts only one in each turn of its loop.

If a turn takes 10 ms, as while a backlog of events is handled, the last of 2,000 clients that come back after a restart would
wait for 20 s. asyncio's own loop accepts all that are waiting.
"""

import asyncio
import errno
import socket
from collections.abc import Callable, Sequence
from time import monotonic

from loguru import logger

MOST = 32
"""Connections that are accepted in one turn beside the loop's own; other workers on the port should get some, too."""
_PAUSE = 30.0  # seconds between two lines about the same


class Acceptor:
    """Looks for further connections whenever one has come in."""

    def __init__(self) -> None:
        self._listeners: Sequence[socket.socket] = ()
        self._made: Callable[[], asyncio.BaseProtocol] | None = None
        self._due = False
        self._told = float("-inf")
        self._entering: set[asyncio.Task[object]] = set()

    def open(self, listeners: Sequence[socket.socket], made: Callable[[], asyncio.BaseProtocol]) -> None:
        """Accept from now on; ``made`` returns the protocol for a connection."""
        self._listeners, self._made = listeners, made
        for listener in listeners:
            listener.setblocking(False)

    def close(self) -> None:
        """Accept no more."""
        self._listeners = ()

    def accepted(self) -> None:
        """Note that a connection came in: others may be waiting, and are looked for after this turn."""
        if not self._due and self._listeners:
            self._due = True
            asyncio.get_running_loop().call_soon(self._let_in)

    def _let_in(self) -> None:
        self._due = False
        loop = asyncio.get_running_loop()
        assert self._made is not None  # it is open
        for listener in self._listeners:
            for _ in range(MOST):
                try:
                    connection, _ = listener.accept()
                except BlockingIOError:  # none is waiting
                    break
                except OSError as error:
                    self._tell(error)
                    break
                task = loop.create_task(loop.connect_accepted_socket(self._made, connection), name="http connection")
                self._entering.add(task)
                task.add_done_callback(self._entered)

    def _tell(self, error: OSError) -> None:
        """Log now and then that there are too many open files to accept anybody: uvloop turns clients away without a word."""
        if error.errno in {errno.EMFILE, errno.ENFILE} and monotonic() - self._told > _PAUSE:
            self._told = monotonic()
            what = "no connection can be accepted ({error}); raise the limit (ulimit -n, LimitNOFILE of systemd), or have more replicas"
            logger.warning(what, error=error.strerror)

    def _entered(self, task: "asyncio.Task[object]") -> None:
        self._entering.discard(task)
        if not task.cancelled():
            task.exception()  # the client was gone already
