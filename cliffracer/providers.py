"""Which types an app and the runtime provide, and whether those are all that handlers ask for."""

from collections.abc import Callable, Iterable
from types import UnionType
from typing import Any, Union, get_args, get_origin

import msgspec

from cliffracer.declarations import Provider, Value, refuse, where
from cliffracer.errors import SetupError
from cliffracer.nearest import nearest
from cliffracer.signature import Parameter, Signature, bare, dotted, settled, shown

BUILT_IN: dict[str, str] = {
    "cliffracer.context.Context": "",
    "cliffracer.events.Event": "event",
    "cliffracer.events.Received": "event",
    "starlette.requests.Request": "http",
    "starlette.websockets.WebSocket": "websocket",
    "cliffracer.settings.Settings": "",
    "cliffracer.security.identity.Identity": "",
    "cliffracer.security.authority.Authority": "",
    "cliffracer.database.database.Database": "",
    "cliffracer.database.repository.Repository": "",
    "cliffracer.database.transaction.Transaction": "",
    "cliffracer.messaging.keyvalue.KeyValue": "",
    "cliffracer.messaging.objects.ObjectStore": "",
}
"""Types that the runtime itself provides, and the one kind of call that has them ("": every kind).

By dotted name, so that nothing is imported before it is used.
"""
_OF_A_CALL = {
    "cliffracer.context.Context",
    "cliffracer.security.identity.Identity",
    "cliffracer.database.transaction.Transaction",
    *(name for name, kind in BUILT_IN.items() if kind),
}
"""Those that only a call has."""


def key_of(annotation: Any) -> Any:
    """Return what a provider is looked up by: the annotation without `Annotated` extras, T of ``T | None``."""
    kind = bare(annotation)
    if get_origin(kind) in {Union, UnionType}:
        others = [part for part in get_args(kind) if part is not type(None)]
        return others[0] if len(others) == 1 else kind
    return kind


def built_in(annotation: Any) -> str | None:
    """Return the dotted name under which the runtime provides a type, or None."""
    name = dotted(key_of(annotation))
    return name if name in BUILT_IN else None


def event_of(annotation: Any) -> Any:
    """Return T of ``Received[T]``, Any for a bare `Received` or `Event`, and None for everything else."""
    if BUILT_IN.get(built_in(annotation) or "") != "event":
        return None
    return (get_args(key_of(annotation)) or (Any,))[0]


def is_provided(annotation: Any, providers: Iterable[Provider]) -> bool:
    """Say whether a parameter of this type can be provided."""
    return built_in(annotation) is not None or any(p.provides == key_of(annotation) for p in providers)


def check_given(signature: Signature, providers: Iterable[Provider] = ()) -> None:
    """Raise `SetupError` for a parameter before the * of a type that only the app can provide."""
    made = [p.provides for p in providers]
    moved = [p for p in signature.accepts if built_in(p.annotation) or (key_of(p.annotation) in made and _is_no_data(p.annotation))]
    if not moved:
        return
    key = key_of(moved[0].annotation)
    kind = (get_origin(key) or key).__name__
    kept = [p.name for p in signature.accepts if p not in moved]
    order = ", ".join([*kept, "*", *(p.name for p in (*moved, *signature.needs))])
    raise refuse(
        signature.function,
        f"{moved[0].name} is {'an' if kind[0] in 'AEIO' else 'a'} {kind}, which the app gives, not the caller",
        f"Put it after a *: {signature.function.__name__}({order}).",
    )


def check_one_each(providers: Iterable[Provider]) -> None:
    """Raise `SetupError` for a type that two of them provide: which of them counts would be chance."""
    known: dict[Any, Provider] = {}
    for provider in providers:
        first = known.setdefault(provider.provides, provider)
        if first is not provider:
            problem = f"{shown(provider.provides)} is provided already, by {_place(first)}"
            raise SetupError(f"{_place(provider)}: {problem}. Keep one provider.")


def _place(provider: Provider) -> str:
    return f"app.provide({shown(provider.provides)}(...))" if isinstance(provider.function, Value) else where(provider.function)


def check_provided(signatures: Iterable[Signature], providers: tuple[Provider, ...], others: Iterable[Callable[..., Any]]) -> None:
    """Raise `SetupError` for the first keyword-only parameter that nothing provides, or for one before the * that is provided."""
    beside = [settled(function) for function in others]
    for signature in (*signatures, *beside):
        check_given(signature, providers)
        for parameter in signature.needs:
            if parameter.required and not is_provided(parameter.annotation, providers):
                raise _unknown(signature, parameter, providers)
            key = key_of(parameter.annotation)
            if key == bare(parameter.annotation) and any(p.optional and p.provides == key for p in providers):
                problem = f"what provides {parameter.name} may give None"
                raise refuse(signature.function, problem, f"Annotate it {parameter.name}: {shown(key)} | None.")
    _check_lasting(beside, providers)


def _check_lasting(beside: Iterable[Signature], providers: Iterable[Provider]) -> None:
    """Raise `SetupError` for what is called once, or by nobody, and asks for what a call has: start-up would end in a `TypeError`."""
    known = {provider.provides: provider for provider in providers}
    scopes = {id(provider.function): provider.scope for provider in known.values()}  # what is provided or called may have no hash
    for signature in beside:
        scope = scopes.get(id(signature.function))
        for parameter in signature.needs if scope != "call" else ():
            key = key_of(parameter.annotation)
            of_call = known[key].scope == "call" if key in known else dotted(key) in _OF_A_CALL
            if not (parameter.required and of_call):
                continue
            if scope is None:
                problem = f"{parameter.name} is made per call, and a hook or health check is part of none"
                cure = "Ask for what there is without a call, such as Settings, Database, or what an @app.provide makes once."
                raise refuse(signature.function, problem, cure)
            raise refuse(signature.function, f"{parameter.name} is made per call, this provider once", "Give it scope='call' too.")


def _is_no_data(annotation: Any) -> bool:
    """Say whether JSON cannot be decoded to this type."""
    return isinstance(msgspec.inspect.type_info(key_of(annotation)), msgspec.inspect.CustomType)


def _unknown(signature: Signature, parameter: Parameter, providers: tuple[Provider, ...]) -> Exception:
    name = shown(parameter.annotation)
    near = nearest(name, [shown(p.provides) for p in providers] + [b.rpartition(".")[2] for b in BUILT_IN])
    hint = f"Did you mean {near}? Otherwise write" if near else "Write"
    return refuse(
        signature.function,
        f"nothing provides {parameter.name}: {name}",
        f"{hint} a function with @app.provide that returns {name}; if the caller gives it, put {parameter.name} before the *.",
    )
