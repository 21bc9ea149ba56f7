"""``find(age__gte=18, email__ilike="%@x.org", order_by="-created_at")`` as SQL: names from declared fields only, values as parameters."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar, get_origin

import msgspec

from cliffracer.database.columns import Column, misfit
from cliffracer.database.model import Model
from cliffracer.database.names import quoted
from cliffracer.database.table import TOO_DEEP, Table
from cliffracer.errors import InvalidInput, NotFound, SetupError
from cliffracer.nearest import nearest

M = TypeVar("M", bound=Model)
Bind = Callable[[Column, Any], Any]
"""Takes a column and the caller's value, and returns the parameter."""


class Operator(msgspec.Struct, frozen=True):
    """A comparison: its SQL, with ``{c}`` for the column and ``{t}`` for its type, and how its value becomes a parameter."""

    sql: str
    bind: Bind
    text: bool = False
    """Only for text."""


def _one(column: Column, given: Any) -> Any:
    return column.value(given)


def _many(column: Column, given: Any) -> Any:
    if isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable):
        raise misfit(column.name, "expected a list of values")
    return list(given) if column.json else [column.value(value) for value in given]


def _pattern(column: Column, given: Any) -> Any:
    if not isinstance(given, str):
        raise misfit(column.name, "expected text")
    return given


def _escaped(before: str, after: str) -> Bind:
    def bind(column: Column, given: Any) -> Any:
        text: str = _pattern(column, given)
        for special in "\\%_":
            text = text.replace(special, f"\\{special}")
        return f"{before}{text}{after}"

    return bind


OPERATORS: dict[str, Operator] = {
    "eq": Operator("{c} = %s", _one),
    "ne": Operator("{c} IS DISTINCT FROM %s", _one),
    "gt": Operator("{c} > %s", _one),
    "gte": Operator("{c} >= %s", _one),
    "lt": Operator("{c} < %s", _one),
    "lte": Operator("{c} <= %s", _one),
    "like": Operator("{c} LIKE %s", _pattern, text=True),
    "ilike": Operator("{c} ILIKE %s", _pattern, text=True),
    "contains": Operator("{c} LIKE %s", _escaped("%", "%"), text=True),
    "icontains": Operator("{c} ILIKE %s", _escaped("%", "%"), text=True),
    "startswith": Operator("{c} LIKE %s", _escaped("", "%"), text=True),
    "endswith": Operator("{c} LIKE %s", _escaped("%", ""), text=True),
}
IS_NULL, IS_NOT_NULL = "{c} IS NULL", "{c} IS NOT NULL"
AMONG = {"in": "{c} = ANY(%s::{t}[])", "not_in": "{c} <> ALL(%s::{t}[])"}
ORDERED = ("gt", "gte", "lt", "lte")


def _document(_column: Column, given: Any) -> Any:
    try:
        return msgspec.json.encode(given).decode()
    except RecursionError:
        raise misfit(_column.name, TOO_DEEP) from None
    except (TypeError, ValueError) as error:
        raise misfit(_column.name, str(error)) from None


DOCUMENT_OPERATORS: dict[str, Operator] = {
    "eq": Operator("{c} = %s::jsonb", _document),
    "ne": Operator("{c} IS DISTINCT FROM %s::jsonb", _document),
    "gt": Operator("{c} > %s::jsonb", _document),
    "gte": Operator("{c} >= %s::jsonb", _document),
    "lt": Operator("{c} < %s::jsonb", _document),
    "lte": Operator("{c} <= %s::jsonb", _document),
    "contains": Operator("{c} @> %s::jsonb", _document),
}
NO_DOCUMENT = "coalesce({c}, 'null'::jsonb)"
"""What is not there and what is null mean the same in a document: an optional field of a Struct that is None stands in it as null."""
_IN_TEXT = ("like", "ilike", "icontains", "startswith", "endswith")
"""What text that stands in a document can be compared by; `contains` is for documents."""
_IN_DOCUMENT = {*DOCUMENT_OPERATORS, *AMONG, *_IN_TEXT, "between", "is_null"}


