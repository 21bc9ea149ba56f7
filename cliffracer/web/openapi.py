"""The OpenAPI 3.1 document of a server, from the same signatures that bind its requests."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, count
from typing import Any, get_args

import msgspec
from starlette.responses import Response

from cliffracer.assembly import Assembly
from cliffracer.checking import Declared
from cliffracer.declarations import Route
from cliffracer.settings import Settings
from cliffracer.shapes import PATH_PARAMETER, Shape, external_name, is_upload
from cliffracer.signature import Parameter, Signature, arguments_type, bare
from cliffracer.web.answers import phrase
from cliffracer.web.describing import Schemas, default, info, words
from cliffracer.web.queries import spread_of
from cliffracer.web.schemes import Schemes, policy_of

_PROBLEM = {"$ref": "#/components/schemas/Problem"}
_FILE = {"type": "string", "contentMediaType": "application/octet-stream"}
_IGNORED = frozenset({"accept", "content-type", "authorization"})  # header parameters that OpenAPI describes elsewhere
_METHODS = frozenset({"GET", "PUT", "POST", "DELETE", "OPTIONS", "HEAD", "PATCH", "TRACE"})


class Problem(msgspec.Struct):
    """A failure (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    code: int
    """The error's code, the same over HTTP, NATS and WebSockets."""
    errors: list[dict[str, str]] = []
    """For refused input: every reason, each with its path."""


def document(assemblies: Sequence[Assembly], settings: Settings | None = None) -> dict[str, Any]:
    """Return the document of all routes of these apps."""
    schemes = Schemes(assemblies, settings).openapi()
    writer = _Writer()
    paths: dict[str, dict[str, Any]] = {}
    for assembly in assemblies:
        for record, declared in assembly.frozen.of(Route):
            path = PATH_PARAMETER.sub(r"{\1}", record.path)
            for method in record.methods:
                if method in _METHODS:
                    tags = record.tags or (assembly.frozen.name,)
                    operation = writer.operation(record, declared, method, tags) | _asked(policy_of(assembly, record), schemes)
                    paths.setdefault(path, {}).setdefault(method.lower(), operation)
    components: dict[str, Any] = {"schemas": writer.components()}
    if schemes:
        components["securitySchemes"] = schemes
    return {"openapi": "3.1.0", "info": info(assemblies), "paths": paths, "components": components}


def _asked(policy: Any, schemes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the security of an operation: permissions as OpenAPI scopes, and the complete rule in ``x-policy``.

    The security schemes are alternatives.
    """
    if policy is None:
        return {}
    ways = [{name: list(policy.permissions)} for name in schemes]
    return {"security": [] if policy.public else ways, "x-policy": str(policy)}


class _Writer:
    """Writes operations; schemas are added at the end, when the names of all types are known."""

    def __init__(self) -> None:
        schemas = Schemas(Problem)
        self.components = schemas.components
        self._schema = schemas.of
        self._ids: set[str] = set()

    def operation(self, record: Route, declared: Declared, method: str, tags: Sequence[str]) -> dict[str, Any]:
        """Return the description of one method on one path."""
        signature, shape = declared.signature, declared.shape
        assert signature is not None
        assert shape is not None  # both are there once the app is frozen
        made: dict[str, Any] = {"operationId": self._id(record, method), "tags": list(tags), **words(record.function)}
        parameters = self._parameters(shape)
        if parameters:
            made["parameters"] = parameters
        body = self._body(shape, made["operationId"])
        if body is not None:
            made["requestBody"] = body
        made["responses"] = self._responses(record, signature, takes=bool(parameters or body))
        if getattr(record.function, "__deprecated__", None):
            made["deprecated"] = True
        return made

    def _id(self, record: Route, method: str) -> str:
        name = record.function.__name__
        candidates = chain((name, f"{method.lower()}_{name}"), (f"{name}_{n}" for n in count(2)))
        found = next(candidate for candidate in candidates if candidate not in self._ids)
        self._ids.add(found)
        return found

    def _parameters(self, shape: Shape) -> list[dict[str, Any]]:
        found = [self._parameter("path", p.name, p.annotation, required=True) for p in shape.path]
        for parameter in shape.query:
            found.extend(self._query(parameter))
        for place, parameters in (("header", shape.headers), ("cookie", shape.cookies)):
            found.extend(self._of(place, parameter) for parameter in parameters if external_name(parameter).lower() not in _IGNORED)
        return found

    def _query(self, parameter: Parameter) -> Iterable[dict[str, Any]]:
        spread = spread_of(parameter)
        if spread is None:
            return [self._of("query", parameter)]
        if spread.fields is None:
            return [self._parameter("query", parameter.name, parameter.annotation, required=False)]
        hints = spread.kinds()
        return [self._parameter("query", f.encode_name, hints[f.name], required=f.required and parameter.required) for f in spread.fields]

    def _of(self, place: str, parameter: Parameter) -> dict[str, Any]:
        return self._parameter(place, external_name(parameter), parameter.annotation, required=parameter.required, **default(parameter))

    def _parameter(self, place: str, name: str, kind: Any, *, required: bool, **more: Any) -> dict[str, Any]:
        return {"name": name, "in": place, "required": required, "schema": self._schema(kind, **more)}

    def _body(self, shape: Shape, name: str) -> dict[str, Any] | None:
        if shape.form:
            return {"required": any(p.required for p in shape.fields), "content": {"multipart/form-data": {"schema": self._form(shape)}}}
        if shape.body is not None:
            return {"required": shape.body.required, "content": {"application/json": {"schema": self._schema(shape.body.annotation)}}}
        if not shape.fields:
            return None
        fields = arguments_type("".join(word.title() for word in name.split("_")) + "Body", shape.fields)
        content = {"schema": self._schema(fields)}
        required = any(p.required for p in shape.fields)
        return {"required": required, "content": {"application/json": content, "application/x-www-form-urlencoded": content}}

    def _form(self, shape: Shape) -> dict[str, Any]:
        properties: dict[str, Any] = {}
        for parameter in shape.fields:
            if not is_upload(parameter.annotation):
                properties[parameter.name] = self._schema(parameter.annotation, **default(parameter))
            else:
                several = bool(get_args(bare(parameter.annotation))) and type(None) not in get_args(bare(parameter.annotation))
                properties[parameter.name] = {"type": "array", "items": _FILE} if several else _FILE
        return {"type": "object", "properties": properties, "required": [p.name for p in shape.fields if p.required]}

    def _responses(self, record: Route, signature: Signature, *, takes: bool) -> dict[str, Any]:
        returns = signature.returns
        nothing = returns is type(None) and record.status is None
        status = record.status or (204 if nothing else 200)
        answer: dict[str, Any] = {"description": phrase(status)}
        if signature.streams:
            answer["content"] = {
                "application/x-ndjson": {"schema": self._schema(returns)},
                "text/event-stream": {"schema": {"type": "string"}},
            }
        elif nothing or status in {204, 205, 304}:
            pass  # there is no content
        elif isinstance(returns, type) and issubclass(returns, Response):
            answer["content"] = {"*/*": {}}
        else:
            answer["content"] = {"application/json": {"schema": self._schema(returns)}}
        found = {str(status): answer}
        if takes:
            found["422"] = _problem("The input is not valid")
        return {**found, "default": _problem("A failure")}


def _problem(words: str) -> dict[str, Any]:
    return {"description": words, "content": {"application/problem+json": {"schema": _PROBLEM}}}
