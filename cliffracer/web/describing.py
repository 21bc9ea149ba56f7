"""What OpenAPI and AsyncAPI say alike: schemas of types, filled in when all their names are known, and the words of a function."""

import inspect
from typing import Any

import msgspec

from cliffracer.declarations import Function
from cliffracer.signature import Parameter
from cliffracer.wire.schema import schemas

_TEMPLATE = "#/components/schemas/{name}"


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


def words(function: Function) -> dict[str, str]:
    """Return ``summary`` and ``description`` from a docstring, what there is of them."""
    text = inspect.cleandoc(function.__doc__ or "")
    summary, _, description = text.partition("\n\n")
    found = {"summary": " ".join(summary.split()), "description": description.strip()}
    return {name: words for name, words in found.items() if words}


def default(parameter: Parameter) -> dict[str, Any]:
    """Return ``default`` as JSON has it; nothing where there is none that can be written."""
    if parameter.required:
        return {}
    try:
        return {"default": msgspec.to_builtins(parameter.default)}
    except TypeError:  # nothing that JSON has
        return {}