class Where(msgspec.Struct):
    """A condition: SQL (empty: every row) and its parameters."""

    sql: str
    params: list[Any]


def conditions(table: Table[Any], filters: Mapping[str, Any]) -> Where:
    """Return the condition that all filters hold; `InvalidInput` for a name or value that does not fit, before any SQL."""
    parts: list[str] = []
    params: list[Any] = []
    for name, given in filters.items():
        sql, bound = _condition(table, name, given)
        parts.append(sql)
        params.extend(bound)
    return Where(" AND ".join(parts), params)


def _condition(table: Table[Any], name: str, given: Any) -> tuple[str, Sequence[Any]]:
    column = table.columns.get(name)
    if column is not None:
        return _compare(column, quoted(name), "eq", given)
    head, *rest = name.split("__")
    column = table.columns.get(head)
    if column is None:
        head, _, last = name.rpartition("__")  # a name may end in an underscore
        column, rest = table.columns.get(head), [last]
    if column is None:
        raise unknown_field(table, name)
    if column.json:
        return _in_document(column, rest, given)
    if len(rest) != 1:
        raise _unknown_operator(column, "__".join(rest))
    return _compare(column, quoted(head), rest[0], given)


def _compare(column: Column, shown: str, name: str, given: Any) -> tuple[str, Sequence[Any]]:
    if name == "is_null":
        if not isinstance(given, bool):
            raise misfit(column.name, "is_null takes True or False")
        return _null(column, shown, given), ()
    if given is None and name in {"eq", "ne"}:
        return _null(column, shown, name == "eq"), ()
    if name in AMONG:
        return _among(column, shown, name, given)
    if name == "between":
        return _between(column, shown, given)
    if given is None and name in ORDERED:
        raise misfit(column.name, f"{name} takes a value; is_null=True finds what has none")
    operators = DOCUMENT_OPERATORS if column.json else OPERATORS
    operator = operators.get(name)
    if operator is None or (operator.text and column.sql != "text"):
        raise _unknown_operator(column, name)
    return operator.sql.format(c=shown, t=column.sql), (operator.bind(column, given),)


def _null(column: Column, shown: str, wanted: bool) -> str:
    if column.json:
        return f"{NO_DOCUMENT.format(c=shown)} {'=' if wanted else '<>'} 'null'::jsonb"
    return (IS_NULL if wanted else IS_NOT_NULL).format(c=shown)


def _among(column: Column, shown: str, name: str, given: Any) -> tuple[str, Sequence[Any]]:
    """Compare with each of some values: `in` is any `eq`, `not_in` all `ne`, so that None is a value like others."""
    values = _many(column, given)
    if column.json:
        return AMONG[name].format(c=NO_DOCUMENT.format(c=shown), t=column.sql), ([_document(column, value) for value in values],)
    some = [value for value in values if value is not None]
    sql = AMONG[name].format(c=shown, t=column.sql)
    if column.nullable and (name == "in") == (len(some) < len(values)):
        sql = f"({sql} OR {IS_NULL.format(c=shown)})"
    elif column.nullable and name == "not_in":
        sql = f"({sql} AND {IS_NOT_NULL.format(c=shown)})"
    return sql, (some,)


def _between(column: Column, shown: str, given: Any) -> tuple[str, Sequence[Any]]:
    if not isinstance(given, tuple | list) or len(given) != 2 or None in given:
        raise misfit(column.name, "between takes two values")
    bind, mark = (_document, "%s::jsonb") if column.json else (_one, "%s")
    return f"{shown} BETWEEN {mark} AND {mark}", [bind(column, value) for value in given]


