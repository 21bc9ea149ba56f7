"""Refuses, at declaration, a parameter of a type that no input can be decoded to."""

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from typing import Any, get_args, get_origin

import msgspec
from msgspec import inspect

from cliffracer.declarations import Function, Provider, refuse, where
from cliffracer.providers import check_provided
from cliffracer.shapes import is_upload
from cliffracer.signature import Parameter, Signature, bare
from cliffracer.wire.kinds import everything
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
