"""JSON Schema 2020-12 of the types in signatures, for discovery and for OpenAPI.

Like `msgspec.json.schema_components`, but for all types: one that only a hook can decode may be anything, a default that cannot be
encoded is left out, and types with the same name and module, such as generated ones, get distinct names.
"""

import hashlib
import inspect as python
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec import inspect

from cliffracer.wire.kinds import annotation, bare, choices_of, inside

DIALECT = "https://json-schema.org/draft/2020-12/schema"
Schema = dict[str, Any]
Named = inspect.StructType | inspect.TypedDictType | inspect.DataclassType | inspect.NamedTupleType | inspect.EnumType


def schemas(kinds: Iterable[Any], ref_template: str = "#/$defs/{name}") -> tuple[list[Schema], dict[str, Schema]]:
    """Return the schema of each type, and those that they refer to by name; names are unique within one call."""
    infos = [_info_of(kind) for kind in kinds]
    named = _named_in(infos)
    writer = _Writer({cls: ref_template.format(name=name) for name, (cls, _) in named.items()})
    return [writer.of(info) for info in infos], {name: writer.whole(info) for name, (_, info) in named.items()}


def schema(kind: Any) -> Schema:
    """Return the schema of one type as a document of its own."""
    (found,), components = schemas([kind])
    return {"$schema": DIALECT, **found, **({"$defs": components} if components else {})}


def canonical(document: Schema) -> str:
    """Return a schema as canonical text, the same in every process: keys sorted, no blanks."""
    return msgspec.json.encode(document, order="deterministic").decode()


def digest(*texts: str) -> str:
    """Return 16 hex digits that differ when any of the texts does."""
    whole = hashlib.sha256()
    for text in texts:
        data = text.encode()
        whole.update(len(data).to_bytes(8) + data)
    return whole.hexdigest()[:16]


def _info_of(kind: Any) -> inspect.Type:
    try:
        return inspect.type_info(kind)
    except TypeError:  # nothing that msgspec decodes: no schema, as of a type of the user's own
        return inspect.AnyType()


def _named_in(infos: list[inspect.Type]) -> dict[str, tuple[Any, Named]]:
    """Return the classes in types with the names of their schemas: short if unique, else with the module, else numbered."""
    found: dict[Any, Named] = {}
    todo = list(map(bare, infos))
    for info in todo:  # grows while it is walked
        if isinstance(info, Named):
            if info.cls in found:
                continue
            found[info.cls] = info
        todo += inside(info)
    short = [_name_of(cls) for cls in found]
    often = Counter(short)
    names: dict[str, tuple[Any, Named]] = {}
    for (cls, info), name in zip(found.items(), short, strict=True):
        unique = name if often[name] == 1 else _plain(f"{cls.__module__}.{cls.__qualname__}")
        number = 1
        while (unique if number == 1 else f"{unique}_{number}") in names:
            number += 1
        names[unique if number == 1 else f"{unique}_{number}"] = (cls, info)
    return names


def _name_of(cls: Any) -> str:
    origin = getattr(cls, "__origin__", None)
    if origin is None:
        return _plain(cls.__name__)
    parts = ", ".join(part.__name__ if isinstance(part, type) else repr(part) for part in cls.__args__)
    return _plain(f"{origin.__name__}[{parts}]")


def _plain(name: str) -> str:
    return re.sub(r"[^a-zA-Z0-9.\-_]", "_", name)


_FIXED: dict[type[inspect.Type], Schema] = {
    inspect.NoneType: {"type": "null"},
    inspect.BoolType: {"type": "boolean"},
    inspect.IntType: {"type": "integer"},
    inspect.FloatType: {"type": "number"},
    inspect.StrType: {"type": "string"},
    inspect.DateTimeType: {"type": "string"},
    inspect.TimeType: {"type": "string"},
    inspect.DateType: {"type": "string", "format": "date"},
    inspect.TimeDeltaType: {"type": "string", "format": "duration"},
    inspect.UUIDType: {"type": "string", "format": "uuid"},
    inspect.DecimalType: {"type": "string", "format": "decimal"},
    inspect.BytesType: {"type": "string", "contentEncoding": "base64"},
    inspect.ByteArrayType: {"type": "string", "contentEncoding": "base64"},
    inspect.MemoryViewType: {"type": "string", "contentEncoding": "base64"},
}
_LIMITS = {
    "ge": "minimum",
    "gt": "exclusiveMinimum",
    "le": "maximum",
    "lt": "exclusiveMaximum",
    "multiple_of": "multipleOf",
    "pattern": "pattern",
}
_ZONED = {(inspect.DateTimeType, True): "date-time", (inspect.TimeType, True): "time", (inspect.TimeType, False): "partial-time"}


