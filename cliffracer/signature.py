"""What a function's signature promises: which parameters its caller gives and which the app provides.

Read once, when a function is declared; annotations with names that are defined later are read again when the
app freezes. Positional-or-keyword parameters come from the caller, keyword-only ones are provided.
"""

import inspect
import types
import typing
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Generator, Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec

from cliffracer.declarations import PLAIN, refuse, shape_of
from cliffracer.errors import SetupError
from cliffracer.markers import Cookie, Header, Query, provided
from cliffracer.wire.limits import FIELDS, limits_of, translated

MISSING: Any = inspect.Parameter.empty
_READ = "__cliffracer_signature__"
_STREAMS = (AsyncGenerator, AsyncIterator, AsyncIterable, Generator, Iterator, Iterable)
_GIVEN = {"request": "Request", "socket": "WebSocket", "websocket": "WebSocket", "ws": "WebSocket", "db": "Database", "tx": "Transaction"}
"""What is meant by the names that everybody gives to what the app gives."""
Kind = Literal["async", "sync", "stream", "sync_stream"]


class Parameter(msgspec.Struct, frozen=True):
    """One parameter of a handler."""

    name: str
    annotation: Any
    default: Any = MISSING
    marker: Query | Header | Cookie | None = None

    @property
    def required(self) -> bool:
        """Say whether the caller must give it."""
        return self.default is MISSING


class Signature(msgspec.Struct, frozen=True):
    """A handler's parameters, sorted by who gives them, and what it returns."""

    function: Callable[..., Any]
    accepts: tuple[Parameter, ...]
    """From the caller, in order."""
    needs: tuple[Parameter, ...]
    """Provided by the app."""
    returns: Any
    """The return annotation; of a stream, what it yields."""
    kind: Kind

    @property
    def streams(self) -> bool:
        """Say whether it yields its results."""
        return self.kind in {"stream", "sync_stream"}

    def arguments(self, *, array: bool = False) -> type[msgspec.Struct]:
        """Return a Struct of the caller's parameters, by name or (``array``) by position; it refuses what it does not know."""
        return arguments_type(getattr(self.function, "__name__", "arguments"), self.accepts, array=array)


def arguments_type(name: str, parameters: tuple[Parameter, ...], *, array: bool = False) -> type[msgspec.Struct]:
    """Return the Struct that decodes these parameters; `msgspec.structs.astuple` of it is the argument list."""
    fields: list[Any] = [(p.name, p.annotation) if p.required else (p.name, p.annotation, _default(p.default)) for p in parameters]
    limits = limits_of((p.name, p.annotation) for p in parameters)
    namespace = {FIELDS: limits} if limits else None
    return msgspec.defstruct(name, fields, namespace=namespace, kw_only=not array, array_like=array, forbid_unknown_fields=True)


def _default(value: Any) -> Any:
    """Return a default for msgspec: plain values as they are, so that schemas show them; others by a factory, since they are not copied."""
    return value if value is None or type(value) in {bool, int, float, str} else msgspec.field(default_factory=_constant(value))


def _constant(value: Any) -> Callable[[], Any]:
    return lambda: value


def read(function: Callable[..., Any], names: Mapping[str, Any] | None = None) -> Signature:
    """Return the signature of a handler; `SetupError` for one that cannot be bound, `NameError` for a name not defined yet.

    A function keeps it: ``names``, those of where it is declared, are at hand only then.
    """
    if not isinstance(function, types.FunctionType):
        return _signature(function, names or {})
    known = function.__dict__.get(_READ)
    if known is None or known.function is not function:  # `functools.wraps` has copied another's
        known = function.__dict__[_READ] = _signature(function, names or {})
    found: Signature = known
    return found


def settled(function: Callable[..., Any]) -> Signature:
    """Return the signature of a handler, now that all names are defined; `SetupError` for one that is not."""
    try:
        return read(function)
    except NameError as error:
        raise refuse(function, f"an annotation cannot be read: {error}", "Import or define it in that module.") from None


def _annotated(parameter: inspect.Parameter) -> str:
    """Return a parameter as it could be written, behind a star where its name says that the app gives it."""
    given = _GIVEN.get(parameter.name)
    star = "*, " if given and parameter.kind is not parameter.KEYWORD_ONLY else ""
    return f"{star}{parameter.name}: {given or 'str'}"


def _signature(function: Callable[..., Any], names: Mapping[str, Any]) -> Signature:
    hints = _hints(function, names)
    accepts: list[Parameter] = []
    needs: list[Parameter] = []
    for parameter in shape_of(function).parameters.values():
        if parameter.kind in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD}:
            raise refuse(function, f"*{parameter.name} cannot be bound", "Name each parameter: the signature is the contract.")
        if parameter.name == "self" and parameter.name not in hints:
            raise refuse(function, "it is a method, and there is no object to call it on", PLAIN)
        if parameter.name not in hints:
            raise refuse(function, f"parameter {parameter.name} has no annotation", f"Give it one, as in {_annotated(parameter)}.")
        annotation = translated(hints[parameter.name])
        if parameter.kind is parameter.KEYWORD_ONLY:
            default = MISSING if parameter.default is provided else parameter.default
            needs.append(Parameter(parameter.name, annotation, default))
        elif parameter.default is provided:
            raise refuse(function, f"parameter {parameter.name} has the default `provided` but comes from the caller", "Put it after a *.")
        elif isinstance(parameter.default, Query | Header | Cookie):
            marker, shown_type = type(parameter.default).__name__, shown(bare(annotation))
            cure = f"Write {parameter.name}: Annotated[{shown_type}, {marker}()], and behind it = with the default."
            raise refuse(function, f"{marker}(...) stands where the default of {parameter.name} does", cure)
        else:
            accepts.append(Parameter(parameter.name, annotation, parameter.default, _marker(annotation)))
    kind = _kind(function)
    returns = hints.get("return", Any)
    if kind in {"stream", "sync_stream"}:
        returns = yielded(returns)
    return Signature(function, tuple(accepts), tuple(needs), returns, kind)


