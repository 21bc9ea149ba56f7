"""Refuses, at declaration, a parameter of a type that no input can be decoded to."""

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from typing import Any, get_args, get_origin

import msgspec
from msgspec import inspect

from cliffracer.declarations import Function, Provider, refuse, where
from cliffracer.providers import check_provided
from cliffracer.shapes import Shape, external_name, is_upload
from cliffracer.signature import Parameter, Signature, bare, shown
from cliffracer.wire import kinds
from cliffracer.wire.kinds import Object, everything
from cliffracer.wire.limits import unfit

_STREAMS = (AsyncIterator, AsyncIterable, AsyncGenerator)
_PLAIN = (dict, list, str, int, float, bool, type(None))
"""The types that a payload decodes to if its annotation says no more."""


def check_types(signature: Signature) -> None:
    """Raise `SetupError` for a parameter of the caller's whose type msgspec refuses, such as a union of Structs without tags."""
    for parameter, kind in _sent(signature):
        try:
            msgspec.json.Decoder(kind)
        except TypeError as error:
            raise unfit(kind, error, f"{where(signature.function)}: {parameter.name}") from error


def check_carried(signature: Signature, *, socket: bool, form: bool) -> None:
    """Raise `SetupError` for a stream that no ``socket`` and a file that no ``form`` brings: nobody could send it.

    One with a default may be left out: the function may be declared in another way as well.
    """
    for parameter in (each for each in signature.accepts if each.required):
        kind = bare(parameter.annotation)
        if not socket and (get_origin(kind) or kind) in _STREAMS:
            problem = f"{parameter.name} is a stream, which only the client of a WebSocket sends"
            raise refuse(signature.function, problem, "Declare it with @app.websocket, or take a list.")
        if not form and is_upload(kind):
            problem = f"{parameter.name} is a file, which only a form brings"
            raise refuse(signature.function, problem, "Declare it with @app.post, or take bytes.")


def check_texts(signature: Signature, shape: Shape) -> None:
    """Raise `SetupError` for a parameter of a request that no text can be, such as a Struct in the path, or a name that two would take."""
    for place, parameters in (("path", shape.path), ("header", shape.headers), ("cookie", shape.cookies)):
        for parameter in parameters:
            _check_text(signature, parameter, place)
    taken: dict[str, str] = {}
    for parameter in shape.query:
        objects = _objects(inspect.type_info(parameter.annotation))
        if parameter.required or parameter.marker is not None:  # else it may be for those who send it otherwise, such as by RPC
            _check_query(signature, parameter, objects)
        for name in _names(parameter, objects):
            if name in taken:
                problem = f"{taken[name]} and {parameter.name} both take {name} from the query"
                raise refuse(signature.function, problem, "Leave one out, or rename it: Annotated[..., Query('other')].")
            taken[name] = parameter.name


def _check_query(signature: Signature, parameter: Parameter, objects: list[inspect.Type]) -> None:
    if not objects:
        _check_text(signature, parameter, "query")
    if len(objects) > 1:
        problem = f"{parameter.name}: a query does not say which of several objects it has the fields of"
        raise refuse(signature.function, problem, "Take one Struct with all of them, or declare it with @app.post.")
    for field in getattr(objects[0], "fields", ()) if objects else ():
        if field.required and not _is_text(field.type):
            cure = "Give it a default, or declare it with @app.post."
            raise refuse(signature.function, f"{parameter.name}: its field {field.name} cannot be read from a query", cure)


def _names(parameter: Parameter, objects: list[inspect.Type]) -> Iterator[str]:
    """Yield the names of the query that a parameter takes."""
    if not objects:
        yield external_name(parameter)
    elif isinstance(objects[0], inspect.DictType):
        yield "all other names"
    else:
        yield from (field.encode_name for field in getattr(objects[0], "fields", ()))


def _check_text(signature: Signature, parameter: Parameter, place: str) -> None:
    if not _is_text(inspect.type_info(parameter.annotation)):
        cure = "Take a text, a number or the like; a Struct, dataclass or mapping is a whole query or a body."
        raise refuse(signature.function, f"{parameter.name}: {shown(bare(parameter.annotation))} cannot be read from a {place}", cure)


def _objects(info: inspect.Type) -> list[inspect.Type]:
    """Return the types among the options of a query parameter that are spread over its names."""
    info = kinds.bare(info)
    options = map(kinds.bare, info.types) if isinstance(info, inspect.UnionType) else (info,)
    return [option for option in options if isinstance(option, Object | inspect.DictType)]


def _is_text(info: inspect.Type, *, several: bool = True) -> bool:
    """Say whether a value can be made of one text, or of ``several`` with one name."""
    info = kinds.bare(info)
    match info:
        case inspect.UnionType():
            return any(_is_text(option, several=several) for option in info.types if not isinstance(option, inspect.NoneType))
        case inspect.CollectionType() | inspect.TupleType():
            return several and all(_is_text(part, several=False) for part in kinds.inside(info))
        case _:
            return not isinstance(info, Object | inspect.DictType | inspect.NamedTupleType | inspect.RawType)


def check_parameters(signatures: Iterable[Signature], providers: tuple[Provider, ...], others: Iterable[Callable[..., Any]]) -> None:
    """Raise `SetupError` for the first parameter that nobody can give, after the * or before it."""
    signatures = list(signatures)
    check_provided(signatures, providers, others)
    for signature in signatures:
        for parameter, kind in _sent(signature):
            for part in everything(inspect.type_info(kind)):
                if isinstance(part, inspect.CustomType) and not _fits_any(part.cls):
                    raise _strange(signature.function, parameter.name, part.cls)


def _sent(signature: Signature) -> Iterator[tuple[Parameter, Any]]:
    """Yield the names and types of what the caller sends; for a socket's stream, the type of one frame."""
    for parameter in signature.accepts:
        kind = bare(parameter.annotation)
        if (get_origin(kind) or kind) in _STREAMS:
            yield parameter, (get_args(kind) or (Any,))[0]
        elif not is_upload(kind):
            yield parameter, parameter.annotation


def _fits_any(cls: type) -> bool:
    try:
        return any(issubclass(plain, cls) for plain in _PLAIN)
    except TypeError:  # a protocol that cannot be asked
        return True


def _strange(function: Function, name: str, cls: type) -> Exception:
    shown = cls.__name__
    if hasattr(cls, "model_validate"):
        cure = f"Make it a Struct of msgspec: class {shown}(Struct). Or take a dict, and write {shown}.model_validate({name})."
    else:
        cure = f"Take a Struct or a dataclass. What the app is to give stands after a *: @app.provide on a function that returns {shown}."
    return refuse(function, f"{name}: nothing that a caller sends can be decoded to {shown}", cure)