def _in_document(column: Column, rest: list[str], given: Any) -> tuple[str, Sequence[Any]]:
    """Compare a document, or what stands in it under a path of keys; keys are parameters too."""
    *path, last = rest
    if last not in _IN_DOCUMENT:
        path, last = rest, "eq"
    _check_path(column, path)
    if not path:
        return _compare(column, quoted(column.name), last, given)
    if last in _IN_TEXT:
        operator = OPERATORS[last]
        return operator.sql.format(c=f"({quoted(column.name)} #>> %s::text[])"), (path, operator.bind(column, given))
    sql, params = _compare(column, f"({quoted(column.name)} #> %s::text[])", last, given)
    return sql, (path, *params)


def _check_path(column: Column, path: list[str]) -> None:
    """A Struct's keys are declared, so a path through one names them; a dict's may be anything."""
    kind = column.kind
    for key in path:
        kind = getattr(kind, "__origin__", kind) if not isinstance(kind, type) else kind
        if not (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
            return
        fields = {field.encode_name: field.type for field in msgspec.structs.fields(kind)}
        if key not in fields:
            raise _refused(f"{column.name} has no field", key, fields)
        kind = fields[key]
        kind = get_origin(kind) or kind


class Order(msgspec.Struct, frozen=True):
    """One field to sort by."""

    column: Column
    descending: bool


def orders(table: Table[Any], order_by: str | Sequence[str]) -> list[Order]:
    """Return what ``"-created_at,name"`` or a list of such names means."""
    names = order_by.split(",") if isinstance(order_by, str) else order_by
    if not isinstance(names, Iterable):
        raise misfit("order_by", "expected the names of fields")
    found = []
    for given in names:
        if not isinstance(given, str):
            raise misfit("order_by", "expected the names of fields")
        name = given.strip()
        column = table.columns.get(name.removeprefix("-"))
        if column is None and (words := name.lower().split())[1:] in (["asc"], ["desc"]) and words[0] in table.columns:
            raise misfit("order_by", f"{name!r} is no field; did you mean {'-' * (words[1] == 'desc')}{words[0]}?")
        if column is None:
            raise unknown_field(table, name.removeprefix("-"))
        found.append(Order(column, name.startswith("-")))
    return found


def natural(name: str, number: Any, *, least: int = 0) -> int:
    """Return a number of rows, or raise `InvalidInput`."""
    if not isinstance(number, int) or isinstance(number, bool) or not least <= number < 2**63:
        raise misfit(name, f"expected a whole number of at least {least}")
    return number


def changed(column: Column, value: Any) -> Any:
    """Return what a field is changed to as it is sent; `InvalidInput` when it does not fit."""
    if value is None and column.required:
        raise misfit(column.name, "is required")
    try:
        return column.value(value)
    except RecursionError:
        raise misfit(column.name, TOO_DEEP) from None


def only(found: list[M], model: type[M], filters: Iterable[str]) -> M:
    """Return the one row that was found; `NotFound` for none, whose message has no value in it: it may be a secret."""
    names = " and ".join(name for name in filters if name != "deleted")
    if len(found) > 1:
        raise SetupError(f"get({names}) found several {model.__name__} rows. Write find(...) for all of them, first(...) for one.")
    if not found:
        raise NotFound(f"no {model.__name__} with that {names}")
    return found[0]


def unknown_field(table: Table[Any], name: str) -> InvalidInput:
    """Return the error for a name that is not a field."""
    return _refused(f"{table.model.__name__} has no field", name, table.columns)


def _unknown_operator(column: Column, name: str) -> InvalidInput:
    operators = DOCUMENT_OPERATORS if column.json else OPERATORS
    allowed = [key for key, operator in operators.items() if not operator.text or column.sql == "text"]
    return _refused(f"{column.name} cannot be compared by", name, [*allowed, *AMONG, "between", "is_null"])


def _refused(what: str, name: Any, known: Iterable[str]) -> InvalidInput:
    shown = repr(str(name)[:60])
    near = nearest(str(name)[:60], known)
    hint = f"; did you mean {near}?" if near else ""
    message = f"{what} {shown}{hint}"
    return InvalidInput(message, errors=[{"path": str(name)[:60], "message": message}])
