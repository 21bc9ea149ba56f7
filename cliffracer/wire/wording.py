"""The words of validation: paths, kinds of values, what a type expects, which constraint is broken.

Nothing here repeats a value: a refused value may be a secret. Names of fields and keys are repeated, shortened and escaped.
"""

import datetime as dt
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from msgspec import inspect

from cliffracer.nearest import nearest
from cliffracer.wire.kinds import bare, choices_of

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
_LONGEST = 64  # characters of a name in a path or a message
_MOST = 20  # choices that a message lists


class Number:
    """A JSON number that no float or 64-bit integer holds, by its text: ``1e400``, 10,000 digits, ``NaN``."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


def member(path: str, name: object) -> str:
    """Return the path of a field or key below ``path``: ``user.email``, ``prices["a b"]``."""
    if isinstance(name, str) and _PLAIN.fullmatch(name):
        return f"{path}.{name}" if path else name
    shown = json.dumps(name[:_LONGEST]) if isinstance(name, str) else str(name) if type(name) is int else kind_of(name)
    return f"{path}[{shown}]"


def item(path: str, index: int) -> str:
    """Return the path of an element: ``items[3]``."""
    return f"{path}[{index}]"


_KINDS: dict[type, str] = {
    type(None): "null",
    bool: "a boolean",
    int: "an integer",
    float: "a number",
    Number: "a number",
    str: "a string",
    bytes: "binary data",
    list: "an array",
    tuple: "an array",
    dict: "an object",
    dt.datetime: "a timestamp",
    msgspec.msgpack.Ext: "an extension",
}


def kind_of(value: object) -> str:
    """Return the kind of a decoded value in words: ``an integer``."""
    return _KINDS.get(type(value), "another kind")


_NOUNS: dict[type[inspect.Type], tuple[str, frozenset[type]]] = {
    inspect.NoneType: ("null", frozenset({type(None)})),
    inspect.BoolType: ("a boolean", frozenset({bool})),
    inspect.IntType: ("an integer", frozenset({int, Number})),
    inspect.FloatType: ("a number", frozenset({int, float, Number})),
    inspect.StrType: ("a string", frozenset({str})),
    inspect.BytesType: ("binary data, base64 in JSON", frozenset({str, bytes})),
    inspect.ByteArrayType: ("binary data, base64 in JSON", frozenset({str, bytes})),
    inspect.MemoryViewType: ("binary data, base64 in JSON", frozenset({str, bytes})),
    inspect.DateTimeType: ("a date and time as in RFC 3339", frozenset({str, dt.datetime})),
    inspect.TimeType: ("a time as in RFC 3339", frozenset({str})),
    inspect.DateType: ("a date as in RFC 3339", frozenset({str})),
    inspect.TimeDeltaType: ("a duration as in ISO 8601", frozenset({str})),
    inspect.UUIDType: ("a UUID", frozenset({str, bytes})),
    inspect.DecimalType: ("a decimal number", frozenset({str, int, float, Number})),
    inspect.ExtType: ("an extension", frozenset({msgspec.msgpack.Ext})),
    inspect.ListType: ("an array", frozenset({list})),
    inspect.SetType: ("an array", frozenset({list})),
    inspect.FrozenSetType: ("an array", frozenset({list})),
    inspect.VarTupleType: ("an array", frozenset({list})),
    inspect.TupleType: ("an array", frozenset({list})),
    inspect.NamedTupleType: ("an array", frozenset({list})),
    inspect.DictType: ("an object", frozenset({dict})),
    inspect.TypedDictType: ("an object", frozenset({dict})),
    inspect.DataclassType: ("an object", frozenset({dict})),
}


def noun(info: inspect.Type) -> str:
    """Return what a type expects: ``an integer``, ``one of "a", "b"``."""
    info = bare(info)
    choices = choices_of(info)
    if choices is not None:
        return one_of(choices)
    if isinstance(info, inspect.UnionType):
        return either([noun(option) for option in info.types])
    if isinstance(info, inspect.StructType):
        return "an array" if info.array_like else "an object"
    if isinstance(info, inspect.CustomType):
        return f"a {getattr(info.cls, '__name__', info.cls)}"
    return _NOUNS[type(info)][0] if type(info) in _NOUNS else "another value"


def takes(info: inspect.Type, value: object) -> bool:
    """Say whether a value is of the kind that a type expects, whatever its content."""
    info = bare(info)
    choices = choices_of(info)
    if choices is not None:
        return type(value) in {type(choice) for choice in choices}
    if isinstance(info, inspect.UnionType):
        return any(takes(option, value) for option in info.types)
    if isinstance(info, inspect.StructType):
        return type(value) is (list if info.array_like else dict)
    return type(info) not in _NOUNS or type(value) in _NOUNS[type(info)][1]


def one_of(choices: Sequence[object]) -> str:
    """Return the allowed values of a closed set, as JSON writes them."""
    shown = [json.dumps(choice, default=str) for choice in choices[:_MOST]]
    more = f" and {len(choices) - _MOST} more" if len(choices) > _MOST else ""
    return (f"one of {', '.join(shown)}{more}") if len(choices) > 1 else "".join(shown)


def either(options: Iterable[str]) -> str:
    """Return alternatives as a sentence has them: ``a, b or c``."""
    distinct = list(dict.fromkeys(options))
    return f"{', '.join(distinct[:-1])} or {distinct[-1]}" if len(distinct) > 1 else "".join(distinct)


def unknown(name: object, known: Iterable[str]) -> str:
    """Return why an undeclared field is refused, with the name that may have been meant."""
    near = nearest(str(name)[:_LONGEST], known)
    return f"unknown field (did you mean {near}?)" if near else "unknown field"


def items(count: int) -> str:
    """Return a number of items in words."""
    return "1 item" if count == 1 else f"{count} items"


def whole(number: Number) -> bool:
    """Say whether a number beyond 64 bits was written without a fraction or an exponent."""
    return number.text.lstrip("-").isdigit()


def _length(count: int, info: inspect.Type) -> str:
    if isinstance(info, inspect.StrType):
        return "1 character" if count == 1 else f"{count} characters"
    if isinstance(info, inspect.BytesType | inspect.ByteArrayType | inspect.MemoryViewType):
        return "1 byte" if count == 1 else f"{count} bytes"
    return items(count)


_BROKEN = {
    "ge": "must be at least {}",
    "gt": "must be greater than {}",
    "le": "must be at most {}",
    "lt": "must be less than {}",
    "multiple_of": "must be a multiple of {}",
    "pattern": "must match pattern {}",
    "min_length": "must have at least {}",
    "max_length": "must have at most {}",
}


def broken(info: inspect.Type, name: str, limit: Any) -> str:
    """Return what a constraint of `msgspec.Meta` asks for: ``must be at least 0``."""
    text = _BROKEN.get(name)
    if text is None:
        return "must have a time zone" if limit else "must not have a time zone"
    return text.format(_length(limit, info) if name.endswith("length") else limit)
