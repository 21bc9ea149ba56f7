"""The contract of an app with others: what it takes and returns, subscribes to, calls and emits; with JSON Schemas.

A running replica answers it (``$SRV.CONTRACT``), and it can be read from declarations alone: `cliffracer check` compares the two.
"""

from collections.abc import Iterable, Mapping
from typing import Any, get_args

import msgspec

from cliffracer.declarations import Rpc, Subscription
from cliffracer.events import Event
from cliffracer.exposed import Exposed, exposed
from cliffracer.frozen import Frozen
from cliffracer.messaging.described import described
from cliffracer.security.guards import policy_of
from cliffracer.signature import Signature, bare
from cliffracer.wire.schema import canonical, schema


class Heard(msgspec.Struct):
    """An event that a function takes."""

    subject: str
    function: str
    schema: str


class Contract(msgspec.Struct):
    """The contract of one replica, or of declarations."""

    name: str = ""
    id: str = ""
    version: str = ""
    endpoints: dict[str, dict[str, str]] | None = None
    """``request_schema``, ``response_schema``, ``parameters`` and ``policy`` of each method, as text; None where they are not told."""
    exposed: list[Exposed] | None = None
    """What it serves over HTTP; None where it is not told."""
    hears: list[Heard] = []
    emits: dict[str, str] = {}
    """The schema of what is emitted on each subject, as text; empty where nothing says what that is."""
    calls: list[str] = []
    """``service.method`` of what it called since it started or says that it calls; ``service.*`` where it says no more than that."""
    error: str = ""


def contract(frozen: Frozen, emitted: Mapping[str, Any], called: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Return the contract as JSON; ``emitted`` and ``called`` are what a running app was seen to do."""
    return {
        "endpoints": {
            record.name: {**described(d.signature), "policy": str(policy_of(record.function) or "")}
            for record, d in frozen.of(Rpc)
            if d.signature is not None
        },
        "exposed": exposed(frozen),
        "hears": [Heard(r.subject, r.function.__name__, _text(_payload(d.signature, r))) for r, d in frozen.of(Subscription)],
        "emits": {subject: _text(kind) for subject, kind in emitted.items()},
        "calls": sorted({*(f"{service}.{method}" for service, method in called), *_said(frozen)}),
    }


def _said(frozen: Frozen) -> set[str]:
    return {f"{name}.*" for name in frozen.proxies} if frozen.bounds.calls is None else set(frozen.bounds.calls)


def declared(frozen: Frozen) -> Contract:
    """Return the contract of an app that does not run; the typed events of the program count as emitted."""
    found = contract(frozen, {kind.__subject__: kind for kind in _typed(Event) if kind.__subject__ is not None}, ())
    return Contract(name=frozen.name, version=frozen.version, **found)


def _typed(kind: type[Event]) -> Iterable[type[Event]]:
    for below in kind.__subclasses__():
        yield below
        yield from _typed(below)


def _payload(signature: Signature | None, record: Subscription) -> Any:
    if signature is None or not signature.accepts:
        return Any
    annotation = signature.accepts[0].annotation
    return (get_args(bare(annotation)) or (Any,))[0] if record.batch else annotation


def _text(kind: Any) -> str:
    return "" if kind in {Any, dict} else canonical(schema(kind))