def _hints(function: Callable[..., Any], names: Mapping[str, Any]) -> dict[str, Any]:
    inner = inspect.unwrap(function)
    closure = getattr(inner, "__closure__", None) or ()
    code = getattr(inner, "__code__", None)
    known = dict(names)
    if code is not None:
        for name, cell in zip(code.co_freevars, closure, strict=False):
            try:
                known[name] = cell.cell_contents
            except ValueError:  # the cell is filled later; so is the name
                continue
    target = inner if isinstance(inner, types.FunctionType | types.MethodType) else type(inner).__call__
    return typing.get_type_hints(target, localns=known, include_extras=True)


def _kind(function: Callable[..., Any]) -> Kind:
    """Return how a function is called: as the outermost of its wrappers is, unless that is a ``def``, which hands on what is inside."""
    step: Any = function
    while step is not None:
        plain = step if isinstance(step, types.FunctionType | types.MethodType) else type(step).__call__
        if inspect.isasyncgenfunction(plain):
            return "stream"
        if inspect.isgeneratorfunction(plain):
            return "sync_stream"
        if inspect.iscoroutinefunction(plain):
            return "async"
        step = getattr(step, "__wrapped__", None)
    return "sync"


def _marker(annotation: Any) -> Query | Header | Cookie | None:
    if get_origin(annotation) is Annotated:
        for extra in get_args(annotation)[1:]:
            if isinstance(extra, Query | Header | Cookie):
                return extra
            if isinstance(extra, type) and extra in {Query, Header, Cookie}:
                made: Query | Header | Cookie = extra()
                return made
    return None


def bare(annotation: Any) -> Any:
    """Return an annotation without its `Annotated` extras."""
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def yielded(annotation: Any) -> Any:
    """Return T of ``AsyncIterator[T]`` and its relatives; anything else as it is."""
    origin = get_origin(annotation)
    if origin in _STREAMS:
        return get_args(annotation)[0]
    return Any if annotation in _STREAMS else annotation


def dotted(annotation: Any) -> str:
    """Return ``module.Name`` of a class: types of optional parts are recognised by it, without an import."""
    origin = get_origin(annotation) or annotation
    return f"{getattr(origin, '__module__', '')}.{getattr(origin, '__qualname__', '')}"


def shown(annotation: Any) -> str:
    """Return an annotation as a user wrote it, for messages."""
    return (
        annotation.__name__ if isinstance(annotation, type) and get_origin(annotation) is None else str(annotation).replace("typing.", "")
    )


def takes_whole(annotation: Any, *, alone: bool = True) -> bool:
    """Say whether a body parameter of this type is the whole body (a Struct, Any), rather than one field of it.

    A mapping or a list is when it is ``alone``; beside others it is one field, as their texts and numbers are.
    """
    kind = bare(annotation)
    if kind is Any or kind is msgspec.Raw:
        return True
    origin = get_origin(kind)
    if origin in {typing.Union, types.UnionType}:
        return any(takes_whole(part, alone=alone) for part in get_args(kind) if part is not type(None))
    if origin is Literal:
        return False
    cls = origin or kind
    if not isinstance(cls, type):
        return False
    whole = (msgspec.Struct, dict, Mapping, list, tuple, set, frozenset) if alone else msgspec.Struct
    return issubclass(cls, whole) or hasattr(cls, "__dataclass_fields__") or hasattr(cls, "__attrs_attrs__")


def check_event(signature: Signature) -> None:
    """Raise `SetupError` unless the function takes one payload at most."""
    spare = [p.name for p in signature.accepts[1:] if p.required]
    if spare:
        raise refuse(
            signature.function,
            f"an event has one payload, so nothing gives {', '.join(spare)}",
            "Take one Struct with these fields, or make provided parameters keyword-only with a *.",
        )


def check_none(signature: Signature, what: str) -> None:
    """Raise `SetupError` if the function wants arguments that nobody gives."""
    spare = [p.name for p in signature.accepts if p.required]
    if spare:
        raise refuse(
            signature.function,
            f"{what} has no caller, so nothing gives {', '.join(spare)}",
            "Make provided parameters keyword-only with a *.",
        )


def check_returning(signature: Signature, what: str) -> None:
    """Raise `SetupError` for a function that yields where nobody takes what it yields: nothing of it would run."""
    if signature.streams:
        cure = "Take the yield out: emit what others are to have; what is open while the app runs, and then closed, is an @app.provide."
        raise refuse(signature.function, f"it yields, and nobody takes what {what} yields", cure)


__all__ = [
    "MISSING", "Parameter", "SetupError", "Signature", "arguments_type", "bare", "check_event", "check_none",
    "check_returning", "dotted", "read", "shown", "takes_whole", "yielded",
]  # fmt: skip
