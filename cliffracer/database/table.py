"""A Model compiled: its columns, keys and the two functions that turn a row into a Struct and back."""

import keyword
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from functools import cache
from types import NoneType
from typing import Any, Generic, TypeVar
from uuid import UUID

import msgspec

from cliffracer.database.columns import Column, column_of, misfit
from cliffracer.database.decimals import beyond, limited
from cliffracer.database.model import Index, Model, References, Search, Shard, Unique, tablename_of
from cliffracer.errors import FieldError, InvalidInput, SetupError
from cliffracer.wire.validation import Explainer, by_value

T = TypeVar("T", bound=Model)

UNSENDABLE = (AttributeError, TypeError, ValueError, ArithmeticError, RecursionError, msgspec.MsgspecError)
"""What encoding raises for a value that is not of the type that its field declares."""

TOO_DEEP = "is nested too deeply"
NOTHING: Any = object()
"""Marks that no id was given: any value from a caller, None and `msgspec.UNSET` too, is one to look for."""
TAKEN = ("order_by", "limit", "offset", "search", "deleted")
"""Parameters of `find` beside filters: a field of such a name could not be filtered by."""
SYSTEM = ("tableoid", "xmin", "cmin", "xmax", "cmax", "ctid")
LONGEST_NAME = 63
"""PostgreSQL cuts longer identifiers off in silence."""


class Key(msgspec.Struct, frozen=True):
    """A constraint or index over columns of one table."""

    name: str
    fields: tuple[str, ...]
    method: str = "btree"
    where: str | None = None


class Table(msgspec.Struct, Generic[T], frozen=True, kw_only=True, eq=False):
    """What a repository and the schema know about a model."""

    model: type[T]
    name: str
    columns: dict[str, Column]
    uniques: tuple[Key, ...]
    indexes: tuple[Key, ...]
    search: tuple[Column, ...]
    texts: tuple[tuple[int, str], ...]
    """Places and names of the columns that hold free text, alone or in documents."""
    wholes: tuple[int, ...]
    """Places of the columns that hold whole numbers."""
    versioned: bool
    soft: bool
    make: Callable[[Sequence[Any]], T]
    """Row of all columns, in order, to Struct."""
    values: Callable[[T], tuple[Any, ...]]
    """Struct to the parameters of all columns, in order."""

    def parameters(self, row: T) -> tuple[Any, ...]:
        """Return a row's values as parameters; `InvalidInput` that lists every field which cannot be sent."""
        try:
            return self.values(row)
        except UNSENDABLE as error:
            raise self.misfit(row, error) from error

    def exactly(self, row: T) -> tuple[Any, ...]:
        """As `parameters`, for an INSERT: PostgreSQL would round 2.5 to a whole number, and make text of anything."""
        values = self.parameters(row)
        odd = False
        for place in self.wholes:
            odd |= isinstance(values[place], NOT_WHOLE)
        for place, _ in self.texts:
            odd |= not isinstance(values[place], TEXT)
        if odd and (found := self.explain(row)) is not None:
            raise found
        return values

    def key(self, given: Any) -> Any:
        """Return an id, or that of a row, as its type; `InvalidInput` for what is none, `SetupError` for a row of another model."""
        if given is NOTHING:
            raise InvalidInput("an id or a filter is needed: get(user_id), get(email=...)")
        if isinstance(given, Model) and not isinstance(given, self.model):
            raise SetupError(f"A {type(given).__name__} was given where a {self.model.__name__} is meant.")
        return self.columns["id"].value(given.id if isinstance(given, Model) else given)

    def misfit(self, row: T, error: Exception) -> InvalidInput:
        """Return `InvalidInput` that names every field of a row that could not be sent; `SetupError` for what is no such row."""
        if not isinstance(row, self.model):
            name = self.model.__name__
            raise SetupError(f"A {type(row).__name__} was given where a {name} is stored: write {name}(...).") from error
        found = self.explain(row)
        for name, column in self.columns.items():
            value = getattr(row, name)
            if found is None and column.plain is not None and not isinstance(value, column.plain | None):  # COPY converts nothing
                found = misfit(name, f"must be a {column.plain.__name__}, and is a {type(value).__name__}")
        return found or misfit("", f"{self.model.__name__} cannot be stored: {type(error).__name__}")

    def explain(self, row: T) -> InvalidInput | None:
        """Return `InvalidInput` naming every field whose value does not fit the declaration; None if all do."""
        return self.explained({name: getattr(row, name) for name in self.columns})

    def explained(self, values: Mapping[str, Any]) -> InvalidInput | None:
        """As `explain`, for the values of some fields."""
        errors = [error for name, value in values.items() for error in _errors_of(self.columns[name], value)]
        if len(errors) > 1:
            return InvalidInput("the input is not valid", errors=errors)
        return misfit(errors[0].path, errors[0].message) if errors else None


