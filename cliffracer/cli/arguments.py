"""The arguments of a call as people type them, read and checked by the schema that the method publishes."""

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import msgspec

from cliffracer.cli.output import encodable
from cliffracer.errors import InvalidInput
from cliffracer.nearest import nearest

Schema = Mapping[str, Any]
_NAMES = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null", list: "array", dict: "object"}
_ANYTHING = frozenset(_NAMES.values())


class _Published(msgspec.Struct, rename="camel"):
    """What is read of a JSON Schema, in the shapes that it is read in."""

    ref: str = msgspec.field(name="$ref", default="")
    defs: dict[str, "_Published"] = msgspec.field(name="$defs", default_factory=dict)
    properties: dict[str, "_Published"] = {}
    required: list[str] = []
    any_of: list["_Published"] = []
    one_of: list["_Published"] = []
    enum: list[Any] = []
    type: str | list[str] = ""
    items: "_Published | bool" = True
    prefix_items: list["_Published"] = []
    additional_properties: "_Published | bool" = True
    format: str = ""
    content_encoding: str = ""
    minimum: int | float | None = None
    maximum: int | float | None = None
    exclusive_minimum: int | float | None = None
    exclusive_maximum: int | float | None = None
    min_length: int | float | None = None
    max_length: int | float | None = None
    min_items: int | float | None = None
    max_items: int | float | None = None
    description: str = ""


class Typed:
    """What was typed after ``name=``: what it means depends on what the method takes."""

    def __init__(self, text: str) -> None:
        self.text = text

    def read(self, kinds: frozenset[str] = _ANYTHING) -> Any:
        """Return its value: JSON where that is of one of the kinds, else the text."""
        try:
            value = msgspec.json.decode(self.text)
        except (msgspec.MsgspecError, UnicodeEncodeError, RecursionError):
            return self.text
        if kinds == _ANYTHING:
            return value if value is None or isinstance(value, bool | int | float) else self.text
        return value if kind_of(value) in kinds or (kind_of(value) == "integer" and "number" in kinds) else self.text


class Read(Typed):
    """What stands in a file after ``name=@``: its text where the method takes text."""

    def read(self, kinds: frozenset[str] = _ANYTHING) -> Any:
        """Return the text; its JSON where that is wanted."""
        return self.text if "string" in kinds else super().read(kinds)


def parse(texts: tuple[str, ...]) -> tuple[list[Any], dict[str, Any]]:
    """Return (positional, named) arguments, what depends on the schema as `Typed`; `click.UsageError` for what cannot be read."""
    positional: list[Any] = []
    named: dict[str, Any] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        plain = name.removesuffix(":")
        if sign and plain.isidentifier():
            if plain in named:
                raise click.UsageError(f"{plain} is given twice")
            named[plain] = json_of(value, plain) if name.endswith(":") else typed(value)
        elif text.startswith("@") or text == "-":
            whole = json_of(text, text)
            if not isinstance(whole, dict):
                raise click.UsageError(f"{text} holds no JSON object of named arguments")
            named.update(whole)
        else:
            positional.append(typed(text))
    return positional, named


def fitted(target: str, named: Mapping[str, Any], schema: Schema) -> dict[str, Any]:
    """Return the named arguments as the method takes them; `InvalidInput` with everything that cannot fit."""
    whole = resolved(schema, schema)
    properties: Schema = whole.get("properties", {})
    problems: list[dict[str, str]] = []
    found: dict[str, Any] = {}
    for name, value in named.items():
        if name not in properties:
            problems.append({"path": name, "message": _unknown(name, list(properties))})
            continue
        kinds = kinds_of(properties[name], schema)
        found[name] = value.read(kinds) if isinstance(value, Typed) else value
        if wrong := _misfit(found[name], kinds, resolved(properties[name], schema)):
            problems.append({"path": name, "message": wrong})
    problems += [{"path": name, "message": "is required"} for name in whole.get("required", ()) if name not in named]
    if problems:
        raise InvalidInput(f"{target} {'does not take these arguments' if named else 'needs arguments'}", errors=problems)
    return found


def by_name(
    target: str, positional: list[Any], named: Mapping[str, Any], schema: Schema, order: Sequence[str] | None
) -> dict[str, Any] | None:
    """Return all arguments under their names; None where their order, which not every service publishes, is needed and not known.

    A lone JSON object is all arguments where it can only be meant so. `InvalidInput` for more than the method takes, or one given twice.
    """
    whole = resolved(schema, schema)
    properties: Schema = whole.get("properties", {})
    required = list(whole.get("required", ()))
    first = order[:1] if order is not None else required or list(properties)  # one of these stands first in the function
    alone = _object_of(positional[0]) if len(positional) == 1 and not named else None
    if alone is not None:
        covers = set(required) <= set(alone) <= set(properties)
        if covers or not any("object" in kinds_of(properties[name], schema) for name in first):
            return alone
    if order is None and (len(first) > 1 or len(positional) > 1):
        return None
    return _placed(target, positional, named, list(first) if order is None else list(order))


