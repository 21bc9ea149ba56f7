"""What a database is opened with."""

from typing import Any

import msgspec

from cliffracer.database.away import CURE, cure_of
from cliffracer.database.suspicion import Mode
from cliffracer.errors import SetupError


class Options(msgspec.Struct, frozen=True):
    """The database's part of the settings."""

    urls: tuple[str, ...]
    smallest: int = 1
    largest: int = 10
    patience: float = 10.0
    suspicious: Mode = "log"
    linting: bool = True
    batch_size: int = 100
    cure: str = CURE
    """What the message says to do where the server is unreachable."""


def options_of(settings: Any, given: dict[str, Any]) -> Options:
    """Return the options in settings (or for a URL, or several), changed by what is given."""
    if isinstance(settings, str):
        return Options((settings,), **given)
    if isinstance(settings, list | tuple):
        return Options(tuple(settings), **given)
    urls = settings.databases
    if not urls:
        raise SetupError("No database is set: set DATABASE_URL, or unset CLIFFRACER_ENV=production to use the embedded one.")
    found = {
        "smallest": settings.database_pool_min,
        "largest": settings.database_pool_max,
        "patience": settings.database_pool_timeout,
        "suspicious": settings.database_suspicious_input,
        "linting": settings.env != "production",
        "batch_size": settings.batch_size,
        "cure": cure_of(settings),
    }
    return Options(urls, **{**found, **given})
