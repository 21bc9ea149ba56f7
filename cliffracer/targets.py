"""Names of imported apps as commands take them, for messages that say which command to type."""

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from cliffracer.context import current, owner
from cliffracer.scope import Group, Scope


def command(words: str, names: Iterable[str] = ()) -> str:
    """Return ``cliffracer db plan users:app``: a command with the apps of these names, or those that run here, as far as known."""
    context = current.get()
    mine = context.service if context else owner.get()
    apps = _apps()
    wanted = list(names) or ([mine] if mine else list(apps) if len(apps) == 1 else [])
    return " ".join(["cliffracer", words, *(apps[name] for name in wanted if name in apps)])


def _apps() -> dict[str, str]:
    """Return the apps that modules hold, by name, as ``users:app`` or ``orders/main.py:app``."""
    found: dict[str, str] = {}
    for module in list(sys.modules.values()):  # in order of import: the one that was named comes before what it imports from
        for key, value in list(getattr(module, "__dict__", {}).items()):
            if issubclass(type(value), Scope) and not issubclass(type(value), Group):
                found.setdefault(value.name, f"{_place(module)}:{key}")
    return found


def _place(module: ModuleType) -> str:
    file = os.path.relpath(module.__file__ or "")
    imported = module.__name__.replace(".", "/")
    outside = file.startswith("..") and module.__name__ != "__main__"
    return module.__name__ if outside or Path(file) in {Path(f"{imported}.py"), Path(imported, "__init__.py")} else file
