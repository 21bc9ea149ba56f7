"""Limits of decimals, as in ``Annotated[Decimal, Meta(ge=0)]``.

msgspec supports them for integers and floats only, and refuses a type that sets them on a `Decimal`. So where we are the first
to read an annotation (a field of a Model, a parameter of a handler) they are replaced by `Limits`, which msgspec ignores, and
checked in the decoded value. Types without them pay nothing.
"""

import dataclasses
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Context, Decimal, InvalidOperation
from typing import Annotated, Any, NewType, Union, get_args, get_origin

import msgspec
from msgspec import inspect

from cliffracer.errors import SetupError
from cliffracer.wire.kinds import everything
from cliffracer.wire.wording import Number, broken

FIELDS = "__limits__"
"""The attribute of a class with the limits of its fields, by name."""
NAMES = ("ge", "gt", "le", "lt", "multiple_of")
_WORDS = ("title", "description", "examples", "extra_json_schema", "extra")
_WIDE = Context(prec=2000)
_TESTS: dict[str, Callable[[Decimal, Decimal], bool]] = {
    "ge": lambda value, limit: value >= limit,
    "gt": lambda value, limit: value > limit,
    "le": lambda value, limit: value <= limit,
    "lt": lambda value, limit: value < limit,
    "multiple_of": lambda value, limit: not _WIDE.remainder(value, limit),
}


class Limits(msgspec.Struct, frozen=True):
    """Limits of a decimal; in an annotation they replace a `Meta`."""

    meta: msgspec.Meta

    def broken(self, value: Decimal, *, finite: bool = True) -> Iterator[str]:
        """Yield the limits that a value violates, in words; all of them for a value that must be finite and is not."""
        for name in NAMES:
            limit = getattr(self.meta, name)
            if limit is not None and ((finite and not value.is_finite()) or not _holds(name, value, limit)):
                yield broken(inspect.DecimalType(), name, limit)


class Beyond(msgspec.ValidationError):
    """A decimal is not within its limits."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


def translated(annotation: Any) -> Any:
    """Return an annotation that msgspec accepts: the same one if it has no limits on decimals."""
    origin = get_origin(annotation)
    if isinstance(annotation, NewType):
        inner = translated(annotation.__supertype__)
        return annotation if inner is annotation.__supertype__ else inner
    if origin in {Union, types.UnionType}:
        given = get_args(annotation)
        made = tuple(map(translated, given))
        return annotation if made == given else Union[made]  # noqa: UP007 - made of values
    if origin is not Annotated:
        return annotation
    plain, *extras = get_args(annotation)
    inner = translated(plain)
    if _is_decimal(plain):
        extras = [part for extra in extras for part in _apart(extra)]
    return annotation if inner is plain and extras == list(get_args(annotation)[1:]) else Annotated[(inner, *extras)]


def limits_in(annotation: Any) -> tuple[Limits, ...]:
    """Return the limits that a translated annotation sets on its own value."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return limits_in(get_args(annotation)[0]) + tuple(extra for extra in get_args(annotation)[1:] if isinstance(extra, Limits))
    if origin in {Union, types.UnionType}:
        return tuple(limits for part in get_args(annotation) for limits in limits_in(part))
    return ()


def limits_of(fields: Iterable[tuple[str, Any]]) -> dict[str, tuple[Limits, ...]]:
    """Return the limits of those fields that have some, by name; a class stores them as `FIELDS`."""
    return {name: found for name, annotation in fields if (found := limits_in(annotation))}


def limited(kind: Any, info: inspect.Type) -> bool:
    """Say whether a type has limits on decimals, at any depth."""
    return bool(limits_in(kind)) or any(_fields_of(part) for part in everything(info))


