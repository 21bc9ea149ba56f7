"""Real servers for development: NATS and PostgreSQL from wheels, one of each per project folder, shared by all who use it.

Each server has a supervisor, a small detached process. It and the users find each other through kernel file locks in ``.cliffracer/``
only, so a crash of any of them leaves nothing that the next start cannot heal.
"""

from cliffracer.embedded.folder import locate, project_folder
from cliffracer.embedded.upkeep import Status, known, refuse_if_used, reset, running, status, stop
from cliffracer.embedded.use import Urls, refuse_in_production, servers

__all__ = [
    "Status",
    "Urls",
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
