"""What the log says of a statement that was refused by a defect of ours: the server's words and the SQL, never a value."""

from typing import Any

from psycopg import sql

from cliffracer.errors import Internal, ServiceError
from cliffracer.targets import command

LONGEST = 1_000
"""Of a longer statement, this much is logged."""
_MISSING = {"42P01", "42703"}
"""SQLSTATEs for a table and for a column that is not there."""


def told(made: ServiceError, statement: Any) -> ServiceError:
    """Return the error for one of psycopg's, its cause, with what the log has to say of it and the caller is not told."""
    if isinstance(made, Internal):
        diagnostic: Any = getattr(made.__cause__, "diag", None)
        made.statement = shown(statement)
        made.said = (diagnostic and diagnostic.message_primary) or ""
        if made.said and diagnostic.sqlstate in _MISSING:
            made.said += f"; see {command('db plan')}"
    return made


def shown(statement: Any) -> str:
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
