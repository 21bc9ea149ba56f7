"""What is logged about a statement that PostgreSQL refused: the server's message and the SQL, never a value."""

import logging
import math
from time import monotonic
from typing import Any

from psycopg import sql

from cliffracer.errors import Internal, ServiceError, Unavailable
from cliffracer.targets import command

log = logging.getLogger("cliffracer.database")

LONGEST = 1_000
"""Of a longer statement, this much is logged."""
_MISSING = {"42P01", "42703"}
"""SQLSTATEs for a table and for a column that is not there."""
_AILING = ("53", "58", "F0", "25006")
"""SQLSTATEs, or classes of them, of a server that lacks resources or has become a standby: only its operator can help."""
_RECENT = 60.0  # seconds for which the server counts as ailing after a refusal
_PAUSE = 30.0  # seconds between two log lines about the same one, since each call may meet it


def with_diagnostics(made: ServiceError, statement: Any) -> ServiceError:
    """Return an error that psycopg's has caused, with the details that are for the log only; log at once what the operator has to mend."""
    if isinstance(made, Internal):
        diagnostic: Any = getattr(made.__cause__, "diag", None)
        made.statement = one_line(statement)
        made.said = (diagnostic and diagnostic.message_primary) or ""
        if made.said and diagnostic.sqlstate in _MISSING:
            made.said += f"; see {command('db plan')}"
    elif isinstance(made, Unavailable):
        ailments.tell(made, statement)
    return made


class Ailments:
    """Logs trouble of the server itself, each kind once in a while; callers only learn that there is some."""

    def __init__(self) -> None:
        self._told: dict[str, float] = {}
        self._untold: dict[str, int] = {}
        self._met, self._last = -math.inf, ""

    def since(self, moment: float) -> str:
        """Return the trouble of the last minute, if it came after ``moment`` (`monotonic`), in words without a secret; else nothing."""
        if self._met < max(moment, monotonic() - _RECENT):
            return ""
        return "its disk is full" if self._last == "53100" else f"it refuses statements (SQLSTATE {self._last})"

    def tell(self, made: Unavailable, statement: Any) -> None:
        """Log the server's message and its cure, or count it if it was logged a moment ago."""
        diagnostic: Any = getattr(made.__cause__, "diag", None)
        state: str = (diagnostic and diagnostic.sqlstate) or ""
        if not state.startswith(_AILING):
            return
        self._met = now = monotonic()
        self._last = state
        if now - self._told.get(state, -_PAUSE) < _PAUSE:
            self._untold[state] = self._untold.get(state, 0) + 1
            return
        self._told[state] = now
        more = self._untold.pop(state, 0)
        words = [f"{diagnostic.message_primary}.", *getattr(made, "__notes__", ())]
        words += [f"{more} more since it was last said."] if more else []
        log.warning("PostgreSQL refuses statements: %s (%s)", " ".join(words), one_line(statement))


ailments = Ailments()
"""Of the databases of this process."""


def one_line(statement: Any) -> str:
    """Return a statement on one line, without the values that were composed into it."""
    text = " ".join("".join(_pieces(statement)).split())
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def _pieces(statement: Any) -> list[str]:
    if isinstance(statement, sql.Composed):
        return [piece for part in statement for piece in _pieces(part)]
    if isinstance(statement, sql.Literal):
        return ["…"]
    if isinstance(statement, sql.Composable):
        return [statement.as_string()]
    return [statement.decode("utf-8", "replace") if isinstance(statement, bytes) else str(statement)]
