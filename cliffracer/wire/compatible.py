"""Compatibility of a writer and a reader by their JSON Schemas (2020-12, as `wire.schema` makes them).

Checked is what a change of a signature can do: types, fields, choices, bounds, items. Where nothing can be decided (a different
pattern, a user-defined type) they are assumed to be compatible, unless they contradict each other.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

Schema = Mapping[str, Any]
_KINDS = ("null", "boolean", "integer", "number", "string", "array", "object")
_BOUNDS = {
    "minimum": 1, "exclusiveMinimum": 1, "minLength": 1, "minItems": 1,
    "maximum": -1, "exclusiveMaximum": -1, "maxLength": -1, "maxItems": -1,
}  # fmt: skip
"""1: a reader that requires more than the writer guarantees is incompatible; -1: one that requires less."""
_DEEPEST = 12


class Misfit(NamedTuple):
    """One incompatibility of what is written with what is read."""

    path: str
    text: str


class Side:
    """One schema with its ``$defs``."""

    def __init__(self, schema: Schema, root: Schema | None = None) -> None:
        self.root = schema if root is None else root
        for _ in range(8):
            name = schema.get("$ref", "")
            if not name.startswith("#/$defs/"):
                break
            schema = self.root.get("$defs", {}).get(name.removeprefix("#/$defs/"), {})
        self.schema = schema

    def at(self, schema: Schema) -> "Side":
        """Return a part of this schema."""
        return Side(schema, self.root)

    @property
    def options(self) -> list["Side"]:
        """The alternatives of which one has to match; the schema itself if there are none."""
        parts = self.schema.get("anyOf") or self.schema.get("oneOf")
        return [self.at(part) for part in parts] if parts else [self]

    @property
    def kinds(self) -> frozenset[str]:
        """The JSON types that it allows."""
        if "enum" in self.schema or "const" in self.schema:
            return frozenset(_kind(value) for value in self.values or ())
        kind = self.schema.get("type")
        return frozenset(_KINDS if kind is None else [kind] if isinstance(kind, str) else kind)

    @property
    def values(self) -> list[Any] | None:
        """The values that it allows; None if they are not enumerated."""
        if "const" in self.schema:
            return [self.schema["const"]]
        found: list[Any] | None = self.schema.get("enum")
        return found

    @property
    def properties(self) -> Schema:
        """Its fields."""
        found: Schema = self.schema.get("properties", {})
        return found

    @property
    def required(self) -> frozenset[str]:
        """Its required fields."""
        return frozenset(self.schema.get("required", ()))


def misfits(written: Schema, read: Schema, *, answer: bool = False) -> list[Misfit]:
    """Return how values that match ``written`` may not match ``read``; empty if all do.

    ``answer``: values are encoded by us, with every field in them, so a reader may rely on each, required or not.
    """
    return list(_compared(Side(written), Side(read), "", 0, answer=answer))


def shut(before: Schema, now: Schema) -> list[Misfit]:
    """Return the paths at which unknown fields used to be accepted and are refused now; whether anybody sends some cannot be told."""
    return list(_shut(Side(before), Side(now), "", set()))


def _shut(before: Side, now: Side, path: str, seen: set[tuple[int, int]]) -> Iterator[Misfit]:
    alone = all(len([one for one in side.options if one.properties]) == 1 for side in (before, now))  # else each with that of its name
    for old, new in ((old, new) for new in now.options for old in before.options):
        if not alone and old.schema.get("title") != new.schema.get("title"):
            continue
        pair = id(old.schema), id(new.schema)
        if pair in seen:  # a recursive type
            continue
        seen.add(pair)
        if new.schema.get("additionalProperties") is False and old.properties and old.schema.get("additionalProperties") is not False:
            yield Misfit(path, "fields that are not known are refused now")
        for name in [name for name in new.properties if name in old.properties]:
            yield from _shut(old.at(old.properties[name]), new.at(new.properties[name]), _under(path, name), seen)
        items = old.schema.get("items"), new.schema.get("items")
        if isinstance(items[0], dict) and isinstance(items[1], dict):
            yield from _shut(old.at(items[0]), new.at(items[1]), f"{path}[]", seen)


def _compared(written: Side, read: Side, path: str, depth: int, *, answer: bool) -> Iterator[Misfit]:
    if depth > _DEEPEST or not read.schema:
        return
    if len(written.options) > 1 or len(read.options) > 1:
        yield from _choices(written, read, path, depth, answer=answer)
        return
    missing = written.kinds - read.kinds - ({"integer"} if "number" in read.kinds else set())
    if missing:
        yield Misfit(path, f"{_words(missing)} where {_words(read.kinds)} is expected")
        return
    if read.values is not None:
        others = [value for value in written.values or () if value not in read.values]
        if written.values is None or others:
            listed = ", ".join(map(repr, read.values))
            yield Misfit(path, f"{', '.join(map(repr, others)) or 'any ' + _words(written.kinds)} where one of {listed} is expected")
        return
    yield from _bounds(written, read, path)
    if "object" in written.kinds and "object" in read.kinds:
        yield from _fields(written, read, path, depth, answer=answer)
    if "array" in written.kinds and isinstance(read.schema.get("items"), dict):
        items = written.schema.get("items")
        yield from _compared(
            written.at(items if isinstance(items, dict) else {}), read.at(read.schema["items"]), f"{path}[]", depth + 1, answer=answer
        )


def _choices(written: Side, read: Side, path: str, depth: int, *, answer: bool) -> Iterator[Misfit]:
    """Each written alternative has to match one of those that are read; if none does, the nearest is reported."""
    for option in written.options:
        tries = [list(_compared(option, one, path, depth + 1, answer=answer)) for one in read.options]
        if all(tries):
            alike = [found for one, found in zip(read.options, tries, strict=True) if one.kinds & option.kinds]
            if alike:
                yield from min(alike, key=len)
            else:
                expected = frozenset[str]().union(*(one.kinds for one in read.options))
                yield Misfit(path, f"{_words(option.kinds)} where {_words(expected)} is expected")


def _fields(written: Side, read: Side, path: str, depth: int, *, answer: bool) -> Iterator[Misfit]:
    for name in read.properties if answer else sorted(read.required):
        if name not in written.properties and not written.schema.get("additionalProperties"):
            yield Misfit(_under(path, name), "is not there")
        elif name in read.required and name not in written.required and not answer:
            yield Misfit(_under(path, name), "may be left out, and is required")
    for name, schema in written.properties.items():
        if name in read.properties:
            yield from _compared(written.at(schema), read.at(read.properties[name]), _under(path, name), depth + 1, answer=answer)
        elif read.schema.get("additionalProperties") is False:
            yield Misfit(_under(path, name), "is not taken")
        elif isinstance(read.schema.get("additionalProperties"), dict):
            yield from _compared(
                written.at(schema), read.at(read.schema["additionalProperties"]), _under(path, name), depth + 1, answer=answer
            )
    mine, theirs = written.schema.get("additionalProperties"), read.schema.get("additionalProperties")
    if isinstance(mine, dict) and isinstance(theirs, dict):
        yield from _compared(written.at(mine), read.at(theirs), _under(path, "*"), depth + 1, answer=answer)


def _bounds(written: Side, read: Side, path: str) -> Iterator[Misfit]:
    for word, sign in _BOUNDS.items():
        wanted, given = read.schema.get(word), written.schema.get(word)
        if wanted is not None and (given is None or (wanted - given) * sign > 0):
            yield Misfit(path, f"{word} {wanted} is expected, {'nothing of the kind' if given is None else given} is promised")
    wanted = read.schema.get("pattern")
    if wanted is not None and wanted != written.schema.get("pattern"):
        yield Misfit(path, f"pattern {wanted} is expected")


def _under(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _words(kinds: frozenset[str] | set[str]) -> str:
    ordered = [kind for kind in _KINDS if kind in kinds]
    return "anything" if len(ordered) == len(_KINDS) else " or ".join(ordered)


def _kind(value: Any) -> str:
    kinds = {bool: "boolean", int: "integer", float: "number", str: "string", type(None): "null", list: "array"}
    return kinds.get(type(value), "object")
