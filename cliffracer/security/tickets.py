"""Tickets for WebSockets, opt-in: ``app.use(Tickets())``; a page asks for one and opens ``wss://…/feed?ticket=…`` with it.

A ticket is part of a URL, and so of logs: it works once, within half a minute, with the rights of the credential it was asked for with.
"""

from typing import Any

import msgspec
from starlette.requests import Request

from cliffracer.context import Context
from cliffracer.errors import Unauthenticated
from cliffracer.markers import provided
from cliffracer.scope import Group
from cliffracer.security.authentication import presented
from cliffracer.security.authority import TICKET_LIFE, Authority
from cliffracer.security.guards import requires
from cliffracer.settings import Discreet


class Ticket(Discreet, msgspec.Struct, frozen=True):
    """Opens one socket: ``?ticket=`` in its URL."""

    ticket: str
    expires_in: float = TICKET_LIFE

    def __repr__(self) -> str:
        return f"<Ticket for {self.expires_in:g} s>"


class Tickets:
    """A route ``POST {prefix}/ticket`` for authenticated callers who can use neither a header, a subprotocol nor a cookie."""

    def __init__(self, *, prefix: str = "/auth") -> None:
        self._prefix = prefix

    def group(self, _app: Any) -> Group:
        """Return the handler, for `App.use`."""
        group = Group("tickets", prefix=self._prefix)

        @group.post("/ticket", tags=("accounts",))
        @requires
        async def ticket(*, request: Request = provided, context: Context = provided, authority: Authority = provided) -> Ticket:
            """Return a ticket that opens one socket within half a minute, in your name."""
            shown = presented(authority, context, request)
            if shown is None:  # authenticated by something that a ticket cannot stand for
                raise Unauthenticated("a token is needed")
            return Ticket(await authority.ticket(shown))

        return group
