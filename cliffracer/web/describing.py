"""What OpenAPI and AsyncAPI say and do alike: how they are answered, schemas of types, filled in when all their names are known, words."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from cliffracer.assembly import Assembly
from cliffracer.declarations import Function
from cliffracer.signature import Parameter
from cliffracer.web.answers import JSON, correlation_of, send_body
from cliffracer.wire.schema import schemas, written_default

_TEMPLATE = "#/components/schemas/{name}"


class Document:
    """A document in JSON that never changes while the process runs: made when it is first asked for."""

    def __init__(self, made: Callable[[], Any]) -> None:
        self._made = made
        self._body: bytes | None = None

    async def __call__(self, scope: Mapping[str, Any], _receive: Any, send: Any) -> None:
        """Answer one request."""
        self._body = self._body or msgspec.json.encode(self._made())
        await send_body(send, 200, self._body, [JSON], correlation_of(scope))


class Schemas:
    """Gives out places for the schemas of types; `components` fills them in."""

    def __init__(self, *kinds: Any) -> None:
        self._kinds: list[Any] = list(kinds)
        self._open: list[dict[str, Any]] = [{} for _ in kinds]

    def of(self, kind: Any, **more: Any) -> dict[str, Any]:
        """Return the place of a type's schema; ``more`` is said of it beside."""
        self._kinds.append(kind)
        self._open.append(more)
        return more

    def components(self) -> dict[str, Any]:
        """Fill in every schema; return those that have names."""
        found, components = schemas(self._kinds, _TEMPLATE)
        for place, schema in zip(self._open, found, strict=True):
            place.update({**schema, **place})
        return components


def info(assemblies: Sequence[Assembly]) -> dict[str, str]:
    """Return what is said of these apps together: their names and the version, of one alone also what it is for."""
    first = assemblies[0].frozen
    told = {"title": ", ".join(a.frozen.name for a in assemblies), "version": first.version}
    return told | ({"description": first.description} if first.description and len(assemblies) == 1 else {})


def words(function: Function) -> dict[str, str]:
    """Return ``summary`` and ``description`` from a docstring, what there is of them."""
    text = inspect.cleandoc(function.__doc__ or "")
    summary, _, description = text.partition("\n\n")
    found = {"summary": " ".join(summary.split()), "description": description.strip()}
    return {name: words for name, words in found.items() if words}


def default(parameter: Parameter) -> dict[str, Any]:
    """Return ``default`` as JSON has it; nothing where there is none that can be written."""
    return {} if parameter.required else written_default(parameter.default, parameter.annotation)
