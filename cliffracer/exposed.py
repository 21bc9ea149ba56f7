"""What an app exposes over HTTP: routes and sockets with JSON Schemas of input and output, to compare two versions."""

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec.structs import replace

from cliffracer.checking import Declared
from cliffracer.declarations import Route, Socket
from cliffracer.frozen import Frozen
from cliffracer.security.guards import policy_of
from cliffracer.shapes import PATH_PARAMETER, Shape, claim, external_name, is_upload
from cliffracer.signature import Parameter, Signature, arguments_type, dotted, yielded
from cliffracer.web.queries import spread_of
from cliffracer.wire.schema import canonical, schemas

TEXTS = ("path", "query", "header", "cookie")
"""The parts of a request that are text, whatever type they are decoded to."""
_FILE: Any = bytes
_RESPONSE = "starlette.responses.Response"  # which what serves no HTTP does not import
Place = tuple[str, Any, bool]
"""(name, as ``query limit``; annotation; whether it is required)."""


class Exposed(msgspec.Struct):
    """One method of a route, a socket, or a folder of files."""

    name: str
    """``GET /users/{user_id}``; of a socket, ``WS /feed``; of a folder of files, ``FILES /static``."""
    function: str = ""
    takes: str = "{}"
    """The schema, as text, of an object with ``path[1]``, ``query limit``, ``header x-tenant``, ``cookie theme``, ``body``, ``message``."""
    gives: str = "{}"
    """The schema of the answer, or of what comes through a socket."""
    status: int = 0
    """Of the answer; 0 of a socket or files."""
    streams: bool = False
    policy: str = ""
    """Who may, as its own rules say; empty without any."""

    @property
    def key(self) -> str:
        """Its name without the names of path parameters, which clients do not see."""
        return claim(self.name)

    @property
    def kind(self) -> str:
        """The kind of its handler, as discovery tells."""
        return "websocket" if self.name.startswith("WS ") else "http"


def exposed(frozen: Frozen) -> list[Exposed]:
    """Return everything that an app exposes."""
    return [
        *(one for declared in frozen.declared for one in _of(declared)),
        *(Exposed(f"FILES {static.path}") for static in frozen.statics),
    ]


def _of(declared: Declared) -> Iterator[Exposed]:
    record, signature, shape = declared.record, declared.signature, declared.shape
    if not isinstance(record, Route | Socket) or signature is None or shape is None:
        return
    policy = policy_of(record.function)
    whole = Exposed("", record.function.__name__, _takes(record, shape), policy="" if policy is None else str(policy))
    if isinstance(record, Socket):
        yield replace(
            whole, name=f"WS {record.path}", gives=_text(signature.returns if shape.incoming is None or signature.streams else Any)
        )
        return
    nothing = record.status is None and signature.returns is type(None)
    status = record.status or (204 if nothing else 200)
    for method in record.methods:
        yield replace(whole, name=f"{method} {record.path}", gives=_gives(signature), status=status, streams=signature.streams)


def _gives(signature: Signature) -> str:
    bases = getattr(signature.returns, "__mro__", ())
    return _text(Any if any(dotted(base) == _RESPONSE for base in bases) else signature.returns)


def _takes(record: Route | Socket, shape: Shape) -> str:
    order = [found.group(1) for found in PATH_PARAMETER.finditer(record.path)]
    places: list[Place] = [(f"path[{order.index(p.name) + 1}]", p.annotation, True) for p in shape.path]
    for parameter in shape.query:
        places += _query(parameter)
    places += [(f"header {external_name(p).lower()}", p.annotation, p.required) for p in shape.headers]
    places += [(f"cookie {external_name(p)}", p.annotation, p.required) for p in shape.cookies]
    if shape.incoming is not None:
        places.append(("message", yielded(shape.incoming.annotation), False))
    if shape.body is not None:
        places.append(("body", shape.body.annotation, shape.body.required))
    elif shape.fields:
        fields = tuple(replace(p, annotation=_FILE) if is_upload(p.annotation) else p for p in shape.fields)
        places.append(("body", arguments_type("body", fields), any(p.required for p in fields)))
    found, components = schemas([kind for _, kind, _ in places])
    made = {
        "type": "object",
        "properties": {name: schema for (name, _, _), schema in zip(places, found, strict=True)},
        "required": [name for name, _, required in places if required],
    }
    return canonical({**made, **({"$defs": components} if components else {})})


def _query(parameter: Parameter) -> Iterator[Place]:
    spread = spread_of(parameter)
    if spread is None:
        yield f"query {external_name(parameter)}", parameter.annotation, parameter.required
        return
    kinds = spread.kinds()
    for field in spread.fields or ():
        yield f"query {field.encode_name}", kinds[field.name], field.required and parameter.required


def _text(kind: Any) -> str:
    (found,), components = schemas([kind])
    return canonical({**found, **({"$defs": components} if components else {})})
