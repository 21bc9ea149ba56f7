"""The audit of calls: what the ``@app.on_access`` hooks of an app are told."""

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
"""The kinds of handlers that have callers; timers and leaders have none."""


class Access(msgspec.Struct, frozen=True):
    """One call of a handler, as ``@app.on_access`` hooks get it."""

    identity: Identity | None
    """Who calls; None for an anonymous caller, where everybody may call."""
    service: str
    """The service that was called."""
    handler: str
    """Its function."""
    kind: str
    """``rpc``, ``event``, ``http`` or ``websocket``."""
    correlation_id: str
    """The same on every hop, so it finds the call in the logs of all services."""
    refused: str | None
    """``Unauthenticated`` or ``Forbidden``; None for a call that was let in."""
    via: tuple[str, ...] = ()
    """The services that the call came through, the first one first; only claimed unless it is ``proven``."""
    proven: bool = False
    """Whether all of ``via`` is signed for this caller by services that have a key of ours; False if ``via`` is empty.

    An omission cannot be seen: a service may have called as if it were the first.
    """

    @property
    def hops(self) -> int:
        """How many services the call came through before it came here."""
        return len(self.via)


def hooks_of(frozen: Sequence[Frozen]) -> dict[Any, tuple[Any, ...]]:
    """Return the hooks for each function; for one that several apps share, those of all of them."""
    found: dict[Any, tuple[Any, ...]] = {}
    for app in frozen:
        for declared in app.declared:
            function = declared.record.function
            found[function] = tuple(dict.fromkeys((*found.get(function, ()), *app.accesses)))
    return found


async def tell(hooks: Sequence[Any], call: Call, refused: str | None, *, proven: bool) -> None:
    """Call the hooks for a call. A hook that fails ends the call, since nothing may happen that is not audited."""
    context = call.context
    access = Access(context.identity, context.service, context.handler, context.kind, context.correlation_id, refused, context.via, proven)
    for hook in hooks:
        told = hook(access)
        if inspect.isawaitable(told):
            await told


class Witness:
    """Calls the hooks of apps without rules and keys: everybody may call, and callers are anonymous. See `Enforcement`."""

    authority = None

    def __init__(self, frozen: Sequence[Frozen]) -> None:
        self._hooks = hooks_of(frozen)

    def policy(self, _record: Record) -> None:
        """Nothing is asked of anybody."""

    def entry(self, _record: Record, _signature: Signature) -> None:
        """Nobody is kept out."""

    def surrounds(self, record: Record) -> bool:
        """Say whether a handler's calls have hooks."""
        return isinstance(record, CALLED) and bool(self._hooks.get(record.function))

    def step(self, record: Record, _signature: Signature, inner: Step) -> Step:
        """Return the way to the handler past the hooks."""
        hooks = self._hooks[record.function]

        async def step(call: Call) -> Any:
            await tell(hooks, call, None, proven=False)
            return await inner(call)

        return step
