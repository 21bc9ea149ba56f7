"""Values as YAML that people read: no anchors, no tags, texts quoted where YAML could take them for something else."""

import json
import re
from collections.abc import Iterator
from typing import Any

_SAFE = re.compile(r"[A-Za-z_./][A-Za-z0-9_./-]*")
_WORDS = frozenset({"true", "false", "yes", "no", "on", "off", "null", "y", "n", "~"})


def yaml(value: Any, indent: int = 0) -> Iterator[str]:
    """Yield the lines of a value as YAML; texts that YAML could take for something else are quoted as JSON, which it takes as well."""
    pad = " " * indent
    if isinstance(value, dict):
        for name, one in value.items():
            if one is None or not isinstance(one, dict | list) or not one:
                yield f"{pad}{_scalar(name)}:{'' if one is None else f' {_scalar(one)}'}"
            elif isinstance(one, list) and all(not isinstance(each, dict | list) for each in one):
                yield f"{pad}{_scalar(name)}: [{', '.join(map(_scalar, one))}]"
            else:
                yield f"{pad}{_scalar(name)}:"
                yield from yaml(one, indent + 2)
        return
    for one in value:
        lines = list(yaml(one, indent + 2))
        yield f"{pad}- {lines[0].lstrip()}"
        yield from lines[1:]


def _scalar(value: Any) -> str:
    plain = isinstance(value, str) and _SAFE.fullmatch(value) is not None and value.lower() not in _WORDS
    return value if plain else json.dumps(value)
