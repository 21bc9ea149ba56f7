"""``cliffracer client``: a Python module with the types and methods of a service that runs, made from what it publishes."""

import asyncio
import builtins
import json
import keyword
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from cliffracer import __version__
from cliffracer.cli.arguments import order_of, resolved, schema_of
from cliffracer.cli.look import nobody
from cliffracer.cli.output import hand_over, print_json, printable
from cliffracer.cli.reach import looked_at, permitted, reach_settings, reached
from cliffracer.errors import SetupError

Schema = Mapping[str, Any]
_WIDE = 120
_PLAIN = {"integer": "int", "number": "float", "boolean": "bool", "null": "None"}
_FORMATS = {
    "date-time": ("datetime", "datetime"),
    "date": ("datetime", "date"),
    "time": ("datetime", "time"),
    "partial-time": ("datetime", "time"),
    "duration": ("datetime", "timedelta"),
    "uuid": ("uuid", "UUID"),
    "decimal": ("decimal", "Decimal"),
}
_TAKEN = frozenset({"Any", "AsyncIterator", "Callable", "Caller", "Decimal", "Literal", "Protocol", "T", "TypeVar", "UUID"})


def client(*, service: str, output: str | None, as_json: bool = False) -> None:
    """Print or write the module."""
    settings = reach_settings()

    async def ask() -> tuple[str, dict[str, dict[str, str]]]:
        async with reached(settings) as connected:
            infos = await connected.directory.ask("INFO", service)
            schemas = await connected.directory.schemas(service)
            permitted(connected, "$SRV.INFO", "$SRV.SCHEMA")
            if not schemas:
                raise SetupError(await nobody(connected, service, looked_at(settings), "that publishes its schemas is running"))
            return (infos[0].version if infos else ""), schemas

    version, schemas = asyncio.run(ask())
    try:
        text = Module(service, version, schemas).text()
    except RecursionError:
        raise SetupError(f"A schema of {service} leads back to itself without an end.") from None
    if output is not None or not as_json:
        hand_over(text, output, as_json=as_json)
        return
    methods = {name: {key: _value(key, one) for key, one in told.items()} for name, told in sorted(schemas.items())}
    print_json({"service": service, "version": version, "methods": methods, "module": text})


def _value(key: str, text: str) -> Any:
    """Return what is published of a method as JSON has it."""
    if key == "parameters":
        return [name for name in text.split(",") if name]
    return json.loads(text) if key.endswith("_schema") else text == "true" if key == "streams" else text


class Taken(NamedTuple):
    """A method, and what it takes."""

    name: str
    parameters: list[str]
    given: str
    """The dict that sends them."""
    streams: bool
    summary: str


