"""What a process may do in PostgreSQL: its own tables and no others, rows and no definitions."""

from collections.abc import Iterable, Sequence

from cliffracer.database.model import tablename_of
from cliffracer.database.names import quoted
from cliffracer.database.owntables import INBOX, OUTBOX
from cliffracer.database.schema import literal
from cliffracer.permissions.needs import Needs, Process

ROWS = "SELECT, INSERT, UPDATE, DELETE"
_PARTS = {"Sessions": ("cliffracer_accounts", "cliffracer_sessions", "cliffracer_attempts"), "Keyring": ("cliffracer_api_keys",)}
_SCHEMA = "public"


def grants(found: Sequence[Process]) -> str:
    """Return SQL that makes a role for each process and lets it read and write its own tables; running it again makes it true again."""
    lines = [
        "-- Who may do what in PostgreSQL, written by `cliffracer permissions` from what the services declare.",
        "-- Run it as the owner of the tables, after `cliffracer db apply`; services then connect as these roles.",
        "-- Tables that only SQL of yours names are not among them: grant those yourself.",
        "BEGIN;  -- what is taken away and given again is never gone for services that run",
        f"REVOKE CREATE ON SCHEMA {_SCHEMA} FROM PUBLIC;",
    ]
    for process in found:
        if any(app.database for app in process.apps):
            lines += ["", *_role(process)]
    return "\n".join([*lines, "", "COMMIT;"]) + "\n"


def _role(process: Process) -> Iterable[str]:
    role = quoted(process.name)
    yield f"-- {process.name}; set its password by: \\password {process.name}"
    yield (
        f"DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = {literal(process.name)}) "
        f"THEN CREATE ROLE {role} LOGIN; END IF; END $$;"
    )
    yield f"REVOKE ALL ON ALL TABLES IN SCHEMA {_SCHEMA} FROM {role};"
    yield f"GRANT USAGE ON SCHEMA {_SCHEMA} TO {role};"
    for table in dict.fromkeys(name for app in process.apps if app.database for name in _tables(app)):
        yield f"GRANT {ROWS} ON {quoted(table)} TO {role};"


def _tables(app: Needs) -> Iterable[str]:
    yield from (tablename_of(model) for model in app.models())
    yield from (OUTBOX, INBOX)
    for part in sorted(app.kept()):
        yield from _PARTS[part]