def _limits_of(info: inspect.Type) -> Schema:
    found = {word: limit for name, word in _LIMITS.items() if (limit := getattr(info, name, None)) is not None}
    suffix = "Items" if isinstance(info, inspect.CollectionType) else "Properties" if isinstance(info, inspect.DictType) else "Length"
    binary = isinstance(info, inspect.BytesType | inspect.ByteArrayType | inspect.MemoryViewType)
    for edge in ("min", "max"):
        limit = getattr(info, f"{edge}_length", None)
        if limit is not None:
            found[edge + suffix] = 4 * ((limit + 2) // 3) if binary else limit
    zone = _ZONED.get((type(info), getattr(info, "tz", None)))  # type: ignore[arg-type]  # two of the keys' types, or none
    return found | ({"format": zone} if zone else {})


class _Writer:
    """Writes schemas, with references to the classes that have names."""

    __slots__ = ("_refs",)

    def __init__(self, refs: Mapping[Any, str]) -> None:
        self._refs = refs

    def of(self, info: inspect.Type) -> Schema:
        """Return the schema of a type: a reference where it has a name."""
        said: Schema = {}
        while isinstance(info, inspect.Metadata):
            said = (info.extra_json_schema or {}) | said
            info = info.type
        if isinstance(info, Named) and info.cls in self._refs:
            return {**said, "$ref": self._refs[info.cls]}
        return {**self._plain(info), **_limits_of(info), **said}

    def _plain(self, info: inspect.Type) -> Schema:
        match info:
            case inspect.LiteralType():
                return {"enum": choices_of(info)}
            case inspect.TupleType():
                return _array([self.of(part) for part in info.item_types], len(info.item_types), closed=True)
            case inspect.CollectionType():
                unique = {"uniqueItems": True} if isinstance(info, inspect.SetType | inspect.FrozenSetType) else {}
                return {"type": "array", **self._under("items", info.item_type), **unique}
            case inspect.DictType():
                keys = self.of(info.key_type) if isinstance(bare(info.key_type), inspect.StrType) else {}
                names = {name: limit for name, limit in keys.items() if name != "type"}
                return {
                    "type": "object",
                    **({"propertyNames": names} if names else {}),
                    **self._under("additionalProperties", info.value_type),
                }
            case inspect.UnionType():
                return self._union(info)
            case _:
                unknown = {"title": getattr(info.cls, "__name__", str(info.cls))} if isinstance(info, inspect.CustomType) else {}
                return _FIXED.get(type(info), unknown)

    def _under(self, word: str, info: inspect.Type) -> Schema:
        return {} if isinstance(info, inspect.AnyType) else {word: self.of(info)}

    def _union(self, info: inspect.UnionType) -> Schema:
        options = sorted(info.types, key=lambda option: isinstance(bare(option), inspect.NoneType))  # null comes last
        found: Schema = {"anyOf": [self.of(option) for option in options]}
        tagged = [part for part in map(bare, options) if isinstance(part, inspect.StructType) and not part.array_like]
        if len(tagged) > 1 and len(tagged) == len(options):
            found["discriminator"] = {"propertyName": tagged[0].tag_field, "mapping": {part.tag: self._refs[part.cls] for part in tagged}}
        return found

    def whole(self, info: Named) -> Schema:
        """Return the schema of a class, under its name."""
        said: Schema = {"title": _title_of(info.cls)}
        if words := _words_of(info.cls):
            said["description"] = words
        if isinstance(info, inspect.EnumType):
            return {**said, "enum": sorted(choices_of(info) or (), key=str)}
        fields = {field.encode_name: self.of(field.type) | _default_of(field) for field in info.fields}
        required = [field.encode_name for field in info.fields if field.required]
        if isinstance(info, inspect.StructType) and info.tag_field is not None:
            fields = {info.tag_field: {"enum": [info.tag]}} | fields
            required = [info.tag_field, *required]
        closed = isinstance(info, inspect.NamedTupleType) or bool(getattr(info, "forbid_unknown_fields", False))
        if isinstance(info, inspect.NamedTupleType) or getattr(info, "array_like", False):
            return said | _array(list(fields.values()), len(required), closed=closed)
        shut = {"additionalProperties": False} if closed else {}
        return {**said, "type": "object", "properties": fields, "required": required, **shut}


def _array(items: list[Schema], least: int, *, closed: bool) -> Schema:
    most: Schema = {"maxItems": len(items)} if closed else {}
    return {"type": "array", **({"prefixItems": items} if items else {}), "minItems": least, **most}


def _default_of(field: inspect.Field) -> Schema:
    made = field.default_factory in (list, dict, set, bytearray)
    if field.required or (field.default is msgspec.NODEFAULT and not made):
        return {}
    return written_default(field.default_factory() if made else field.default, annotation(field.type))


def written_default(default: Any, kind: Any) -> Schema:
    """Return ``default`` as JSON has it; nothing where it cannot be written, or the type does not allow it, as of ``page: int = None``."""
    try:
        written = json.loads(msgspec.json.encode(default))
        msgspec.convert(written, kind, str_keys=True)
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError):  # a lock, a secret: not for publication
        return {}
    return {"default": written}


def _title_of(cls: Any) -> str:
    origin = getattr(cls, "__origin__", None)
    return (
        cls.__name__ if origin is None else f"{origin.__name__}[{', '.join(getattr(part, '__name__', str(part)) for part in cls.__args__)}]"
    )


def _words_of(cls: Any) -> str:
    """Return the docstring of a class unless it was generated."""
    cls = getattr(cls, "__origin__", cls)
    words = python.cleandoc(cls.__doc__ or "")
    generated = words == "An enumeration." or (words.startswith(f"{cls.__name__}(") and words.endswith(")"))
    return "" if generated else words
