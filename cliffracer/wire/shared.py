"""Shares one value among many readers: decoded once if it is immutable, and encoded once for all who send it on."""

from typing import Any

from msgspec import inspect

from cliffracer.wire.codecs import encode
from cliffracer.wire.kinds import bare, everything

_FIXED = (
    inspect.NoneType, inspect.BoolType, inspect.IntType, inspect.FloatType, inspect.StrType, inspect.BytesType, inspect.DateTimeType,
    inspect.TimeType, inspect.DateType, inspect.TimeDeltaType, inspect.UUIDType, inspect.DecimalType, inspect.LiteralType,
    inspect.EnumType, inspect.UnionType, inspect.FrozenSetType, inspect.TupleType, inspect.VarTupleType, inspect.NamedTupleType,
)  # fmt: skip


def is_fixed(kind: Any) -> bool:
    """Say whether a decoded value of this type is immutable in every part: frozen Structs, tuples, texts, numbers."""
    return all(_fixed(info) for info in everything(bare(inspect.type_info(kind))))


def _fixed(info: inspect.Type) -> bool:
    if isinstance(info, inspect.StructType):
        return bool(info.cls.__struct_config__.frozen and not info.cls.__dictoffset__)
    return type(info) in _FIXED


class _Shared:
    """A value that is shared, and its JSON once somebody has asked for it."""

    __slots__ = ("text", "value")

    def __init__(self, value: Any) -> None:
        self.value = value
        self.text = b""


class _Last:
    """What was shared last; its readers follow each other closely, so one is enough. Changed whole: others may run loops in threads."""

    __slots__ = ("shared",)

    def __init__(self) -> None:
        self.shared = _Shared(_Last)


_last = _Last()


def share(value: Any) -> None:
    """Let an immutable value (`is_fixed`) be encoded once, however often it is sent on from now on."""
    if value is not _last.shared.value:
        _last.shared = _Shared(value)


def encoded(value: Any) -> bytes:
    """Return a value as JSON, like `encode`; for the value that was shared last always the same object."""
    shared = _last.shared
    if value is not shared.value:
        return encode(value)
    if not shared.text:
        shared.text = encode(value)
    return shared.text