def look(kind: Any, value: Any) -> Any:
    """Return a decoded value; `Beyond` if a decimal in it is not within its limits."""
    for message in _messages(value, limits_in(kind)):
        raise Beyond("", message)
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, msgspec.Struct):
            for name, limits in getattr(part, FIELDS, {}).items():
                for message in _messages(getattr(part, name), limits):
                    raise Beyond(name, message)
            waiting += msgspec.structs.astuple(part)
        elif isinstance(part, Mapping):
            waiting += part.values()
        elif isinstance(part, list | tuple | set | frozenset):
            waiting += part
        elif dataclasses.is_dataclass(part):
            waiting += [getattr(part, field.name) for field in dataclasses.fields(part)]
    return value


def checked(kind: Any, decode: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return a decoder of a type that looks at the limits, too."""
    return lambda data: look(kind, decode(data))


def broken_fields(info: inspect.Type, value: Any) -> Iterator[tuple[str, str]]:
    """Yield name and reason of each field of an undecoded Struct whose decimal is not within its limits."""
    limits = _fields_of(info)
    if not limits or not isinstance(info, inspect.StructType):
        return
    first = 1 if info.array_like and info.tag_field is not None else 0
    given = value if isinstance(value, dict) else {field.encode_name: part for field, part in zip(info.fields, value[first:], strict=False)}
    for field in info.fields:
        number = _decimal(given.get(field.encode_name)) if field.name in limits else None
        for message in () if number is None else _messages(number, limits[field.name]):
            yield field.encode_name, message


def unfit(kind: Any, error: TypeError, place: str = "") -> SetupError:
    """Return the error for a type that msgspec refuses, with the cure."""
    where = _culprit(kind, place, set())
    if where is None:
        said = f"{place}: {error}" if place else str(error)
        return SetupError(f"{said}. Give each a tag, as in class Paid(Struct, tag=True)." if "must be tagged" in said else f"{said}.")
    return SetupError(
        f"{where or kind}: limits on a Decimal hold for a field of a Model and for a parameter of a handler. "
        "Take its Meta away here, and check the value in __post_init__ or where it is used."
    )


def _apart(extra: Any) -> list[Any]:
    """Return a Meta as its limits and its words."""
    if not isinstance(extra, msgspec.Meta):
        return [extra]
    limits = {name: limit for name in NAMES if (limit := getattr(extra, name)) is not None}
    if not limits:
        return [extra]
    words = {name: word for name in _WORDS if (word := getattr(extra, name)) is not None}
    return [Limits(msgspec.Meta(**limits)), *([msgspec.Meta(**words)] if words else [])]


def _is_decimal(plain: Any) -> bool:
    if get_origin(plain) in {Union, types.UnionType}:
        return set(get_args(plain)) == {Decimal, type(None)}
    return plain is Decimal


def _fields_of(info: inspect.Type) -> Mapping[str, tuple[Limits, ...]]:
    found: Mapping[str, tuple[Limits, ...]] = getattr(getattr(info, "cls", None), FIELDS, {})
    return found


def _messages(value: Any, limits: tuple[Limits, ...]) -> Iterator[str]:
    if type(value) is Decimal:
        for each in limits:
            yield from each.broken(value)


def _holds(name: str, value: Decimal, limit: float) -> bool:
    try:
        return _TESTS[name](value, Decimal(str(limit)))
    except InvalidOperation:  # NaN, an infinity that is divided, or more digits than anybody divides
        return False


def _decimal(given: Any) -> Decimal | None:
    if isinstance(given, bool) or not isinstance(given, int | float | str | Number):
        return None
    try:
        found = Decimal(given.text if isinstance(given, Number) else str(given))
    except InvalidOperation:
        return None
    return found if found.is_finite() else None


def _culprit(kind: Any, place: str, seen: set[Any]) -> str | None:
    """Return where in a type a decimal has limits, as in ``Booking.amount``; None if nowhere."""
    if get_origin(kind) is Annotated and translated(kind) is not kind:
        return place
    parts = [(place, part) for part in get_args(kind)]
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind not in seen:
        seen.add(kind)
        parts = [(f"{kind.__qualname__}.{field.name}", field.type) for field in msgspec.structs.fields(kind)]
    return next((found for where, part in parts if (found := _culprit(part, where, seen)) is not None), None)
