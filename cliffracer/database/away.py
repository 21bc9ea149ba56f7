"""Errors that mean that the server is unreachable, and the message for them: a short reason, and the cure. Imports no psycopg."""

from typing import Any

from cliffracer.errors import Unavailable
from cliffracer.settings import cures

CURE = "Start it, or check DATABASE_URL."
_SILENT = (
    ("connection refused", "connection refused"),
    ("failed to resolve host", "host name not found"),
    ("name or service not known", "host name not found"),
    ("timeout expired", "no answer in time"),
    ("timed out", "no answer in time"),
    ("no such file or directory", "there is no such socket"),
)
"""What libpq says where nobody answers (it has no error codes), and our words for it."""
_REASONS = (
    *_SILENT,
    ("is starting up", "it is starting up"),
    ("is shutting down", "it is shutting down"),
)
_CROWDED = ("too many clients", "too many connections", "connection slots are reserved")
_CROWD = "End connections that nobody needs (pg_stat_activity lists them), raise its max_connections, or lower DATABASE_POOL_MAX."


def is_away(error: Exception) -> bool:
    """Say whether an error means that the server is unreachable now; psycopg's errors are recognised by the name of their module."""
    return isinstance(error, OSError | Unavailable) or type(error).__module__.partition(".")[0] == "psycopg"


def reason(error: BaseException) -> str:
    """Return the reason of a failure to connect, in a few words."""
    text = str(error).strip()
    known = next((words for sign, words in _REASONS if sign in text.lower()), None)
    if known is not None:
        return known
    first = text.splitlines()[0] if text else type(error).__name__
    return first.rpartition(" failed: ")[2].removeprefix("FATAL:").strip().rstrip(".")


def silent(error: BaseException) -> bool:
    """Say whether nobody answered, rather than a server that refused us."""
    text = str(error).lower()
    return any(sign in text for sign, _ in _SILENT)


def unreached(place: str, error: BaseException, cure: str = "") -> str:
    """Return the message for a server that we cannot connect to; one that has no connection left has a cure of its own."""
    if any(sign in str(error).lower() for sign in _CROWDED):
        return f"PostgreSQL at {place} lets no more in ({reason(error)}). {_CROWD}"
    return f"Cannot reach PostgreSQL at {place} ({reason(error)}){f'; {cure}' if cure else '.'}"


def cure_of(settings: Any) -> str:
    """Return the cure: where the URL is set, and what can be used instead."""
    return CURE if getattr(settings, "database_urls", ()) else cures.cure_of(settings, "database_url", CURE)
