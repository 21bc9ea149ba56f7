"""One value for many: read once for all who want it if nobody can change it, and encoded once for all who send it on."""

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
    """Say whether nothing in a value of this type, as it is decoded, can be changed: frozen Structs, tuples, texts, numbers."""
    return all(_fixed(info) for info in everything(bare(inspect.type_info(kind))))


def _fixed(info: inspect.Type) -> bool:
    if isinstance(info, inspect.StructType):
        return bool(info.cls.__struct_config__.frozen and not info.cls.__dictoffset__)
    return type(info) in _FIXED


class _Last:
    """The value that was shared last: those who want it come close behind one another, so that there is no need for more."""

    __slots__ = ("text", "value")

    def __init__(self) -> None:
        self.value: Any = _Last
        self.text = b""


_last = _Last()


def share(value: Any) -> None:
    """Have a value that cannot change (`is_fixed`) encoded once, however often it is sent on from now on."""
    if value is not _last.value:
        _last.value, _last.text = value, b""


def encoded(value: Any) -> bytes:
    """Return a value as JSON, as `encode` does; of the value that was shared last always the same object."""
    if value is not _last.value:
        return encode(value)
    if not _last.text:
        _last.text = encode(value)
    return _last.text
