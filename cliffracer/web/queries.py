"""Parses query strings into texts by parameter: scalars once, lists repeatedly, an object from several names."""

from collections.abc import Sequence
from typing import Any, NamedTuple, get_type_hints, is_typeddict
from urllib.parse import unquote_to_bytes

from msgspec import inspect

from cliffracer.errors import FieldError, InvalidInput
from cliffracer.shapes import external_name
from cliffracer.signature import Parameter
from cliffracer.wire.kinds import Object, annotation, bare
from cliffracer.wire.text import TextDecoder

Texts = dict[str, Any]
_SEVERAL = (inspect.CollectionType, inspect.TupleType)


class Spread(NamedTuple):
    """A parameter that takes several names of the query: a Struct, dataclass or TypedDict its fields, a dict all remaining names."""

    parameter: Parameter
    fields: tuple[inspect.Field, ...] | None
    decoder: TextDecoder[Any]

    def kinds(self) -> dict[str, Any]:
        """Return the annotations of an object's fields, by name."""
        kind = self.decoder.kind
        plain = isinstance(kind, type) and not is_typeddict(kind)  # else it is generic, or its hints say what is required
        hints = get_type_hints(kind, include_extras=True) if plain else {}
        return {field.name: hints.get(field.name) or annotation(field.type) for field in self.fields or ()}

    def value(self, texts: Texts | None) -> Any:
        """Return its value; the default if none of its names is given."""
        if texts is None and not self.parameter.required:
            return self.parameter.default
        return self.decoder.decode(texts or {})


def spread_of(parameter: Parameter) -> Spread | None:
    """Return how a parameter takes several names; None if it has one of its own."""
    info = bare(inspect.type_info(parameter.annotation))
    for option in map(bare, info.types) if isinstance(info, inspect.UnionType) else (info,):
        if isinstance(option, Object):
            return Spread(parameter, option.fields, TextDecoder(annotation(option)))
        if isinstance(option, inspect.DictType):
            return Spread(parameter, None, TextDecoder(annotation(option)))
    return None


class Place(NamedTuple):
    """Where the value of one query name goes."""

    parameter: str
    field: str | None
    several: bool


class Query:
    """The query parameters of one handler. Unknown names are ignored: links often get some added."""

    def __init__(self, single: Sequence[Parameter], spreads: Sequence[Spread]) -> None:
        self._places: dict[str, Place] = {}
        self._rest: str | None = None
        for spread in spreads:
            if spread.fields is None:
                self._rest = spread.parameter.name
            for field in spread.fields or ():
                self._places[field.encode_name] = Place(spread.parameter.name, field.encode_name, takes_several(field.type))
        for parameter in single:
            several = takes_several(inspect.type_info(parameter.annotation))
            self._places[external_name(parameter)] = Place(parameter.name, None, several)

    def read(self, query: bytes, given: Texts) -> dict[str, Texts]:
        """Put the texts of a query string into ``given``, and return those of spread parameters.

        `InvalidInput` for a scalar that is given twice, or bad UTF-8.
        """
        spread: dict[str, Texts] = {}
        for pair in query.split(b"&") if query else ():
            name, _, value = pair.partition(b"=")
            key = decoded(name)
            place = self._places.get(key)
            if place is not None:
                target = given if place.field is None else spread.setdefault(place.parameter, {})
                _put(target, place.field or place.parameter, key, decoded(value), several=place.several)
            elif self._rest is not None and key:
                _put(spread.setdefault(self._rest, {}), key, key, decoded(value), several=False)
        return spread


def _put(target: Texts, name: str, key: str, text: str, *, several: bool) -> None:
    if several:
        target.setdefault(name, []).append(text)
    elif name in target:
        raise InvalidInput("the input is not valid", errors=[FieldError(key[:64], "is given twice")])
    else:
        target[name] = text


def decoded(text: bytes) -> str:
    """Return a part of a query string as text (``+`` is a space); `InvalidInput` unless it is UTF-8."""
    if b"+" in text:
        text = text.replace(b"+", b" ")
    if b"%" in text:
        text = unquote_to_bytes(text)
    try:
        return text.decode()
    except UnicodeDecodeError:
        raise InvalidInput("the input is not valid", errors=[FieldError("", "the query string is not UTF-8")]) from None


def takes_several(info: inspect.Type) -> bool:
    """Say whether a query parameter collects all of its values: ``?tag=a&tag=b``."""
    info = bare(info)
    options = map(bare, info.types) if isinstance(info, inspect.UnionType) else (info,)
    return any(isinstance(option, _SEVERAL) for option in options)
