"""One field of a Model as PostgreSQL sees it: its type, and how a value goes there and comes back."""

import enum
import types
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal, NewType, TypeVar, Union, get_args, get_origin
from uuid import UUID

import msgspec

from cliffracer.database.model import Index, References, Search, Unique
from cliffracer.errors import InvalidInput, SetupError
from cliffracer.wire.limits import Limits, unfit

SCALARS: dict[Any, str] = {
    bool: "boolean",
    int: "bigint",
    float: "double precision",
    str: "text",
    bytes: "bytea",
    UUID: "uuid",
    datetime: "timestamp with time zone",
    date: "date",
    time: "time without time zone",
    timedelta: "interval",
    Decimal: "numeric",
}
JSON = "jsonb"
_to_json = msgspec.json.Encoder(order="deterministic").encode
_OPEN = (Any, dict, list, dict[str, Any], list[Any], dict[str, Any] | list[Any])
"""Types of documents that take whatever JSON can hold."""
_to_json_by_any_key = msgspec.json.Encoder().encode


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """A column: where a field of a Model is kept."""

    name: str
    kind: Any
    """The field's type without None and markers, with its constraints."""
    plain: type | None
    """The class that values already have when they need no conversion; None: always convert."""
    sql: str
    """The type in PostgreSQL's own spelling."""
    nullable: bool
    default: Any
    factory: Any
    choices: tuple[Any, ...] = ()
    metas: tuple[msgspec.Meta, ...] = ()
    markers: tuple[Any, ...] = ()
    load: Callable[[Any], Any] | None = None
    dump: Callable[[Any], Any] | None = None

    @property
    def json(self) -> bool:
        """Whether the value is kept as a document."""
        return self.sql == JSON

    @property
    def required(self) -> bool:
        """Whether None does not fit the field: `Any` keeps it as a document's null."""
        return not self.nullable and self.kind is not Any

    def marked(self, kind: type[Any]) -> Any:
        """Return the field's marker of a kind, or None."""
        return next((marker for marker in self.markers if isinstance(marker, kind)), None)

    def value(self, given: Any) -> Any:
        """Return what is sent for a value that came from a caller; `InvalidInput` when it does not fit the field."""
        given = self.typed(given)
        return given if self.dump is None or (given is None and self.kind is not Any) else self.dump(given)

    def typed(self, given: Any) -> Any:
        """Return a value that came from a caller as the field's type, or None; `InvalidInput` when it does not fit the field."""
        if given is None or type(given) is self.plain:
            return given
        try:
            return msgspec.convert(given, self.kind, strict=not isinstance(given, str) or self.plain is str)
        except (msgspec.ValidationError, ValueError, OverflowError, TypeError, AttributeError) as error:
            raise misfit(self.name, str(error)) from None


def misfit(path: str, message: str) -> InvalidInput:
    """Return the error for one field that does not fit."""
    return InvalidInput(f"{path}: {message}", errors=[{"path": path, "message": message}])


def column_of(model: type, field: msgspec.structs.FieldInfo) -> Column:
    """Return the column of a Struct's field; `SetupError` for a type that cannot be kept."""
    bare, nullable, extras = unwrap(field.type)
    if isinstance(field.default, Unique | Index | References | Search):
        shown = repr(field.default)
        raise SetupError(f"{model.__qualname__}.{field.name}: {shown} stands where its default does. Write Annotated[..., {shown}].")
    sql, plain, choices, load, dump = _kept(bare, f"{model.__qualname__}.{field.name}")
    metas = tuple(extra.meta if isinstance(extra, Limits) else extra for extra in extras if isinstance(extra, msgspec.Meta | Limits))
    constraints = tuple(meta for meta in metas if _constrains(meta))
    return Column(
        name=field.name,
        kind=_constrained(bare, constraints),
        plain=plain,
        sql=sql,
        nullable=nullable,
        default=field.default,
        factory=field.default_factory,
        choices=choices,
        metas=metas,
        markers=tuple(marker for extra in extras if (marker := _marker(extra, f"{model.__qualname__}.{field.name}")) is not None),
        load=load,
        dump=_OF_TIME[bare](field.name) if bare in _OF_TIME else dump,
    )


def _marker(extra: Any, where: str) -> Unique | Index | References | Search | None:
    """Return the marker in an extra of ``Annotated``; a marker class, ``Unique``, means ``Unique()``."""
    if isinstance(extra, Unique | Index | References | Search):
        return extra
    if extra is References:
        raise SetupError(f"{where}: References says to which model the field points. Write Annotated[..., References(User)].")
    return extra() if extra is Unique or extra is Index or extra is Search else None


def _constrained(bare: Any, constraints: tuple[msgspec.Meta, ...]) -> Any:
    """Return a type with its constraints, without those that msgspec does not support for it: the table's check enforces them too."""
    if not constraints:
        return bare
    kind = Annotated[(bare, *constraints)]
    try:
        msgspec.json.Decoder(kind)
    except TypeError:
        return bare
    return kind