def _placed(target: str, positional: list[Any], named: Mapping[str, Any], order: list[str]) -> dict[str, Any]:
    problems = [{"path": name, "message": "is given by position and by name"} for name in order[: len(positional)] if name in named]
    if len(positional) > len(order):
        takes = f"it takes {', '.join(order)}" if order else "it takes no arguments"
        problems = [{"path": "", "message": f"{len(positional)} are given by position; {takes}"}]
    if problems:
        raise InvalidInput(f"{target} does not take these arguments", errors=problems)
    return {**dict(zip(order, positional, strict=False)), **named}


def schema_of(text: str | None) -> dict[str, Any] | None:
    """Return a schema that is published as text; None for none, or one of another shape: anybody on NATS may have answered."""
    try:
        msgspec.json.decode(text or "", type=_Published)
        found: dict[str, Any] = msgspec.json.decode(text or "")
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
    return found


def order_of(described: Mapping[str, str]) -> list[str] | None:
    """Return the arguments of a method as they stand in its function; None if it does not publish that: others than ours need not."""
    published = described.get("parameters")
    return None if published is None else [name for name in published.split(",") if name]


def _object_of(value: Any) -> dict[str, Any] | None:
    """Return the JSON object that was typed; None if it is anything else."""
    if not isinstance(value, Typed) or not value.text.lstrip().startswith("{"):
        return None
    try:
        found = msgspec.json.decode(value.text)
    except (msgspec.MsgspecError, UnicodeEncodeError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def unfitted(value: Any) -> Any:
    """Return an argument without a schema: a number, true, false or null where the text is one."""
    return value.read() if isinstance(value, Typed) else value


def kinds_of(schema: Schema, root: Schema, above: tuple[Schema, ...] = ()) -> frozenset[str]:
    """Return the JSON types that a schema lets through, as far as that can be told without a value."""
    schema = resolved(schema, root)
    if any(schema is one for one in above):  # it leads back to itself
        return frozenset()
    for word in ("anyOf", "oneOf"):
        if word in schema:
            return frozenset[str]().union(*(kinds_of(one, root, (*above, schema)) for one in schema[word])) or _ANYTHING
    if "enum" in schema:
        return frozenset(kind_of(one) for one in schema["enum"])
    if "const" in schema:
        return frozenset({kind_of(schema["const"])})
    kind = schema.get("type")
    return _ANYTHING if kind is None else frozenset({kind} if isinstance(kind, str) else kind)


def resolved(schema: Schema, root: Schema) -> Schema:
    """Return what a ``$ref`` to ``$defs`` stands for; of one that leads nowhere, a schema that lets everything through."""
    for _ in range(8):
        if "$ref" not in schema:
            return schema
        schema = root.get("$defs", {}).get(schema["$ref"].removeprefix("#/$defs/"), {})
    return {}


def kind_of(value: Any) -> str:
    """Return the JSON type of a value."""
    return _NAMES.get(type(value), "object")


def typed(text: str) -> Any:
    """Return what was typed, or stands in ``@file``; `click.UsageError` for bytes that are no text."""
    if text.startswith("@"):
        return Read(_read(text))
    if encodable(text) != text:
        raise click.UsageError(f"{encodable(text)} is not UTF-8")
    return Typed(text)


def json_of(text: str, name: str, hint: str = "") -> Any:
    """Return a JSON value, also from ``@file`` or standard input (``-``); `click.UsageError` for what is none."""
    try:
        return msgspec.json.decode(_read(text) if text.startswith("@") or text == "-" else text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise click.UsageError(f"{name} is no JSON: {hint or error}") from None


def _read(text: str) -> str:
    if text == "-":
        return sys.stdin.read()
    name = text[1:]
    try:
        return Path(name).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise click.UsageError(
            f"{name} is no text in UTF-8. Bytes go as base64: base64 < {shlex.quote(name)} | tr -d '\\n' > FILE, and then @FILE"
        ) from None
    except OSError as error:
        raise click.UsageError(f"{name} cannot be read: {error.strerror or error}") from None


def _misfit(value: Any, kinds: frozenset[str], schema: Schema) -> str:
    kind = kind_of(value)
    if kind not in kinds and not (kind == "integer" and "number" in kinds):
        return f"expected {' or '.join(sorted(kinds))}, got {_quoted(value)}"
    if "enum" in schema and value not in schema["enum"]:
        return f"expected one of {', '.join(msgspec.json.encode(one).decode() for one in schema['enum'])}, got {_quoted(value)}"
    return ""


def _unknown(name: str, known: list[str]) -> str:
    near = nearest(name, known)
    if near:
        return f"there is no such argument; did you mean {near}?"
    return f"there is no such argument; it takes {', '.join(known)}" if known else "it takes no arguments"


def _quoted(value: Any) -> str:
    text = msgspec.json.encode(value).decode()
    return f"{kind_of(value)} {text if len(text) <= 60 else text[:59] + '…'}"
