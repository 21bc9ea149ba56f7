"""The acceptor: lets in all who wait at once, since uvloop accepts one connection in each turn of its loop.

Where a turn takes 10 ms, because a backlog of events is worked off, the last of 2,000 clients that come back after a restart would
wait for 20 s. asyncio's own loop accepts all that are there.
"""

import asyncio
import socket
from collections.abc import Callable, Sequence

MOST = 32
"""Connections that are accepted in one turn beside the loop's own; the other workers on the port are to have some, too."""


class Acceptor:
    """Where connections come in; whoever does has it look for others behind."""

    def __init__(self) -> None:
        self._listeners: Sequence[socket.socket] = ()
        self._made: Callable[[], asyncio.BaseProtocol] | None = None
        self._due = False
        self._entering: set[asyncio.Task[object]] = set()

    def open(self, listeners: Sequence[socket.socket], made: Callable[[], asyncio.BaseProtocol]) -> None:
        """Let in from now on; ``made`` makes what serves a connection."""
        self._listeners, self._made = listeners, made
        for listener in listeners:
            listener.setblocking(False)

    def close(self) -> None:
        """Let nobody in any more."""
        self._listeners = ()

    def accepted(self) -> None:
        """Note that somebody came in: others may wait, and are looked for when this turn is over."""
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
                except OSError:  # nobody waits; what else may be wrong, such as too many open files, the loop finds, too, and tells
                    break
                task = loop.create_task(loop.connect_accepted_socket(self._made, connection), name="http connection")
                self._entering.add(task)
                task.add_done_callback(self._entered)

    def _entered(self, task: "asyncio.Task[object]") -> None:
        self._entering.discard(task)
        if not task.cancelled():
            task.exception()  # it was gone already
