"""Works on types as described by `msgspec.inspect`: back to annotations, or down to their parts."""

import datetime as dt
import decimal
import types
import uuid
from typing import Annotated, Any, Literal, Union

import msgspec
from msgspec import inspect

CONSTRAINTS = ("ge", "gt", "le", "lt", "multiple_of", "min_length", "max_length", "pattern", "tz")
Object = inspect.StructType | inspect.TypedDictType | inspect.DataclassType
"""A type that is an object on the wire (a Struct may also be an array: ``array_like``)."""

_SIMPLE: dict[type[inspect.Type], Any] = {
    inspect.AnyType: Any,
    inspect.NoneType: type(None),
    inspect.BoolType: bool,
    inspect.IntType: int,
    inspect.FloatType: float,
    inspect.StrType: str,
    inspect.BytesType: bytes,
    inspect.ByteArrayType: bytearray,
    inspect.MemoryViewType: memoryview,
    inspect.DateTimeType: dt.datetime,
    inspect.TimeType: dt.time,
    inspect.DateType: dt.date,
    inspect.TimeDeltaType: dt.timedelta,
    inspect.UUIDType: uuid.UUID,
    inspect.DecimalType: decimal.Decimal,
    inspect.RawType: msgspec.Raw,
    inspect.ExtType: msgspec.msgpack.Ext,
}
_CONTAINERS: dict[type[inspect.Type], type] = {
    inspect.ListType: list,
    inspect.SetType: set,
    inspect.FrozenSetType: frozenset,
    inspect.TupleType: tuple,
    inspect.DictType: dict,
}
_MADE = (inspect.UnionType, inspect.CollectionType, inspect.TupleType, inspect.DictType)


def bare(info: inspect.Type) -> inspect.Type:
    """Return a type's description without the wrapper that holds its title, description and examples."""
    while isinstance(info, inspect.Metadata):
        info = info.type
    return info


def choices_of(info: inspect.Type) -> list[Any] | None:
    """Return the values that a `Literal` or an `Enum` allows; None for any other type."""
    if isinstance(info, inspect.LiteralType):
        return list(info.values)
    if isinstance(info, inspect.EnumType):
        return [entry.value for entry in info.cls]
    return None


def inside(info: inspect.Type) -> tuple[inspect.Type, ...]:
    """Return the types one level down: of fields, items, keys and values, options."""
    match info:
        case inspect.StructType() | inspect.TypedDictType() | inspect.DataclassType() | inspect.NamedTupleType():
            return tuple(bare(field.type) for field in info.fields)
        case inspect.CollectionType():
            return (bare(info.item_type),)
        case inspect.TupleType():
            return tuple(map(bare, info.item_types))
        case inspect.DictType():
            return (bare(info.key_type), bare(info.value_type))
        case inspect.UnionType():
            return tuple(map(bare, info.types))
        case _:
            return ()


def everything(info: inspect.Type) -> list[inspect.Type]:
    """Return a type and all that it is made of, each once."""
    found = [info]
    seen = {id(info)}
    for part in found:  # grows while it is walked
        for below in inside(part):
            if id(below) not in seen:
                seen.add(id(below))
                found.append(below)
    return found


def annotation(info: inspect.Type) -> Any:
    """Return a type that msgspec reads as the one described."""
    extra = {"extra_json_schema": info.extra_json_schema} if isinstance(info, inspect.Metadata) else {}
    info = bare(info)
    limits = extra | {name: limit for name in CONSTRAINTS if (limit := getattr(info, name, None)) is not None}
    plain = _plain(info)
    return Annotated[plain, msgspec.Meta(**limits)] if limits else plain


def _plain(info: inspect.Type) -> Any:
    below = tuple(map(annotation, inside(info))) if isinstance(info, _MADE) else ()
    match info:
        case inspect.UnionType():
            return Union[below]  # noqa: UP007 - made of values, as all below
        case inspect.VarTupleType():
            return types.GenericAlias(tuple, (*below, ...))
        case inspect.LiteralType():
            return Literal[info.values]
        case inspect.TupleType() | inspect.CollectionType() | inspect.DictType():
            return types.GenericAlias(_CONTAINERS[type(info)], below)
        case _:
            return _SIMPLE.get(type(info)) or info.cls  # type: ignore[attr-defined]  # all others name their class


def shallow(info: inspect.Type, **limits: Any) -> Any:
    """Return the same type with these constraints only, and any items inside a collection: to check one constraint alone."""
    plain = list if isinstance(info, inspect.CollectionType) else _SIMPLE.get(type(info), dict)
    return Annotated[plain, msgspec.Meta(**limits)] if limits else plain