class Module:
    """The text of one client: types first, then a class with a method for each of the service's."""

    def __init__(self, service: str, version: str, schemas: dict[str, dict[str, str]], shadowed: Iterable[str] = ()) -> None:
        self._service = service
        self._client = f"{made}Client" if (made := _class_name(service)) in _TAKEN else made
        self._version = version
        self._schemas = schemas
        self._imports: set[tuple[str, str]] = {("typing", "Any"), ("typing", "Protocol")}
        self._types: dict[str, str] = {}
        """Text of each class, by name, in the order in which they are needed."""
        self._names: dict[str, str] = {}
        """Of each schema of a class, as JSON, the name that it has here."""
        self._sent = True
        """Whether what is written now is sent, and may leave fields out; what comes back has all of them."""
        self._members: set[str] = set()
        """Names of methods, of what they take, and of fields."""
        self._words: set[str] = set()
        """Names of types."""
        self._shadowed = frozenset(shadowed)
        """Types that some member has the name of: they are written with an underscore before it."""

    def text(self) -> str:
        """Return the module."""
        text = self._text_of_all()
        both = self._members & self._words
        return Module(self._service, self._version, self._schemas, both).text() if both - self._shadowed else text

    def _text_of_all(self) -> str:
        texts = sorted(self._schemas.items())
        methods = [(name, one, self._published(name, one, "request"), self._published(name, one, "response")) for name, one in texts]
        taken = [
            Taken(name, *self._parameters(request, order_of(one)), "streams" in one, one.get("summary", ""))
            for name, one, request, _ in methods
        ]
        self._sent = False
        returned = [self._kind(response, response) for *_, response in methods]
        body = [self._method(one, returns) for one, returns in zip(taken, returned, strict=True)]
        version = _quoted(self._version)
        head = f'"""Calls {self._service} {version}. Written by cliffracer {__version__}; write it again when the service changes."""'
        streams = any(one.streams for one in taken)
        imported = self._imported() + ('\n\nT = TypeVar("T")' if streams else "")
        carried = [_CALLER + (_STREAMS if streams else ""), _CALL, *([_STREAM] if streams else [])]
        again = "\n".join(f"_{name} = {name}" for name in self._types if name in self._shadowed)
        parts = [imported, *carried, *self._types.values(), *([again] if again else []), self._class(body)]
        return f"{head}\n\nfrom __future__ import annotations\n\n" + "\n\n\n".join(parts) + "\n"

    def _published(self, method: str, told: dict[str, str], kind: str) -> Schema:
        schema = schema_of(told.get(f"{kind}_schema"))
        if schema is None:
            raise SetupError(f"{self._service} publishes no {kind} schema of {printable(method)} that can be read.")
        return schema

    def _imported(self) -> str:
        built_in = {("builtins", name) for name in self._shadowed & self._words if hasattr(builtins, name)}
        plain: dict[str, list[str]] = {}
        lines = []
        for module, name in sorted(self._imports | built_in):
            if name in self._shadowed:
                lines.append(f"from {module} import {name} as _{name}")
            else:
                plain.setdefault(module, []).append(name)
        lines += [f"from {module} import {', '.join(names)}" for module, names in plain.items()]
        return "\n".join(sorted(lines, key=lambda line: (line.split()[1], " as " not in line))) + "\n\nimport msgspec"

    def _class(self, methods: list[str]) -> str:
        name = self._client
        head = f'class {name}:\n    """``{name}(app)`` in a service, ``{name}(client)`` with `cliffracer.connect_async`."""\n\n'
        return head + "    def __init__(self, caller: Caller) -> None:\n        self._caller = caller\n\n" + "\n\n".join(methods)

    def _parameters(self, request: Schema, order: list[str] | None) -> tuple[list[str], str]:
        """Return the parameters of a method, and the dict that sends them; by name only where their order is not known."""
        whole = resolved(request, request)
        fields = _ordered(whole)
        if order is not None:
            fields.sort(key=lambda field: order.index(field[0]) if field[0] in order else len(order))
        self._members |= {_safe(field) for field, _, _ in fields}
        given = ", ".join(f"{json.dumps(field)}: {_safe(field)}" for field, _, _ in fields)
        listed = [f"{_safe(field)}: {self._field(schema, request, required=required)}" for field, schema, required in fields]
        return ([] if order is not None or not fields else ["*"]) + listed, f"{{{given}}}"

    def _method(self, taken: "Taken", returns: str) -> str:
        parameters = ["self", *taken.parameters]
        self._members.add(_safe(taken.name))
        kind, comes = ("", f"AsyncIterator[{returns}]") if taken.streams else ("async ", returns)
        head = f"    {kind}def {_safe(taken.name)}({', '.join(parameters)}) -> {comes}:"
        if len(head) > _WIDE:
            lines = "".join(f"        {one},\n" for one in parameters)
            head = f"    {kind}def {_safe(taken.name)}(\n{lines}    ) -> {comes}:"
        head += f'\n        """{_quoted(taken.summary)}"""' if taken.summary else ""
        target = f"self._caller, {json.dumps(f'{self._service}.{taken.name}')}, {taken.given}"
        if taken.streams:
            self._imports |= {("collections.abc", "AsyncIterator"), ("collections.abc", "Callable"), ("typing", "TypeVar")}
            return f"{head}\n        return _stream({target}, lambda item: msgspec.convert(item, {returns}))"
        if returns == "None":
            return f"{head}\n        await _call({target})"
        return f"{head}\n        reply = await _call({target})\n        return msgspec.convert(reply, {returns})"

    def _field(self, schema: Schema, root: Schema, *, required: bool, struct: bool = False) -> str:
        kind = self._kind(schema, root)
        if required or not self._sent:
            return kind
        default = schema.get("default", schema)
        if default is None or isinstance(default, str | int | float) or (struct and default in ([], {})):
            return f"{kind} = {_literal(default)}"
        return f"{kind} | msgspec.UnsetType = msgspec.UNSET"

    def _kind(self, schema: Schema, root: Schema) -> str:
        """Return the annotation for a schema; a class is written for an object with properties."""
        if "$ref" in schema:
            return self._named(schema["$ref"].rpartition("/")[2], resolved(schema, root), root)
        for word in ("anyOf", "oneOf"):
            if word in schema:
                return " | ".join(dict.fromkeys(self._kind(one, root) for one in schema[word]))
        if "enum" in schema or "const" in schema:
            self._imports.add(("typing", "Literal"))
            return f"{self._word('Literal')}[{', '.join(map(_literal, schema.get('enum', [schema.get('const')])))}]"
        return self._of_type(schema, root)

    def _of_type(self, schema: Schema, root: Schema) -> str:
        kind = schema.get("type")
        if isinstance(kind, list):
            return " | ".join(self._kind({**schema, "type": one}, root) for one in kind)
        if kind == "array":
            if "prefixItems" in schema:
                return f"{self._word('tuple')}[{', '.join(self._kind(one, root) for one in schema['prefixItems']) or '()'}]"
            items = schema.get("items")
            return f"{self._word('list')}[{self._kind(items if isinstance(items, dict) else {}, root)}]"
        if kind == "object":
            values = schema.get("additionalProperties")
            item = self._kind(values, root) if isinstance(values, dict) else self._word("Any")
            return f"{self._word('dict')}[{self._word('str')}, {item}]"
        if kind == "string":
            return self._text(schema)
        return self._word(_PLAIN.get(str(kind), "Any"))

    def _word(self, name: str) -> str:
        """Return how a type is written here."""
        self._words.add(name)
        return f"_{name}" if name in self._shadowed else name

    def _text(self, schema: Schema) -> str:
        if schema.get("contentEncoding") == "base64":
            return self._word("bytes")
        module, name = _FORMATS.get(schema.get("format", ""), ("", "str"))
        if module:
            self._imports.add((module, name))
        return self._word(name)

    def _named(self, name: str, schema: Schema, root: Schema) -> str:
        if not schema.get("properties"):
            return self._kind(schema, root)
        key = msgspec.json.encode([name, schema], order="deterministic").decode()
        if key in self._names:
            return self._word(self._names[key])
        taken = {*self._names.values(), *_TAKEN, self._client}
        wanted = _class_name(name)
        unique = next(one for one in (wanted, *(f"{wanted}{number}" for number in range(2, 1000))) if one not in taken)
        self._names[key] = unique
        self._types[unique] = self._struct(unique, schema, root)
        return self._word(unique)

    def _struct(self, name: str, schema: Schema, root: Schema) -> str:
        words = _quoted(schema.get("description", "").strip())
        lines = [f'    """{words}"""\n'] if words else []
        fields = _ordered(schema)
        self._members |= {_safe(field) for field, _, _ in fields}
        lines += [f"    {_safe(field)}: {self._field(one, root, required=required, struct=True)}" for field, one, required in fields]
        renamed = {_safe(field): field for field, _, _ in fields if _safe(field) != field}
        options = f", rename={json.dumps(renamed)}" if renamed else ""
        return f"class {name}(msgspec.Struct, kw_only=True{options}):\n" + "\n".join(lines)


