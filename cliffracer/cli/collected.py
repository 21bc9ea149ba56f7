"""What ends a command of a deployment, as a line of the log where that is JSON: whoever collects lines can read it."""

import logging
import os
from contextlib import suppress
from functools import partial
from pathlib import Path

from cliffracer.errors import SetupError
from cliffracer.observability import logs
from cliffracer.settings import Settings
from cliffracer.settings.sources import Search

log = logging.getLogger("cliffracer")


def collects() -> bool:
    """Say whether ``log_format`` is JSON, by the settings or, where others of these are wrong, by what is asked of this one.

    ``auto`` is not: it makes JSON of what a service logs into a pipe, but people read in one why it did not start, too.
    """
    settings = logs.configured()
    return (settings.log_format if settings else _asked()) == "json"


def tell_line(message: str, kind: str, code: int, error: Exception | None = None) -> None:
    """Log the end as one line that no ``log_level`` hides: what is said to people, the kind of error, the exit code."""
    if logs.configured() is None:
        logs.configure(Settings(log_format="json"))
    log.critical("%s", message, extra={"error": kind, "exit_code": code}, exc_info=error)


def _asked() -> str:
    search = Search(["log_format"])
    places = (
        partial(search.environment, os.environ),
        partial(search.dotenv, Path(".env")),
        partial(search.toml, Path("cliffracer.toml")),
        partial(search.toml, Path("pyproject.toml"), "tool", "cliffracer"),
    )
    for look in places:
        with suppress(SetupError):  # it is what the line is about
            look()
    return str(search.found["log_format"].value).strip().lower() if search.found else ""
