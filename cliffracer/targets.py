"""How a command names an app that is imported here: for messages that say which command to type."""

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from cliffracer.app import App
from cliffracer.context import current, owner


def command(words: str, names: Iterable[str] = ()) -> str:
    """Return ``cliffracer db plan users:app``: a command with the apps of these names, or of the call that runs here, as far as known."""
    context = current.get()
    wanted = list(names) or [(context.service if context else "") or owner.get() or ""]
    return " ".join(["cliffracer", words, *(found for name in wanted if (found := _target(name)))])


def _target(name: str) -> str:
    """Return ``users:app`` or ``orders/main.py:app``; empty if no module holds an app of this name."""
    for module in list(sys.modules.values()):  # in order of import: the one that was named comes before what it imports from
        for key, value in list(getattr(module, "__dict__", {}).items()):
            if issubclass(type(value), App) and value.name == name:
                return f"{_place(module)}:{key}"
    return ""


def _place(module: ModuleType) -> str:
    file = os.path.relpath(module.__file__ or "")
    imported = module.__name__.replace(".", "/")
    outside = file.startswith("..") and module.__name__ != "__main__"
    return module.__name__ if outside or Path(file) in {Path(f"{imported}.py"), Path(imported, "__init__.py")} else file
