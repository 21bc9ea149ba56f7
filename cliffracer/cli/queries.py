"""What a query of `cliffracer db psql --json` returns, as JSON has it."""

from collections import Counter
from typing import Any

import msgspec
import psycopg

from cliffracer.database.away import unreached
from cliffracer.database.session import parsed, place_of
from cliffracer.errors import SetupError

PATIENCE = 10  # seconds for a connection


def answers(url: str, query: str) -> Any:
    """Return the rows of a query as objects; of one that has none, what PostgreSQL says that it did; of several, a list of each."""
    try:
        with psycopg.connect(url, autocommit=True, connect_timeout=PATIENCE, application_name="cliffracer db psql") as connection:
            cursor = connection.execute(query.encode())
            found = [_answer(cursor)]
            while cursor.nextset():
                found.append(_answer(cursor))
    except psycopg.Error as error:
        if isinstance(error, psycopg.OperationalError) and not error.sqlstate:  # no answer to the query
            raise SetupError(unreached(place_of(parsed(url)), error)) from None
        said = "PostgreSQL says" if error.sqlstate else "Its answer cannot be told as JSON"  # psycopg's words, such as of infinite times
        raise SetupError(f"{said}: {' '.join(str(error).split())}") from None
    return found[0] if len(found) == 1 else found


def _answer(cursor: psycopg.Cursor[Any]) -> Any:
    if cursor.description is None:
        return {"done": cursor.statusmessage}
    names = _unique([column.name for column in cursor.description])
    rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    return msgspec.to_builtins(rows, str_keys=True, enc_hook=str)


def _unique(names: list[str]) -> list[str]:
    """Return names of columns; one that stands there again has a number."""
    seen: Counter[str] = Counter()
    found = []
    for name in names:
        seen[name] += 1
        found.append(name if seen[name] == 1 else f"{name}_{seen[name]}")
    return found
