"""Checks of declarations: each against its own signature when it is made, all against each other before they are served."""

import sys
from collections.abc import Iterable, Mapping
from types import FrameType
from typing import Any, TypeVar, get_origin

import msgspec
from msgspec.structs import replace

from cliffracer import declarations
from cliffracer.declarations import (
    Function,
    HealthCheck,
    Leader,
    Provider,
    Record,
    Route,
    Rpc,
    Socket,
    Subscription,
    Timer,
    Value,
    refuse,
    where,
)
from cliffracer.payloads import check_carried, check_texts, check_types
from cliffracer.providers import check_given, event_of
from cliffracer.shapes import Shape, claim, shape_of, socket_shape
from cliffracer.signature import Signature, bare, check_event, check_none, check_returning, read
from cliffracer.wire.subjects import TAKEN

D = TypeVar("D", HealthCheck, Provider)

Claim = tuple[Any, ...]
"""What no two records may both have: a name, a route, a subscription."""


class Declared(msgspec.Struct, frozen=True):
    """A record with what its function's signature promises; ``signature`` is None while an annotation is not defined yet."""

    record: Record
    signature: Signature | None
    shape: Shape | None = None
    middlewares: tuple[Function, ...] = ()
    mappings: tuple[declarations.Mapping, ...] = ()
    """Those of its groups, the outermost first; those of the app apply to all handlers."""


def complete(record: Record, signature: Signature) -> Declared:
    """Return a record with its signature and shape, checked for its kind."""
    check_given(signature)
    check_types(signature)
    check_carried(signature, socket=isinstance(record, Socket), form=isinstance(record, Route))
    if isinstance(record, Route):
        return Declared(record, signature, _readable(signature, shape_of(signature, record.path, record.methods)))
    if isinstance(record, Socket):
        return Declared(record, signature, _readable(signature, socket_shape(signature, record.path)))
    if isinstance(record, Subscription):
        check_event(signature)
        check_returning(signature, "an event handler")
        if record.batch is not None:
            _check_batch(signature)
    if isinstance(record, Timer | Leader):
        what = "a timer" if isinstance(record, Timer) else "a leader"
        check_none(signature, what)
        check_returning(signature, what)
    return Declared(record, signature)


def _check_batch(signature: Signature) -> None:
    """Raise `SetupError` unless the function takes a list of events."""
    annotation = bare(signature.accepts[0].annotation) if signature.accepts else None
    if get_origin(annotation) is not list and annotation is not list:
        raise refuse(signature.function, "a batch handler takes one list of events", "Annotate its first parameter list[UserCreated].")
    if any(event_of(parameter.annotation) is not None and parameter.required for parameter in signature.needs):
        raise refuse(signature.function, "a batch is of several events, so there is no one Event", "Leave it out, or batch=.")


def _readable(signature: Signature, shape: Shape) -> Shape:
    check_texts(signature, shape)
    return shape


def check_reached(name: str, records: list[Record]) -> None:
    """Raise `SetupError` if the subjects of a service of this name are taken by something else."""
    if name in TAKEN and (methods := [record for record in records if isinstance(record, Rpc)]):
        problem = f"nobody would reach a method of an app called {name!r}: subjects that begin so are our own"
        raise refuse(methods[0].function, problem, "Give the app another name.")


def check_duplicates(records: Iterable[Record]) -> None:
    """Raise `SetupError` naming both places if two records claim one name, route or subscription, or one consumer of events."""
    taken: dict[Claim, Record] = {}
    consumers: dict[str, Subscription] = {}
    for record in records:
        taken |= check_free(record, taken)
        if isinstance(record, Subscription) and record.durable:
            _check_shared(record, consumers.setdefault(record.group or record.function.__name__, record))


def once_each(declared: Iterable[D]) -> tuple[D, ...]:
    """Return each provider or health check once: groups may share one, as those do that one function makes, and none hides another then."""
    found: dict[Any, D] = {}
    for one in declared:
        function, *terms = msgspec.structs.astuple(one)
        found.setdefault((id(function.value if isinstance(function, Value) else function), *terms), one)
    return tuple(found.values())


def check_probes(checks: Iterable[HealthCheck]) -> None:
    """Raise `SetupError` for a health check without a name, or with one that another has, which it would hide."""
    known: dict[str, HealthCheck] = {}
    for check in checks:
        first = known.setdefault(check.name, check)
        if not check.name:
            raise refuse(check.function, "its health check has an empty name", "Say what it looks at: @app.health_check('disk').")
        if first is not check:
            problem = f"there is a health check {check.name!r} already, by {where(first.function)}"
            raise refuse(check.function, problem, "Give it another name.")


def _check_shared(record: Subscription, first: Subscription) -> None:
    """Refuse a subscription that would take its events by the consumer of another function, or of the same one otherwise declared."""
    if replace(record, subject=first.subject) == first:
        return
    problem = f"{first.subject} and {record.subject} share the consumer {record.group or record.function.__name__}"
    if record.function is first.function:
        raise refuse(record.function, f"{problem} and differ in more than the subject", "Give both the same options.")
    raise refuse(record.function, f"{problem}: that of {where(first.function)}", "Rename one of them, or give one another group.")


def check_free(record: Record, taken: Mapping[Claim, Record]) -> dict[Claim, Record]:
    """Return what a record claims for itself; `SetupError` naming both places if another record has claimed it."""
    claims = _claims(record)
    for key, shown in claims:
        other = taken.get(key, record)
        if other is not record:
            raise refuse(record.function, f"{shown} is declared already, by {where(other.function)}", "Rename or remove one of them.")
    return {key: record for key, _ in claims}


def _claims(record: Record) -> list[tuple[Claim, str]]:
    match record:
        case Rpc(name=name):
            return [(("rpc", name), f"RPC {name}")]
        case Route(path=path, methods=methods):
            return [(("http", method, claim(path)), f"route {method} {path}") for method in methods]
        case Socket(path=path):
            return [(("socket", claim(path)), f"WebSocket {path}")]
        case Subscription(function=function, subject=subject, group=group):
            name = group or function.__name__
            return [(("event", name, subject), f"event {subject} for {name}")]
        case Timer(function=function):
            return [(("timer", function.__name__), f"timer {function.__name__}")]
        case Leader(function=function):
            return [(("leader", function.__name__), f"leader {function.__name__}")]


def readable(function: Function) -> Signature:
    """Return the signature of a function, its annotations read where it stands; `NameError` for a name not defined yet."""
    try:
        return read(function)
    except NameError:
        return read(function, _callers_names())


def _callers_names() -> dict[str, Any]:
    """Return the local names where a decorator stands: annotations written as text may mean them."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - the documented way to a caller's names
    while frame is not None and frame.f_globals.get("__name__", "").startswith("cliffracer."):
        frame = frame.f_back
    return dict(frame.f_locals) if frame is not None else {}
