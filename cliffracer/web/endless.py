"""Streams and sockets, which last as long as their client likes, and which a stop has to end."""

from cliffracer.context import Context
from cliffracer.errors import Unavailable
from cliffracer.resilience.deadlines import Watch

TURN = 64
"""Items after which a handler that only yields gives up its turn: sending does not wait as long as the client keeps up."""


class Endless:
    """Open streams and sockets of one server."""

    def __init__(self) -> None:
        self._open: dict[Context, Watch] = {}
        self.closing = False
        """Whether new ones are refused, since the service is stopping."""

    def add(self, context: Context, watch: Watch) -> None:
        """Add one that begins; `Unavailable` once the service is stopping."""
        if self.closing:
            raise Unavailable("the service is stopping; try again")
        self._open[context] = watch

    def remove(self, context: Context) -> None:
        """Remove one that has ended."""
        self._open.pop(context, None)

    def end(self) -> None:
        """End all of them, and accept no new ones."""
        self.closing = True
        for context, watch in list(self._open.items()):
            watch.end(context, "stopping")