NOT_WHOLE, TEXT = (float, Decimal, bool), (str, NoneType)
BUILT_IN = (bytes, datetime, UUID)
_BIGINT = 2**63


def _errors_of(column: Column, value: Any) -> list[FieldError]:
    """Return why a value does not fit its column; nothing if it does."""
    if value is None:
        return [FieldError(column.name, "is required")] if column.required else []
    given: Any = None
    try:
        given = msgspec.to_builtins(value, builtin_types=BUILT_IN)
        checked = msgspec.convert(given, column.kind, strict=True)
        _storable(checked if column.dump is None else column.dump(checked))
    except InvalidInput as error:
        return [FieldError(**entry) for entry in error.errors]
    except RecursionError:
        return [FieldError(column.name, TOO_DEEP)]
    except UNSENDABLE as error:
        return _refusals(column, given, error)
    message = beyond(column, checked)
    return [FieldError(column.name, message)] if message else []


def _refusals(column: Column, given: Any, error: Exception) -> list[FieldError]:
    """Return every reason why a value (as builtin types) was refused, worded as for a caller's input."""
    found = Explainer(column.kind, by_value).explain(given) if isinstance(error, msgspec.ValidationError) else []
    reasons = [f"{reason.path}: {reason.message}" if reason.path else reason.message for reason in found] or [str(error)]
    return [FieldError(column.name, reason) for reason in reasons]


def _storable(value: Any) -> None:
    if isinstance(value, str):
        if "\0" in value:
            raise ValueError("must not contain the character NUL")
        value.encode()  # a lone surrogate has no UTF-8
    elif isinstance(value, int) and not -_BIGINT <= value < _BIGINT:
        raise ValueError(f"must be between -{_BIGINT} and {_BIGINT - 1}")


@cache  # one entry per model of the program
def table_of(model: type[T]) -> Table[T]:
    """Return the compiled model; `SetupError` if it cannot be a table."""
    if not (isinstance(model, type) and issubclass(model, Model)):
        raise SetupError(f"{model!r} is not a Model: write class {getattr(model, '__name__', 'Thing')}(Model).")
    columns = {field.name: limited(column_of(model, field)) for field in msgspec.structs.fields(model)}
    name = tablename_of(model)
    for identifier in (name, *columns):
        _check_name(model, identifier)
    for field in columns:
        _check_field(model, field)
    if not isinstance(model.__shard__, Shard | None):
        raise SetupError(f"{model.__qualname__}: __shard__ is {model.__shard__!r}. Write __shard__ = Shard('tenant_id').")
    if model.__shard__ is not None and model.__shard__.field not in columns:
        raise SetupError(f"{model.__qualname__}: Shard({model.__shard__.field!r}) does not name a field. Fields: {', '.join(columns)}.")
    for column in columns.values():
        if column.marked(Search) and column.sql != "text":
            raise SetupError(f"{model.__qualname__}.{column.name}: Search() looks for words in text, and this is {column.sql}.")
    uniques, indexes = _keys(model, name, columns)
    return Table(
        model=model,
        name=name,
        columns=columns,
        uniques=uniques,
        indexes=indexes,
        search=tuple(column for column in columns.values() if column.marked(Search)),
        texts=tuple((place, name) for place, (name, column) in enumerate(columns.items()) if column.sql in {"text", "jsonb"}),
        wholes=tuple(place for place, column in enumerate(columns.values()) if column.sql == "bigint"),
        versioned=_is(columns.get("version"), "bigint", nullable=False),
        soft=_is(columns.get("deleted_at"), "timestamp with time zone", nullable=True),
        make=compile_make(model, columns),
        values=_compile_values(columns),
    )


def short(name: str) -> str:
    """Return a name for a constraint that PostgreSQL keeps whole; a long one ends in a checksum of itself."""
    if len(name.encode()) <= LONGEST_NAME:
        return name
    digest = sum(byte * 31**place for place, byte in enumerate(name.encode())) % 16**8
    return f"{name.encode()[: LONGEST_NAME - 9].decode(errors='ignore')}_{digest:08x}"


def _is(column: Column | None, sql: str, *, nullable: bool) -> bool:
    return column is not None and column.sql == sql and column.nullable is nullable


