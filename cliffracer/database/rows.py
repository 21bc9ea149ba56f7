"""Converts the rows of a hand-written query to the type that was asked for."""

from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Any, get_origin

import msgspec

from cliffracer.database.columns import Column, column_of, unwrap
from cliffracer.database.link import Make, RowFactory
from cliffracer.database.table import compile_make
from cliffracer.errors import SetupError

DOCUMENTS = (114, 3802)
"""Object ids of json and jsonb, the same in every PostgreSQL."""


@lru_cache(maxsize=512)
def factory_of(kind: Any) -> RowFactory:
    """Return the row factory for a type: a Struct by column names, dict, tuple, or the one column's value."""
    bare, _, _ = unwrap(kind)
    origin = get_origin(bare) or bare
    if isinstance(origin, type) and issubclass(origin, msgspec.Struct):
        return _structs(bare)
    if origin is dict:
        return _dicts
    if origin is tuple:
        return _tuples
    return value_of(kind)


def _shape(cursor: Any) -> tuple[tuple[str, bool], ...]:
    return tuple((column.name, column.type_code in DOCUMENTS) for column in cursor.description or ())


def _structs(kind: Any) -> RowFactory:
    declared = {field.name: column_of(get_origin(kind) or kind, field) for field in msgspec.structs.fields(kind)}

    @lru_cache(maxsize=64)
    def compiled(shape: tuple[tuple[str, bool], ...]) -> Make:
        given = {name for name, _ in shape}
        missing = [column.name for column in declared.values() if column.name not in given and _required(column)]
        if missing:
            columns = ", ".join(sorted(given))
            raise SetupError(f"The query gives no {', '.join(missing)}, which {kind.__qualname__} needs. Its columns: {columns}.")
        places = {column: place for place, (column, _) in enumerate(shape) if column in declared}
        make = compile_make(kind, {name: _coercing(declared[name]) for name in places})
        if list(places.values()) == list(range(len(shape))):
            return make
        picked = tuple(places.values())
        return lambda row: make([row[place] for place in picked])

    def factory(cursor: Any) -> Make:
        return compiled(_shape(cursor))

    return factory


def _required(column: Column) -> bool:
    return column.default is msgspec.NODEFAULT and column.factory is msgspec.NODEFAULT


def _coercing(column: Column) -> Column:
    """Return the column with a loader that also takes what an expression, instead of the plain column, may return."""
    known, plain, load = column.kind, column.plain, column.load

    def coerce(value: Any) -> Any:
        if load is not None:
            return load(value)
        return value if value is None or type(value) is plain else _convert(value, known)

    return msgspec.structs.replace(column, load=coerce)


def _convert(value: Any, kind: Any) -> Any:
    if isinstance(value, bytes) and unwrap(kind)[0] is not bytes:
        return msgspec.json.decode(value, type=kind)
    if isinstance(value, Decimal) and unwrap(kind)[0] in {float, int}:
        value = float(value) if value % 1 else int(value)
    return msgspec.convert(value, kind, strict=False)


def _decoded(shape: tuple[tuple[str, bool], ...]) -> Callable[[Sequence[Any]], Sequence[Any]]:
    documents = [place for place, (_, document) in enumerate(shape) if document]
    if not documents:
        return lambda row: row

    def decode(row: Sequence[Any]) -> Sequence[Any]:
        values = list(row)
        for place in documents:
            if values[place] is not None:
                values[place] = msgspec.json.decode(values[place])
        return values

    return decode


def _dicts(cursor: Any) -> Make:
    shape = _shape(cursor)
    names, decode = [name for name, _ in shape], _decoded(shape)
    return lambda row: dict(zip(names, decode(row), strict=True))


def _tuples(cursor: Any) -> Make:
    decode = _decoded(_shape(cursor))
    return lambda row: tuple(decode(row))


@lru_cache(maxsize=512)
def value_of(kind: Any) -> RowFactory:
    """Return the row factory for the value in the first column."""

    def factory(cursor: Any) -> Make:
        shape = _shape(cursor)
        if not shape:
            return lambda _row: None
        document = shape[0][1]
        bare = unwrap(kind)[0]

        def make(row: Sequence[Any]) -> Any:
            value = row[0]
            if value is None or type(value) is bare:
                return value if not document or value is None else msgspec.json.decode(value, type=kind)
            if kind is Any:
                return msgspec.json.decode(value) if document else value
            return _convert(value, kind)

        return make

    return factory