_CALLER = '''class Caller(Protocol):
    """What carries the calls: an `App`, or the client of `cliffracer.connect_async`."""

    async def call(self, target: str, /, *args: Any, **kwargs: Any) -> Any: ...'''
_STREAMS = """

    def stream(self, target: str, /, *args: Any, **kwargs: Any) -> AsyncIterator[Any]: ..."""
_CALL = """async def _call(caller: Caller, target: str, arguments: dict[str, Any]) -> Any:
    return await caller.call(target, **{name: value for name, value in arguments.items() if value is not msgspec.UNSET})"""
_STREAM = """async def _stream(caller: Caller, target: str, arguments: dict[str, Any], read: Callable[[Any], T]) -> AsyncIterator[T]:
    given = {name: value for name, value in arguments.items() if value is not msgspec.UNSET}
    async for item in caller.stream(target, **given):
        yield read(item)"""


def _ordered(schema: Schema) -> list[tuple[str, Schema, bool]]:
    """Return name, schema and whether it must be given of each property, those that must first."""
    required = set(schema.get("required", ()))
    return sorted(((name, one, name in required) for name, one in schema.get("properties", {}).items()), key=lambda field: not field[2])


def _quoted(text: str) -> str:
    """Return text as it stands in a docstring."""
    return text.replace("\\", "\\\\").replace('"', "'")


def _literal(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def _class_name(name: str) -> str:
    words = re.split(r"[^A-Za-z0-9]+", name)
    made = "".join(word[:1].upper() + word[1:] for word in words) or "Type"
    made = made if made[0].isalpha() else f"T{made}"
    return f"{made}_" if keyword.iskeyword(made) else made


def _safe(name: str) -> str:
    made = re.sub(r"\W", "_", name)
    made = f"_{made}" if made[:1].isdigit() or not made else made
    return f"{made}_" if keyword.iskeyword(made) or made in {"self", "msgspec"} else made
