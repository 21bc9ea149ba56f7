"""Translates PostgreSQL's errors into our closed set: the field is named, the statement and values never are."""

import re
from typing import Any

from cliffracer.database.table import Table
from cliffracer.errors import (
    Conflict,
    DeadlineExceeded,
    Internal,
    InvalidInput,
    ServiceError,
    TooLarge,
    Unavailable,
)

_LINE = re.compile(r"COPY .*, line (\d+)")
CHECK = "23514"
"""The SQLSTATE of a row that a check of its table refused. It does not say what is allowed; the model does (`Table.explain`)."""
OF_TYPE = "42804"
"""The SQLSTATE of a value of one type for a column of another."""
_KEY = re.compile(r"\(([^)]*)\)=\((.*)\)", re.DOTALL)


def translate(error: Any, table: Table[Any] | None = None, *, deleting: bool = False) -> ServiceError:
    """Return the error to raise for one of psycopg's; chain it, so that the log of the service has everything."""
    state: str = getattr(error, "sqlstate", None) or ""
    if state == OF_TYPE and table is not None:  # the statement is ours, so that it is the value; else `unexplained`
        state = "22"
    made = _integrity(error, state, table, deleting) if state.startswith("23") else _by_state(error, state)
    made.__cause__ = error
    diagnostic = getattr(error, "diag", None)
    line = _LINE.search((diagnostic and diagnostic.context) or "")
    if line:
        made.details["index"] = int(line.group(1)) - 1
    return made


def unexplained(error: ServiceError) -> ServiceError:
    """Return the error for what its model finds nothing wrong with: a column that refuses the type is another one than the model's."""
    if getattr(error.__cause__, "sqlstate", None) != OF_TYPE:
        return error
    made = Internal("the database refused a statement")
    made.add_note("A column has another type than its field: `cliffracer db plan` writes the migration.")
    return made


def aborted() -> Internal:
    """Return the error for committing a transaction in which a statement has failed."""
    made = Internal("the transaction was rolled back, because a statement in it had failed")
    made.add_note(NOTES["25P02"])
    return made


def read_only() -> Internal:
    """Return the error for a change in a transaction that was opened for reading only."""
    made = Internal("the database refused a statement")
    made.add_note("The transaction is for reading only (readonly=True, or that of a stream): make changes in another one.")
    return made


def _by_state(error: Any, state: str) -> ServiceError:
    for prefix, kind, message in STATES:
        if state.startswith(prefix):
            made = InvalidInput(message, errors=[{"path": "", "message": message}]) if kind is InvalidInput else kind(message)
            break
    else:
        made = _without_state(error) if not state else Internal("the database refused a statement")
    for prefix, note in NOTES.items():
        if state.startswith(prefix):
            made.add_note(note)
    return made


def unsent(error: Exception) -> ServiceError:
    """Return the error for a statement that psycopg refused to send: for a value, or for placeholders of the other kind."""
    if isinstance(error, TypeError) and str(error).startswith(("named placeholders require", "positional placeholders (%s) require")):
        made = Internal("the database refused a statement")
        made.add_note(f"{error}: for %(name)s write fetch(query, name=...), or fetch(query, **values); for %s, fetch(query, value).")
        return made
    shown = [{"path": "", "message": type(error).__name__}]  # its text may be the value
    return InvalidInput("a value cannot be sent", errors=shown)


def _without_state(error: Any) -> ServiceError:
    name = type(error).__name__
    if name == "_WaitTimeout":
        return DeadlineExceeded("the database did not answer in time")
    if name == "DataError":
        return InvalidInput("a value cannot be stored", errors=[{"path": "", "message": "holds something that cannot be stored"}])
    if name == "ProgrammingError":  # psycopg's own, about the query: it is the service's, and holds no value
        made = Internal("the database refused a statement")
        made.add_note(f"{error}. Each %s takes one parameter; a percent sign is written %% where there are any.")
        return made
    if name in {"OperationalError", "InterfaceError", "ConnectionTimeout", "OSError"}:
        return Unavailable("the connection to the database was lost")
    return Internal("the database refused a statement")


