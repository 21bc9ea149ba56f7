"""Ends connections whose client is too slow to send or to read, or idle: one sweep over all of them instead of a timer for each."""

from typing import Any, NamedTuple

from cliffracer.web.guard import GuardedProtocol

MAX_UNREAD = 16 * 2**20
"""Bytes that may wait for the client of a WebSocket: pongs are written whether it reads or not."""


class Sight(NamedTuple):
    """The state of a connection at the last sweep, and since when."""

    phase: str
    scope: object
    since: float
    unread: int
    unread_since: float


class Sweep:
    """Looks at all connections regularly, and ends those whose client is too slow to send or to read, or idle."""

    def __init__(self, connections: set[Any], timeout: float, keep_alive: float) -> None:
        self._connections = connections
        self._timeout = timeout
        self._limits = {"head": timeout, "body": timeout, "request": keep_alive}
        self.interval = min(1.0, timeout / 4)
        self._sights: dict[Any, Sight] = {}
        self._clock = self._last = 0.0

    def look(self, moment: float) -> None:
        """Compare each connection with its last state, and end those without progress within their limit.

        Time in which the loop was blocked counts for at most two looks: what clients sent meanwhile could not be read.
        """
        self._clock += min(moment - self._last, 2 * self.interval)
        self._last = moment
        now = self._clock
        seen = self._sights
        self._sights = {}
        for connection in list(self._connections):
            guarded = isinstance(connection, GuardedProtocol)
            phase, scope = (connection.phase(), connection.scope) if guarded else ("", None)
            unread = connection.transport.get_write_buffer_size()
            before = seen.get(connection) or Sight(phase, scope, now, unread, now)
            since = before.since if phase and phase == before.phase and scope is before.scope else now
            unread_since = before.unread_since if unread and unread == before.unread else now
            self._sights[connection] = Sight(phase, scope, since, unread, unread_since)
            if now - unread_since > self._timeout or (not guarded and unread > MAX_UNREAD):
                connection.transport.abort()
            elif phase and now - since > self._limits[phase]:
                connection.expire(phase)
