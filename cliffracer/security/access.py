"""Who did what, as the hooks of an app are told."""

import msgspec

from cliffracer.security.identity import Identity


class Access(msgspec.Struct, frozen=True):
    """One call of a handler with a rule, as ``@app.on_access`` is told of it."""

    identity: Identity | None
    service: str
    handler: str
    kind: str
    correlation_id: str
    """The same on every hop, so that the log of all services tells the whole way."""
    refused: str | None
    """``Unauthenticated`` or ``Forbidden``; None for a call that was let in."""
    via: tuple[str, ...] = ()
    """The services that the call came through, the first first. They say so themselves: only the identity is verified."""

    @property
    def hops(self) -> int:
        """How many services the call came through before it came here."""
        return len(self.via)