def _check_name(model: type, identifier: str) -> None:
    if not identifier or "\0" in identifier or len(identifier.encode()) > LONGEST_NAME:
        raise SetupError(f"{model.__qualname__}: the name {identifier!r} must have 1 to {LONGEST_NAME} bytes. Choose a shorter one.")
    if "%" in identifier:
        raise SetupError(f"{model.__qualname__}: the name {identifier!r} has a %, the sign of parameters in SQL. Choose one without it.")


def _check_field(model: type, field: str) -> None:
    if field in TAKEN:
        raise SetupError(f"{model.__qualname__}: {field!r} is an argument of find() and no field. Give it a longer name: {field}_value.")
    if field in SYSTEM:
        raise SetupError(f"{model.__qualname__}: {field!r} is a column that PostgreSQL adds to every table. Choose another name.")
    if "__" in field:
        raise SetupError(f"{model.__qualname__}: {field!r} has two underscores, as find(age__gte=18) has before an operator. Use one.")


def _beside(model: type[Model]) -> tuple[Unique | Index, ...]:
    """Return the keys and indexes in ``__indexes__``; `SetupError` for anything else there, or for such declarations elsewhere."""
    given: Any = model.__indexes__
    several = (given,) if isinstance(given, Unique | Index) else tuple(given)
    strange = [f"__indexes__ has {marker!r}" for marker in several if not isinstance(marker, Unique | Index)]
    strange += [f"{name} means nothing" for name in ("__table_args__", "__unique__", "__uniques__", "__index__") if name in vars(model)]
    if strange:
        cure = "Keys and indexes over several fields are __indexes__ = (Unique('a', 'b'), Index('c', 'd'))."
        raise SetupError(f"{model.__qualname__}: {strange[0]}. {cure}")
    return several


def _keys(model: type[Model], table: str, columns: dict[str, Column]) -> tuple[tuple[Key, ...], tuple[Key, ...]]:
    declared: list[tuple[Unique | Index, tuple[str, ...]]] = []
    for column in columns.values():
        declared.extend((marker, (column.name,)) for marker in column.markers if isinstance(marker, Unique | Index))
        if column.marked(References) and not column.marked(Unique):
            declared.append((Index(), (column.name,)))
    declared.extend((marker, marker.fields) for marker in _beside(model))
    uniques: list[Key] = []
    indexes: list[Key] = []
    for marker, fields in declared:
        for field in fields or ("",):
            if field not in columns:
                raise SetupError(f"{model.__qualname__}: {marker!r} names {field!r}, which is not a field. Fields: {', '.join(columns)}.")
        stem = f"{table}_{'_'.join(fields)}"
        if isinstance(marker, Unique):
            uniques.append(Key(short(f"{stem}_key"), fields, where=marker.where))
        else:
            indexes.append(Key(short(f"{stem}_idx"), fields, marker.method, marker.where))
    return tuple(dict.fromkeys(uniques)), tuple(dict.fromkeys(indexes))


def compile_make(kind: type, columns: dict[str, Column]) -> Callable[[Sequence[Any]], Any]:
    """Return the function from a row of these columns to a Struct, without a detour through a dict (half its time)."""
    scope: dict[str, Any] = {"_kind": kind}
    parts = []
    for place, column in enumerate(columns.values()):
        if column.load is None:
            parts.append(f"{column.name}=row[{place}]")
        else:
            scope[f"_load{place}"] = column.load
            guard = f"None if row[{place}] is None else " if column.nullable else ""
            parts.append(f"{column.name}={guard}_load{place}(row[{place}])")
    return _compiled(columns, f"lambda row: _kind({', '.join(parts)})", scope)


def _compile_values(columns: dict[str, Column]) -> Callable[[Any], tuple[Any, ...]]:
    scope: dict[str, Any] = {}
    parts = []
    for place, column in enumerate(columns.values()):
        if column.dump is None:
            parts.append(f"it.{column.name}")
        else:
            scope[f"_dump{place}"] = column.dump
            guard = f"None if it.{column.name} is None else " if column.nullable else ""
            parts.append(f"{guard}_dump{place}(it.{column.name})")
    return _compiled(columns, f"lambda it: ({', '.join(parts)},)", scope)


def _compiled(columns: dict[str, Column], source: str, scope: dict[str, Any]) -> Callable[[Any], Any]:
    for name in columns:
        if not name.isidentifier() or keyword.iskeyword(name):
            raise SetupError(f"{name!r} cannot be the name of a field.")
    made: Callable[[Any], Any] = eval(source, {"__builtins__": {"None": None}, **scope})  # noqa: S307 - of field names only, checked above
    return made
