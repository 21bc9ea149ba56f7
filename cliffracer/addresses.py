"""The address of a declared function, and the arguments that go over the wire."""

from typing import Any

from cliffracer.calling import arguments_of
from cliffracer.declarations import where
from cliffracer.errors import SetupError
from cliffracer.scope import ADDRESSES, Group, Scope
from cliffracer.signature import read
from cliffracer.wire.subjects import check_name


def merged(target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return the arguments for the wire; for a function, positional and named ones may be mixed, as in any call of it."""
    if args and kwargs and not isinstance(target, str):
        named = dict(zip((p.name for p in read(_declared(target)).accepts), args, strict=False))
        twice = sorted(named.keys() & kwargs.keys())
        if twice or len(named) < len(args):
            raise TypeError(f"{where(target)} got {f'two values for {twice[0]}' if twice else 'too many arguments'}")
        return named | kwargs
    return arguments_of(args, kwargs)


def address_of(target: Any, *, streamed: bool = False) -> tuple[str, str, Any]:
    """Return (service, method, reply type) of a call's target: a declared function, or ``"service.method"``.

    The reply of a streaming function is a list of all that it yields; with ``streamed`` it is the type of one item.
    """
    if isinstance(target, str):
        service, dot, method = target.partition(".")
        if not dot:
            raise ValueError(f"{target!r} names no method: write 'service.method'")
        return check_name(service), check_name(method), Any
    inside = _declared(target)
    declared = [([whose] if isinstance(whose, str) else _services(whose()), method) for whose, method in ADDRESSES.get(inside, ())]
    places = [(service, method) for services, method in declared for service in services]
    if not places:
        raise SetupError(f"{where(target)} is no RPC. Put @app.rpc on it, or call by name: app.call('service.method', ...).")
    if len(set(places)) > 1:
        shown = ", ".join(f"{service}.{method}" for service, method in places)
        raise SetupError(f"{where(target)} answers in several places: {shown}. Call one by its name.")
    signature = read(inside)
    returns: Any = signature.returns
    return *places[0], list[returns] if signature.streams and not streamed else returns


def called(target: Any) -> str:
    """Return ``service.method`` of a call's target."""
    service, method, _ = address_of(target)
    return f"{service}.{method}"


def _declared(target: Any) -> Any:
    """Return the declared function: a decorator of the user's, or of ours, may be above ``@app.rpc``."""
    inside = target
    while inside not in ADDRESSES and (wrapped := getattr(inside, "__wrapped__", None)) is not None:
        inside = wrapped
    return inside


def _services(scope: Scope | None) -> list[str]:
    if not isinstance(scope, Group):
        return [] if scope is None else [scope.name]
    return sorted({name for parent in scope.parents() for name in _services(parent)})