STATES: tuple[tuple[str, type[ServiceError], str], ...] = (
    ("22", InvalidInput, "a value does not fit its type"),
    ("40001", Unavailable, "a concurrent change got in the way; try again"),
    ("40P01", Unavailable, "a concurrent change got in the way; try again"),
    ("40003", Unavailable, "the connection to the database was lost"),
    ("55P03", Unavailable, "the row is locked by somebody else; try again"),
    ("57014", DeadlineExceeded, "the database did not answer in time"),
    ("57P", Unavailable, "the database is restarting"),
    ("25006", Unavailable, "the database takes no changes now"),
    ("25P03", Unavailable, "the transaction stood still for too long"),
    ("25P04", DeadlineExceeded, "the transaction took too long"),
    ("53", Unavailable, "the database is out of resources"),
    ("54", TooLarge, "the request is too large for the database"),
    ("58", Unavailable, "the database has a problem with its storage"),
    ("08", Unavailable, "the connection to the database was lost"),
    ("F0", Unavailable, "the database has a problem with its storage"),
)
"""SQLSTATE or its class (PostgreSQL, appendix A), what it becomes, and what the caller reads."""

NOTES = {
    "42P01": "A table is missing: run `cliffracer db apply`, or start with CLIFFRACER_ENV=development, which creates it.",
    "42703": "A column is missing: `cliffracer db plan` writes the migration.",
    "42P10": "No unique key is on exactly the fields of upsert(on=...): declare Unique() on the field, or Unique(...) in __indexes__.",
    "42601": "The statement is no SQL of PostgreSQL, or a %s in it got no parameter.",
    "42501": "The database user lacks a privilege: `cliffracer permissions app:app --format sql` writes what the app needs.",
    "25P02": "A statement failed before, and its error was caught. Put the risky one into its own `async with db.transaction()`.",
    "53300": "PostgreSQL has no connection left: lower database_pool_max, or raise max_connections there.",
    "53100": "The disk of the PostgreSQL server is full.",
    "53200": (
        "PostgreSQL has no memory left. If it says shared memory, that is for locks, of which a transaction holds one for each key that "
        "it emits for: emit for fewer keys in one transaction, or raise max_locks_per_transaction there."
    ),
}


def _integrity(error: Any, state: str, table: Table[Any] | None, deleting: bool) -> ServiceError:
    diagnostic = error.diag
    fields = _fields(diagnostic, table)
    shown = ", ".join(fields) or "a value"
    if state == "23505":
        return Conflict(f"{shown} is already taken", **_named(fields))
    if state in {"23503", "23001"}:
        if deleting or state == "23001" or "still referenced" in (diagnostic.message_detail or ""):
            return Conflict(f"still referenced by {diagnostic.table_name or 'another table'}")
        return _misfit(fields, "refers to something that does not exist")
    if state == "23502":
        return _misfit([diagnostic.column_name or ""], "is required")
    if state == CHECK:
        return _misfit(fields, "is outside of what is allowed")
    return Conflict(f"{shown} contradicts another row", **_named(fields))


def key_of(error: Any) -> tuple[list[str], str]:
    """Return the fields of the key that an integrity error is about, and its values as text from the server's message."""
    diagnostic = getattr(error, "diag", None)
    found = _KEY.search((diagnostic and diagnostic.message_detail) or "")
    if not found:
        return [], ""
    return _listed(found.group(1)), found.group(2)


def _listed(names: str) -> list[str]:
    return [name.strip().strip('"') for name in names.split(",")]


def _fields(diagnostic: Any, table: Table[Any] | None) -> list[str]:
    found = _KEY.search(diagnostic.message_detail or "")
    if found:
        return _listed(found.group(1))
    name = diagnostic.constraint_name or ""
    if table is not None and diagnostic.table_name == table.name:
        for key in table.uniques:
            if key.name == name:
                return list(key.fields)
        stem = name.removeprefix(f"{table.name}_")
        return [column for column in table.columns if re.fullmatch(rf"{re.escape(column)}_[a-z]+\d*", stem)][:1]
    return []


def _named(fields: list[str]) -> dict[str, Any]:
    return {"field": fields[0], "fields": fields} if fields else {}


def _misfit(fields: list[str], message: str) -> InvalidInput:
    errors = [{"path": field, "message": message} for field in fields or [""]]
    shown = f"{fields[0]}:" if len(fields) == 1 else ", ".join(fields) or "a value"
    return InvalidInput(f"{shown} {message}", errors=errors)
