"""Values of path, query, header and cookie parameters, which all arrive as text."""

import json
import math
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import inspect

from cliffracer.errors import FieldError, InvalidInput
from cliffracer.wire.kinds import bare
from cliffracer.wire.validation import REFUSALS, Explainer

T = TypeVar("T")
_LOW, _HIGH = -(2**63), 2**64 - 1
_NOT_TEXT = (inspect.IntType, inspect.FloatType, inspect.BoolType, inspect.LiteralType, inspect.EnumType)
_LONGEST = 64  # characters of a text that is read as a number


class TextDecoder(Generic[T]):
    """Converts texts by name (lists of them for parameters that take several) to a Struct; `InvalidInput` with every reason."""

    __slots__ = ("_explainer", "_info", "_kind", "_numbers")

    def __init__(self, kind: type[T]) -> None:
        self._kind = kind
        info = inspect.type_info(kind)
        assert isinstance(info, inspect.StructType)
        self._info = info
        self._numbers = tuple(field.name for field in info.fields if _may_be_number(bare(field.type)))
        self._explainer: Explainer | None = None

    def convert(self, given: Mapping[str, Any]) -> T:
        """Return the Struct."""
        try:
            made = msgspec.convert(given, self._kind, strict=False)
        except REFUSALS:
            raise self._refusal(given) from None
        for name in self._numbers:
            if not _is_sound(getattr(made, name)):
                raise self._refusal(given)
        return made

    def _refusal(self, given: Mapping[str, Any]) -> InvalidInput:
        if self._explainer is None:
            self._explainer = Explainer(self._kind, quiet=True)
        types = {field.name: bare(field.type) for field in self._info.fields}
        natural = {name: _natural(types[name], value) for name, value in given.items() if name in types}
        errors = [FieldError(name, "must be a finite number of at most 64 bits") for name, value in natural.items() if not _is_sound(value)]
        errors = errors or self._explainer.explain(natural) or [FieldError("", "is not valid")]
        return InvalidInput("the input is not valid", errors=errors)


def _may_be_number(info: inspect.Type) -> bool:
    if isinstance(info, inspect.UnionType):
        return any(map(_may_be_number, map(bare, info.types)))
    if isinstance(info, inspect.CollectionType):
        return _may_be_number(bare(info.item_type))
    return isinstance(info, inspect.IntType | inspect.FloatType | inspect.AnyType)


def _is_sound(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, int):
        return _LOW <= value <= _HIGH
    return not isinstance(value, list | tuple | set | frozenset) or all(map(_is_sound, value))


def _natural(info: inspect.Type, value: Any) -> Any:
    """Return what a text would be in JSON, if its type is no text: so that the words about it are those of JSON."""
    if isinstance(value, list):
        part = bare(info.item_type) if isinstance(info, inspect.CollectionType) else info
        return [_natural(part, text) for text in value]
    options = tuple(map(bare, info.types)) if isinstance(info, inspect.UnionType) else (info,)
    if any(isinstance(option, inspect.StrType) for option in options) or len(value) > _LONGEST:
        return value
    if not any(isinstance(option, _NOT_TEXT) for option in options):
        return value
    try:
        found = json.loads(value.lower())
    except ValueError:
        return value
    return found if isinstance(found, int | float | bool) else value
