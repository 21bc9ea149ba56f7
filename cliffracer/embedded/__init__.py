"""Real servers for development: NATS and PostgreSQL from wheels, one of each per project folder, shared by all who use it.

Each server has a supervisor, a small detached process. It and the users find each other through kernel file locks in ``.cliffracer/``
only, so a crash of any of them leaves nothing that the next start cannot heal.

Importing it is light: a service that is given its servers holds nothing of what starts others.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # each is imported when it is first used
    from cliffracer.embedded.asking import answers
    from cliffracer.embedded.folder import locate, project_folder
    from cliffracer.embedded.upkeep import Status, known, refuse_if_used, reset, running, status, stop
    from cliffracer.embedded.use import Urls, refuse_in_production, servers

__all__ = [
    "Status",
    "Urls",
    "answers",
    "known",
    "locate",
    "project_folder",
    "refuse_if_used",
    "refuse_in_production",
    "reset",
    "running",
    "servers",
    "status",
    "stop",
]

_PLACES = {
    "answers": "asking",
    "locate": "folder",
    "project_folder": "folder",
    "Status": "upkeep",
    "known": "upkeep",
    "refuse_if_used": "upkeep",
    "reset": "upkeep",
    "running": "upkeep",
    "status": "upkeep",
    "stop": "upkeep",
    "Urls": "use",
    "refuse_in_production": "use",
    "servers": "use",
}

if not TYPE_CHECKING:  # or type checkers would take any name

    def __getattr__(name: str) -> object:  # PEP 562
        if name not in _PLACES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value = getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
        return value
