"""Full-text search over the fields that a model marks with `Search`, by PostgreSQL's own dictionaries."""

from typing import Any

from cliffracer.database.columns import misfit
from cliffracer.database.filters import Where
from cliffracer.database.model import Search
from cliffracer.database.names import quoted
from cliffracer.database.table import Table
from cliffracer.errors import SetupError


def document(table: Table[Any]) -> str:
    """Return the `tsvector` expression of a table; index and queries must have the same one, or the index would not be used."""
    parts = []
    for column in table.search:
        marker: Search = column.marked(Search)
        vector = f"to_tsvector({_literal(marker.language)}::regconfig, coalesce({quoted(column.name)}, ''))"
        parts.append(f"setweight({vector}, '{marker.weight}')")
    return " || ".join(parts)


def matching(table: Table[Any], where: Where, words: str) -> Where:
    """Return the condition that the words are found as well; they may hold quotes, ``or`` and ``-`` as in a search engine."""
    if not isinstance(words, str):
        raise misfit("search", "expected text")
    found = f"({document(table)}) @@ {_query(table)}"
    return Where(f"{where.sql} AND {found}" if where.sql else found, [*where.params, words])


def rank(table: Table[Any]) -> str:
    """Return the ORDER BY clause that puts the best matches first; it takes the words as its parameter."""
    return f" ORDER BY ts_rank(({document(table)}), {_query(table)}) DESC, {quoted('id')}"


def _query(table: Table[Any]) -> str:
    if not table.search:
        name = table.model.__name__
        raise SetupError(f"{name} has no field to search in. Mark one: title: Annotated[str, Search()].")
    language = table.search[0].marked(Search).language
    return f"websearch_to_tsquery({_literal(language)}::regconfig, %s)"


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
