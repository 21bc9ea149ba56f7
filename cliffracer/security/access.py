"""Who did what, as the hooks of an app are told."""

import inspect
from collections.abc import Sequence
from typing import Any

import msgspec

from cliffracer.declarations import Record, Route, Rpc, Socket, Subscription
from cliffracer.frozen import Frozen
from cliffracer.handler import Call, Step
from cliffracer.security.identity import Identity
from cliffracer.signature import Signature

CALLED = (Rpc, Subscription, Route, Socket)
"""What somebody calls, from outside of the app."""


class Access(msgspec.Struct, frozen=True):
    """One call of a handler, as ``@app.on_access`` is told of it."""

    identity: Identity | None
    """Who calls; None if nobody is known, as it may be where everybody may."""
    service: str
    """The service that was called."""
    handler: str
    """Its function."""
    kind: str
    """``rpc``, ``event``, ``http`` or ``websocket``."""
    correlation_id: str
    """The same on every hop, so that the log of all services tells the whole way."""
    refused: str | None
    """``Unauthenticated`` or ``Forbidden``; None for a call that was let in."""
    via: tuple[str, ...] = ()
    """The services that the call came through, the first first: as they say, unless it is ``proven``."""
    proven: bool = False
    """Whether all of ``via`` is signed, by services with a key of ours, for this caller; of a call that names none, nothing is.

    What a service keeps to itself is not to be seen: it may have called as if it were the first.
    """

    @property
    def hops(self) -> int:
        """How many services the call came through before it came here."""
        return len(self.via)


def hooks_of(frozen: Sequence[Frozen]) -> dict[Any, tuple[Any, ...]]:
    """Return who is told of the calls of each function: of one that several apps share, the hooks of all of them."""
    found: dict[Any, tuple[Any, ...]] = {}
    for app in frozen:
        for declared in app.declared:
            function = declared.record.function
            found[function] = tuple(dict.fromkeys((*found.get(function, ()), *app.accesses)))
    return found


async def tell(hooks: Sequence[Any], call: Call, refused: str | None, *, proven: bool) -> None:
    """Tell hooks of a call; one that fails ends it, since nothing may be done that is not written down."""
    context = call.context
    access = Access(context.identity, context.service, context.handler, context.kind, context.correlation_id, refused, context.via, proven)
    for hook in hooks:
        told = hook(access)
        if inspect.isawaitable(told):
            await told


class Witness:
    """Tells the hooks of apps that have no rules and no keys: everybody may call, and nobody is known. See `Enforcement`."""

    authority = None

    def __init__(self, frozen: Sequence[Frozen]) -> None:
        self._hooks = hooks_of(frozen)

    def policy(self, _record: Record) -> None:
        """Nothing is asked of anybody."""

    def entry(self, _record: Record, _signature: Signature) -> None:
        """Nobody is kept out."""

    def surrounds(self, record: Record) -> bool:
        """Say whether a handler's calls are told of."""
        return isinstance(record, CALLED) and bool(self._hooks.get(record.function))

    def step(self, record: Record, _signature: Signature, inner: Step) -> Step:
        """Return the way to the handler past the hooks."""
        hooks = self._hooks[record.function]

        async def step(call: Call) -> Any:
            await tell(hooks, call, None, proven=False)
            return await inner(call)

        return step
