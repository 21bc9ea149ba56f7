"""Where the arguments of an HTTP or WebSocket handler come from: path, query, headers, cookies, body or form."""

import re
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from typing import get_args, get_origin

import msgspec
from msgspec.structs import replace

from cliffracer.declarations import Function, refuse
from cliffracer.markers import Cookie, Header, Query
from cliffracer.nearest import nearest
from cliffracer.signature import Parameter, Signature, bare, dotted, takes_whole

PATH_PARAMETER = re.compile(r"{([a-zA-Z_][a-zA-Z0-9_]*)(?::([a-zA-Z_][a-zA-Z0-9_]*))?}")
_FOREIGN = re.compile(r"<(?:\w+:)?(\w+)>|(?<=/):([A-Za-z_]\w*)")
"""A parameter as Flask and others write it."""
BODILESS = frozenset({"GET", "HEAD", "DELETE", "OPTIONS"})
_UPLOAD = "starlette.datastructures.UploadFile"
_STREAMS = (AsyncIterator, AsyncIterable, AsyncGenerator)


class Shape(msgspec.Struct, frozen=True):
    """The parameters of one route or socket, by their source."""

    path: tuple[Parameter, ...] = ()
    query: tuple[Parameter, ...] = ()
    headers: tuple[Parameter, ...] = ()
    cookies: tuple[Parameter, ...] = ()
    body: Parameter | None = None
    """The one that takes the whole JSON body."""
    fields: tuple[Parameter, ...] = ()
    """Those that are fields of the JSON body, or of the form."""
    form: bool = False
    """Whether the body is a form (urlencoded or multipart), which an `UploadFile` asks for."""
    incoming: Parameter | None = None
    """Of a socket: the ``AsyncIterator[T]`` of what the client sends."""


def path_names(path: str) -> list[str]:
    """Return the parameter names of ``/users/{user_id}``."""
    return [found.group(1) for found in PATH_PARAMETER.finditer(path)]


def claim(path: str) -> str:
    """Return a path without the names of its parameters, only their kinds: what two routes cannot share."""
    return PATH_PARAMETER.sub(lambda found: f"{{{found.group(2) or 'str'}}}", path)


def check_path(function: Function, path: str, *, prefixed: bool = False) -> str:
    """Return a route's path; `SetupError` for one that cannot be matched. ``prefixed``: it may be empty, the prefix alone."""
    if not path.startswith("/") and not (prefixed and not path):
        raise refuse(function, f"path {path!r} does not begin with /", f"Write '/{path}'.")
    if "{" in PATH_PARAMETER.sub("", path) or "}" in PATH_PARAMETER.sub("", path):
        raise refuse(function, f"path {path!r} has an odd brace", "Parameters are {name} or {name:path}.")
    if "?" in path or "#" in path:
        raise refuse(function, f"path {path!r} goes on after its end", "What stands behind a ? is an argument: def f(page: int = 1).")
    if foreign := _FOREIGN.search(path):
        name = foreign[1] or foreign[2]
        raise refuse(function, f"path {path!r} has {foreign[0]}", f"Write {{{name}}}: its type is that of the argument.")
    names = path_names(path)
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise refuse(function, f"path {path!r} has {{{', '.join(twice)}}} twice", "Give each parameter its own name.")
    return path


def shape_of(signature: Signature, path: str, methods: tuple[str, ...]) -> Shape:
    """Return where each parameter of an HTTP handler comes from; `SetupError` for what nothing can give."""
    names = path_names(path)
    _check_named(signature, path, names)
    rest = [p for p in signature.accepts if p.name not in names and p.marker is None]
    marked = [p for p in signature.accepts if p.name not in names]
    found = Shape(
        path=tuple(p for p in signature.accepts if p.name in names),
        query=tuple(p for p in marked if isinstance(p.marker, Query)),
        headers=tuple(p for p in marked if isinstance(p.marker, Header)),
        cookies=tuple(p for p in marked if isinstance(p.marker, Cookie)),
    )
    uploads = any(is_upload(p.annotation) for p in rest)
    if all(method in BODILESS for method in methods):
        if uploads:
            raise refuse(signature.function, f"{' and '.join(methods)} has no body for an upload", "Declare it with @app.post or @app.put.")
        return replace(found, query=found.query + tuple(rest))
    if uploads:
        return replace(found, fields=tuple(rest), form=True)
    whole = [p for p in rest if takes_whole(p.annotation, alone=len(rest) == 1)]
    if whole and len(rest) > 1:
        others = ", ".join(p.name for p in rest if p is not whole[0])
        raise refuse(
            signature.function,
            f"two body parameters: {whole[0].name} takes the whole body, so nothing is left for {others}",
            "Put them into one Struct, or mark what comes from the query string: Annotated[..., Query()].",
        )
    return replace(found, body=whole[0]) if whole else replace(found, fields=tuple(rest))


def socket_shape(signature: Signature, path: str) -> Shape:
    """Return where each parameter of a WebSocket handler comes from."""
    names = path_names(path)
    _check_named(signature, path, names)
    streams = [p for p in signature.accepts if get_origin(bare(p.annotation)) in _STREAMS or bare(p.annotation) in _STREAMS]
    if len(streams) > 1:
        raise refuse(signature.function, "two incoming streams", "A socket has one: keep one AsyncIterator parameter.")
    rest = [p for p in signature.accepts if p.name not in names and p not in streams]
    return Shape(
        path=tuple(p for p in signature.accepts if p.name in names),
        query=tuple(p for p in rest if p.marker is None or isinstance(p.marker, Query)),
        headers=tuple(p for p in rest if isinstance(p.marker, Header)),
        cookies=tuple(p for p in rest if isinstance(p.marker, Cookie)),
        incoming=streams[0] if streams else None,
    )


def external_name(parameter: Parameter) -> str:
    """Return the name a client uses: the marker's, or the parameter's (``x_tenant`` is the header ``x-tenant``)."""
    if parameter.marker is not None and parameter.marker.name:
        return parameter.marker.name
    return parameter.name.replace("_", "-") if isinstance(parameter.marker, Header) else parameter.name


def is_upload(annotation: object) -> bool:
    """Say whether a parameter is an uploaded file, or a list of them."""
    kind = bare(annotation)
    parts = get_args(kind) or (kind,)
    return any(dotted(bare(part)) == _UPLOAD for part in parts)


def _check_named(signature: Signature, path: str, names: list[str]) -> None:
    accepted = {p.name for p in signature.accepts}
    for name in names:
        if name in accepted:
            continue
        raise refuse(signature.function, f"path {path!r} has {{{name}}}, but no such argument", _cure(signature, name, names))


def _cure(signature: Signature, name: str, names: list[str]) -> str:
    if any(p.name == name for p in signature.needs):
        return f"{name} is keyword-only there; put it before the *."
    others = [p.name for p in signature.accepts if p.name not in names and p.marker is None]
    near = nearest(name, others) or next((other for other in others if {name, other}.intersection(_parts(name, other))), None)
    return f"Did you mean {{{near}}}? Otherwise add {name}: str to it." if near else f"Add {name}: str to it."


def _parts(*names: str) -> set[str]:
    """Return the words in the names, such as ``user`` and ``id`` of ``user_id``."""
    return {part for name in names if "_" in name for part in name.split("_")}
