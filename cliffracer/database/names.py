"""Identifiers in SQL."""

from functools import lru_cache


@lru_cache(maxsize=4096)
def quoted(name: str) -> str:
    """Return a declared name as a quoted identifier."""
    from psycopg import sql  # noqa: PLC0415 - here only, so that a file of declarations does not import psycopg

    return sql.Identifier(name).as_string(None)


def listed(names: "list[str] | tuple[str, ...] | dict[str, object]") -> str:
    """Return declared names as a list of quoted identifiers."""
    return ", ".join(quoted(name) for name in names)
