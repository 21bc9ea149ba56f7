"""Walks a value part by part, each with its expected type and path; and finds what is missing, unknown or too much."""

from collections.abc import Iterable, Iterator
from typing import Any

from msgspec import inspect

from cliffracer.errors import FieldError
from cliffracer.wire import wording
from cliffracer.wire.kinds import Object
from cliffracer.wire.wording import item, member

Part = tuple[inspect.Type, Any, str]


class Full(Exception):
    """The limit of errors is reached."""


class Findings:
    """The errors found so far, up to a limit; none is added for a path that has one already."""

    __slots__ = ("_known", "count", "errors", "limit", "thorough")

    def __init__(self, limit: int, known: Iterable[FieldError], *, thorough: bool) -> None:
        self.limit = limit
        self.errors = list(known)
        self.thorough = thorough
        """Whether to look into valid parts, too, for a number that msgspec accepts and we do not."""
        self.count = 0
        self._known = frozenset(error.path for error in self.errors)

    def add(self, path: str, message: str) -> None:
        """Add an error; `Full` beyond the limit."""
        self.count += 1
        if path in self._known:
            return
        if len(self.errors) >= self.limit:
            raise Full
        self.errors.append(FieldError(path, message))


def parts(info: inspect.Type, value: Any, path: str, found: Findings) -> Iterator[Part]:
    """Yield (type, value, path) of what an object or a tuple of the right kind holds."""
    match info:
        case inspect.StructType(array_like=False) | inspect.TypedDictType() | inspect.DataclassType():
            yield from _fields(info, value, path, found)
        case inspect.StructType() | inspect.NamedTupleType():
            yield from _positions(info, value, path, found)
        case inspect.TupleType():
            if len(value) != len(info.item_types):
                found.add(path, f"must have {wording.items(len(info.item_types))}")
            yield from ((kind, part, item(path, i)) for i, (kind, part) in enumerate(zip(info.item_types, value, strict=False)))


def _fields(info: Object, value: dict[Any, Any], path: str, found: Findings) -> Iterator[Part]:
    known = {field.encode_name for field in info.fields}
    if isinstance(info, inspect.StructType) and info.tag_field is not None:
        known.add(info.tag_field)
        if value.get(info.tag_field, info.tag) != info.tag:
            found.add(member(path, info.tag_field), f"expected {wording.one_of([info.tag])}")
    for field in info.fields:
        if field.encode_name in value:
            yield field.type, value[field.encode_name], member(path, field.encode_name)
        elif field.required:
            found.add(member(path, field.encode_name), "is required")
    if isinstance(info, inspect.StructType) and info.forbid_unknown_fields:
        for name in value:
            if name not in known:
                found.add(member(path, name), wording.unknown(name, known))


def _positions(info: inspect.StructType | inspect.NamedTupleType, value: list[Any], path: str, found: Findings) -> Iterator[Part]:
    given = value
    if isinstance(info, inspect.StructType) and info.tag_field is not None:
        given = value[1:]
        if value and value[0] != info.tag:
            found.add(item(path, 0), f"expected {wording.one_of([info.tag])}")
    for field, part in zip(info.fields, given, strict=False):
        yield field.type, part, member(path, field.encode_name)
    for field in info.fields[len(given) :]:
        if field.required:
            found.add(member(path, field.encode_name), "is required")
    closed = info.forbid_unknown_fields if isinstance(info, inspect.StructType) else True
    if closed and len(given) > len(info.fields):
        found.add(path, f"must have at most {wording.items(len(info.fields))}")
