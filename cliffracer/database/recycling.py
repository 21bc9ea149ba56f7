"""Cleans test databases for reuse, which is quicker than making new ones: CREATE and DROP DATABASE have to wait for the disk."""

# ruff: noqa: S608 - these texts are made of constants, and of names that the server has quoted

from typing import Any

from cliffracer.database.owntables import HISTORY
from cliffracer.database.templates import statement

FIRST = 16_384
"""Objects with a lower id came with PostgreSQL."""
_CATALOGUES = (
    "pg_aggregate aggfnoid", "pg_am", "pg_attrdef", "pg_attribute attrelid", "pg_cast", "pg_collation", "pg_constraint", "pg_conversion",
    "pg_default_acl", "pg_description objoid", "pg_enum", "pg_event_trigger", "pg_extension", "pg_foreign_data_wrapper",
    "pg_foreign_server", "pg_foreign_table ftrelid", "pg_index indexrelid", "pg_inherits inhrelid", "pg_language",
    "pg_largeobject_metadata", "pg_opclass", "pg_operator", "pg_opfamily", "pg_policy", "pg_proc", "pg_publication", "pg_range rngtypid",
    "pg_rewrite", "pg_seclabel objoid", "pg_statistic_ext", "pg_subscription", "pg_transform", "pg_trigger", "pg_ts_config", "pg_ts_dict",
    "pg_type",
)  # fmt: skip
"""Catalogues that describe the objects of a database, with the column to order by; `pg_class` is apart: TRUNCATE changes its rows."""
_OTHERS = "SELECT pg_terminate_backend(pid, 2000) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
_CLASSES = f"""
SELECT 'pg_class', concat_ws(' ', oid, relname, relnamespace, reltype, relowner, relam, relkind, relpersistence, relnatts, relchecks,
                             relhasrules, relhastriggers, relrowsecurity, relforcerowsecurity, relacl, reloptions)
FROM pg_class WHERE oid >= {FIRST} AND relpersistence <> 't'
"""
_SCHEMAS = "SELECT 'pg_namespace', concat_ws(' ', oid, xmin) FROM pg_namespace WHERE nspname !~ '^pg_t'"


def _rows(catalogue: str) -> str:
    """Return the query for the rows of a catalogue that are not PostgreSQL's own; every change of a row gives it another xmin."""
    name, _, column = catalogue.partition(" ")
    return f"SELECT '{name}', concat_ws(' ', ctid, xmin) FROM {name} WHERE {column or 'oid'} >= {FIRST}"


_SHAPE = " UNION ALL ".join([_CLASSES, _SCHEMAS, *map(_rows, _CATALOGUES)])
FINGERPRINT = f"SELECT md5(string_agg(concat_ws(' ', kind, what), E'\n' ORDER BY kind, what)) FROM ({_SHAPE}) AS shape (kind, what)"
_TABLES = """
SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
  AND c.relname <> %s
"""
_COUNTED = """
SELECT setval(format('%I.%I', schemaname, sequencename)::regclass, start_value, false) FROM pg_sequences WHERE last_value IS NOT NULL
"""
_ANEW = (
    "DROP SCHEMA public CASCADE",
    "CREATE SCHEMA public AUTHORIZATION pg_database_owner",
    "GRANT USAGE ON SCHEMA public TO public",
    "COMMENT ON SCHEMA public IS 'standard public schema'",
)
_STRAYS = " UNION ALL ".join(
    f"SELECT 1 FROM {name} WHERE oid >= {FIRST}" + (" AND nspname <> 'public' AND nspname !~ '^pg_t'" if name == "pg_namespace" else "")
    for name in (
        "pg_namespace", "pg_extension", "pg_event_trigger", "pg_publication", "pg_foreign_data_wrapper", "pg_language", "pg_cast",
        "pg_largeobject_metadata", "pg_default_acl", "pg_am",
    )
)  # fmt: skip


def alone(link: Any) -> None:
    """End all other connections to the database."""
    link.execute(_OTHERS)


def filled(link: Any) -> list[str]:
    """Return the names of the tables that hold rows, quoted, without the history of migrations."""
    names = [name for (name,) in link.execute(_TABLES, [HISTORY]).fetchall()]
    if not names:
        return []
    query = " UNION ALL ".join(f"SELECT {place} WHERE EXISTS (SELECT FROM {name})" for place, name in enumerate(names))
    return [names[place] for (place,) in link.execute(query).fetchall()]


def fingerprint(link: Any) -> str:
    """Return a checksum of everything in the database except rows."""
    found: str = link.execute(FINGERPRINT).fetchone()[0]
    return found


def emptied(link: Any, shape: str) -> bool:
    """Remove all rows and start all sequences anew; False, with nothing done, if more than rows differs from a fingerprint."""
    if fingerprint(link) != shape:
        return False
    rows = filled(link)
    if rows:
        link.execute(f"TRUNCATE {', '.join(rows)} CASCADE")
    link.execute(_COUNTED)
    return True


def stripped(link: Any) -> bool:
    """Remove everything that is in the schema public; False if there is more than that."""
    for text in _ANEW:
        link.execute(text)
    return link.execute(f"SELECT EXISTS ({_STRAYS})").fetchone()[0] is False


def unsynced(link: Any, name: str) -> None:
    """Let commits in a database not wait for the disk: what a test stores need not survive a crash."""
    link.execute(statement("ALTER DATABASE {} SET synchronous_commit TO off", name))