def unwrap(annotation: Any) -> tuple[Any, bool, list[Any]]:
    """Return (type without Annotated, NewType and None; whether None was in it; the extras of Annotated)."""
    extras: list[Any] = []
    nullable = False
    while True:
        origin = get_origin(annotation)
        if origin is Annotated:
            annotation, *more = get_args(annotation)
            extras.extend(more)
        elif isinstance(annotation, NewType):
            annotation = annotation.__supertype__
        elif origin in {Union, types.UnionType} and type(None) in get_args(annotation):
            rest = tuple(part for part in get_args(annotation) if part is not type(None))
            annotation, nullable = Union[rest], True  # noqa: UP007 - built from a tuple
        elif origin is Literal and None in get_args(annotation) and len(get_args(annotation)) > 1:
            annotation, nullable = Literal[tuple(choice for choice in get_args(annotation) if choice is not None)], True
        else:
            return annotation, nullable, extras


_Kept = tuple[str, type | None, tuple[Any, ...], Callable[[Any], Any] | None, Callable[[Any], Any] | None]


def _kept(bare: Any, where: str) -> _Kept:
    if msgspec.UnsetType in get_args(bare):
        raise SetupError(f"{where}: a column is never UNSET. Write a type with None, and = None for what is left out.")
    if bare in SCALARS:
        return SCALARS[bare], bare, (), None, None
    if isinstance(bare, type) and issubclass(bare, enum.Enum):
        values = tuple(member.value for member in bare)
        return _choice_type(values, where), bare, values, {member.value: member for member in bare}.__getitem__, _value_of
    if get_origin(bare) is Literal:
        return _choice_type(get_args(bare), where), None, get_args(bare), None, None
    if _is_document(bare):
        try:
            load = msgspec.json.Decoder(bare).decode
        except TypeError as error:
            raise unfit(bare, error, where) from error
        return JSON, None, (), load, _document if bare in _OPEN else _readable(load)
    raise SetupError(
        f"{where}: {bare!r} cannot be a column. Columns hold {', '.join(kind.__name__ for kind in SCALARS)}, Enum, Literal, "
        "and as jsonb: Struct, dict, list, tuple, set, unions of these."
    )


def _choice_type(values: tuple[Any, ...], where: str) -> str:
    kinds = {type(value) for value in values}
    if kinds == {str}:
        return "text"
    if kinds == {int}:
        return "bigint"
    raise SetupError(f"{where}: the choices must be all text or all whole numbers, and some are {sorted(kind.__name__ for kind in kinds)}.")


def _is_document(bare: Any) -> bool:
    if bare is Any:
        return True
    if isinstance(bare, TypeVar):
        return False
    origin = get_origin(bare) or bare
    if origin in {Union, types.UnionType}:
        return True
    if not isinstance(origin, type):
        return False
    return issubclass(origin, msgspec.Struct | list | tuple | set | frozenset | Mapping) or hasattr(origin, "__dataclass_fields__")


def _constrains(meta: msgspec.Meta) -> bool:
    limits = (meta.gt, meta.ge, meta.lt, meta.le, meta.multiple_of, meta.pattern, meta.min_length, meta.max_length, meta.tz)
    return any(limit is not None for limit in limits)


def _value_of(member: Any) -> Any:
    return member.value if isinstance(member, enum.Enum) else member


def _document(value: Any) -> str:
    try:
        return _to_json(value).decode()
    except TypeError:  # keys that are not text (dates, UUIDs, numbers) cannot be sorted as text
        return _to_json_by_any_key(value).decode()


def _readable(load: Callable[[str], Any]) -> Callable[[Any], str]:
    """Return an encoder for documents that refuses a value that could not be decoded again."""

    def dump(value: Any) -> str:
        text = _document(value)
        load(text)
        return text

    return dump


def _aware(name: str) -> Callable[[datetime], datetime]:
    def checked(value: datetime) -> datetime:
        if value.tzinfo is UTC:  # nearly every one
            return value
        if value.tzinfo is None:
            raise misfit(name, "must carry a time zone")
        if not 1 < value.year < 9999:  # at either end a moment of another zone may have no year in UTC, in which it is read
            try:
                value.astimezone(UTC)
            except OverflowError:
                raise misfit(name, "must be within the years 1 to 9999 in UTC") from None
        return value

    return checked


def _naive(name: str) -> Callable[[time], time]:
    def checked(value: time) -> time:
        if value.tzinfo is not None:
            raise misfit(name, "must have no time zone: a time of day is kept without one")
        return value

    return checked


def _day(name: str) -> Callable[[date], date]:
    def checked(value: date) -> date:
        if isinstance(value, datetime):
            raise misfit(name, "must be a date without a time")
        return value

    return checked


_OF_TIME: dict[Any, Callable[[str], Callable[[Any], Any]]] = {datetime: _aware, time: _naive, date: _day}
