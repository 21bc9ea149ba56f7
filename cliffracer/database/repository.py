"""`Repository[User]`: the rows of one model, by its declared fields."""

from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, Generic, TypeVar
from uuid import UUID

from cliffracer.database.bulk import COPY_FROM, NO_COPY, create_many, secured
from cliffracer.database.collecting import Collector
from cliffracer.database.columns import misfit
from cliffracer.database.failures import CHECK, unexplained
from cliffracer.database.filters import Where, changed, conditions, natural, only, orders, unknown_field
from cliffracer.database.model import Model, now
from cliffracer.database.names import quoted
from cliffracer.database.pages import Page, Turn, page_of
from cliffracer.database.queries import Queries
from cliffracer.database.searching import matching, rank
from cliffracer.database.statements import MARK, Statements, ordering, statements_of
from cliffracer.database.suspicion import kind_of, watch
from cliffracer.database.table import NOTHING, Table, table_of
from cliffracer.errors import Conflict, InvalidInput, NotFound, ServiceError, SetupError
from cliffracer.suggestions import Suggesting

T = TypeVar("T", bound=Model)
Order = str | Sequence[str] | None


class Repository(Suggesting, Generic[T]):
    """Creates, finds and changes the rows of one model, and reaches no other table.

    It joins the transaction that its task has open; outside of one, each call is a transaction of its own.
    Fields are compared by ``field=value`` or ``field__operator=value``: eq, ne, gt, gte, lt, lte, in, not_in, between,
    is_null; for text like, ilike, contains, icontains, startswith, endswith; for documents contains, and
    ``field__key=value`` for what stands in them.
    """

    def __init__(self, database: Queries, model: type[T]) -> None:
        self.model = model
        self.table: Table[T] = table_of(model)
        self._database = database
        self._secured: bool | None = None
        """Whether row-level security applies to us, once that was asked."""

    @cached_property
    def _sql(self) -> Statements:
        return statements_of(self.table)

    def __repr__(self) -> str:
        return f"Repository[{self.model.__name__}]"

    # -- one row ---------------------------------------------------------------------------------------------------

    async def create(self, row: T) -> T:
        """Store a new row and return it; `Conflict` names a field that is already taken."""
        try:
            await self._database.run(self._sql.insert, self._values(row))
        except InvalidInput as error:
            raise self._explained(error, self.table.explain(row)) from error.__cause__
        return row

    async def get(self, id: UUID | str = NOTHING, /, **filters: Any) -> T:
        """Return the row with this id, or the only one that meets all filters, as ``get(email="ada@x.org")``; or raise `NotFound`.

        Both may be given: ``get(order_id, customer=me)``. Where several rows meet the filters it is a `SetupError`.
        """
        if filters:
            named: dict[str, Any] = filters if id is NOTHING else {"id": id, **filters}
            return only(await self.find(limit=2, **named), self.model, named)
        found = await self._database.rows(self._sql.get, (self.key(id),))
        if not found:
            raise self._missing(id)
        row: T = found[0]
        return row

    async def update(self, id: UUID | str | T, /, **changes: Any) -> T:
        """Change some fields of a row (or store a whole changed Struct) and return it; `NotFound` if there is none.

        With a ``version`` field the change counts it up. Giving the version that the change is based on makes it a
        `Conflict` if the row has another one by now; a whole Struct always gives its own.
        """
        key = self.key(id)
        if isinstance(id, Model):
            kept = {name: getattr(id, name) for name in self.table.columns if name not in {"id", "created_at", "updated_at"}}
            changes = {**kept, **changes}
        expected = changes.pop("version", None) if self.table.versioned else None
        sets, params = self._changes(changes)
        condition, more = self._sql.by_id, [key]
        if expected is not None:
            condition, more = f"{condition} AND {quoted('version')} = %s", [key, self.table.columns["version"].value(expected)]
        try:
            found = await self._database.rows(self._sql.update(sets, condition, returning=True), [*params, *more])
        except InvalidInput as error:
            raise self._explained(error, self._wrong(changes)) from error.__cause__
        if not found:
            raise await self._not_updated(key, expected)
        row: T = found[0]
        return row

    async def upsert(self, row: T, *, on: str | Sequence[str] = "id") -> T:
        """Store a row, or change the one that has the same id (or the same unique fields ``on``), and return what is stored."""
        names = (on,) if isinstance(on, str) else tuple(on)
        if not names:
            raise SetupError("upsert(row, on=...) needs the fields by which a row is known: on='id', or a unique one.")
        for name in names:
            if name not in self.table.columns:
                raise unknown_field(self.table, name)
        try:
            found = await self._database.rows(self._sql.rows(self._sql.upserting(names)), self._values(row))
        except InvalidInput as error:
            raise self._explained(error, self.table.explain(row)) from error.__cause__
        stored: T = found[0]
        return stored

    async def delete(self, id: UUID | str | T, *, forever: bool = False) -> None:
        """Delete a row, or raise `NotFound`. One with ``deleted_at`` is only marked, unless ``forever``."""
        key = self.key(id)
        if self.table.soft and not forever:
            gone = await self._database.run(self._sql.update(MARK, self._sql.by_id), [now(), key])
        else:
            gone = await self._database.run(self._sql.remove, [key])
        if not gone:
            raise self._missing(key)

    async def restore(self, id: UUID | str | T) -> T:
        """Bring a row back that is only marked as deleted, and return it."""
        again = self._sql.update(MARK, self._sql.by_id, returning=True, all_rows=True)
        key = self.key(id)
        found = await self._database.rows(again, [None, key]) if self.table.soft else []
        if not found:
            raise self._missing(key)
        row: T = found[0]
        return row

    # -- several rows ----------------------------------------------------------------------------------------------

    async def find(
        self,
        /,
        *,
        order_by: Order = None,
        limit: int | None = None,
        offset: int = 0,
        search: str | None = None,
        deleted: bool = False,
        **filters: Any,
    ) -> list[T]:
        """Return the rows that meet all filters: ``find(status="active", age__gte=18, order_by="-created_at", limit=50)``.

        ``search`` looks for words in the fields marked with `Search`, best matches first; ``deleted=True`` includes
        rows that are only marked as deleted. Both mean the same in every method that reads.
        """
        where = self._where(filters, search)
        params = where.params
        if order_by or search is None:
            sorting = ordering(orders(self.table, order_by)) if order_by else ""
        else:
            sorting, params = rank(self.table), [*params, search]
        sql = f"{self._sql.select}{self._sql.where(where.sql, all_rows=deleted)}{sorting}"
        for clause, number in (("LIMIT", limit), ("OFFSET", offset or None)):
            if number is not None:
                sql = f"{sql} {clause} %s"
                params.append(natural(clause.lower(), number))
        return await self._database.rows(self._sql.rows(sql), params)

    async def first(self, /, *, order_by: Order = None, **filters: Any) -> T | None:
        """Return the first row that meets all filters, or None."""
        found = await self.find(order_by=order_by, limit=1, **filters)
        return found[0] if found else None

    async def exists(self, /, *, search: str | None = None, deleted: bool = False, **filters: Any) -> bool:
        """Say whether any row meets all filters."""
        where = self._where(filters, search)
        return bool(await self._database.rows(self._sql.any(where.sql, all_rows=deleted), where.params))

    async def count(self, /, *, search: str | None = None, deleted: bool = False, **filters: Any) -> int:
        """Return how many rows meet all filters."""
        where = self._where(filters, search)
        ((number,),) = await self._database.rows(self._sql.count(where.sql, all_rows=deleted), where.params)
        return int(number)

    async def page(
        self,
        /,
        *,
        after: str | UUID | T | None = None,
        limit: int = 100,
        order_by: Order = "id",
        search: str | None = None,
        deleted: bool = False,
        **filters: Any,
    ) -> Page[T]:
        """Return the next ``limit`` rows and the cursor to go on with, or behind the row or id ``after``; changes meanwhile leave no gaps.

        With ``search`` the order is still that of ``order_by``: a page cannot continue from a rank.
        """
        turn = Turn(after, natural("limit", limit, least=1), order_by, deleted)
        return await page_of(self._database, self._sql, self._where(filters, search), turn)

    async def stream(
        self, /, *, order_by: Order = None, size: int = 500, search: str | None = None, deleted: bool = False, **filters: Any
    ) -> AsyncGenerator[T, None]:
        """Yield all rows that meet all filters, ``size`` at a time by a cursor of the server: memory stays flat."""
        where = self._where(filters, search)
        sorting = ordering(orders(self.table, order_by)) if order_by else ""
        statement = self._sql.rows(f"{self._sql.select}{self._sql.where(where.sql, all_rows=deleted)}{sorting}")
        async for row in self._database.streamed(statement, where.params, size):
            yield row

    def collected(self, *, size: int = 100) -> Collector[T]:
        """Return an object whose ``get`` and ``get_many`` join what concurrent calls ask for at the same moment into one query; keep it."""
        return Collector(self, size=size)

    async def create_many(self, rows: Iterable[T]) -> list[T]:
        """Store new rows, all or none, and return them; an error says which row (``index``) was refused."""
        given = list(rows)
        if self._database.suspicious == "reject":  # to look at every value would double the cost of a COPY
            for row in given:
                self._values(row)
        if len(given) >= COPY_FROM and self._secured is None:
            self._secured = await secured(self._database, self._sql)
        try:
            await create_many(self._database, self._sql, given, copying=not self._secured)
        except InvalidInput as error:
            index = error.details.get("index")
            if index is None:
                raise
            made = self._explained(error, self.table.explain(given[index]))
            made.details["index"] = index
            raise made from error.__cause__
        except ServiceError as error:
            if getattr(error.__cause__, "sqlstate", None) == NO_COPY:
                self._secured = None  # it was turned on meanwhile
            raise
        return given

    async def update_many(self, changes: Mapping[str, Any], /, **filters: Any) -> int:
        """Change the same fields of all rows that meet all filters and return how many: ``update_many({"status": "x"}, age__lt=18)``."""
        where = self._some(filters)
        sets, params = self._changes(dict(changes))
        try:
            return await self._database.run(self._sql.update(sets, where.sql), [*params, *where.params])
        except InvalidInput as error:
            raise self._explained(error, self._wrong(changes)) from error.__cause__

    async def delete_many(self, /, *, forever: bool = False, **filters: Any) -> int:
        """Delete all rows that meet all filters and return how many."""
        where = self._some(filters)
        if self.table.soft and not forever:
            return await self._database.run(self._sql.update(MARK, where.sql), [now(), *where.params])
        return await self._database.run(self._sql.delete(where.sql), where.params)

    # -- pieces ----------------------------------------------------------------------------------------------------

    def _explained(self, error: InvalidInput, found: InvalidInput | None) -> ServiceError:
        """Return all that we found wrong, if the server named no field, or only the first one that failed its check."""
        known = error.errors and error.errors[0]["path"] and getattr(error.__cause__, "sqlstate", None) != CHECK
        return unexplained(error) if known or found is None else found

    def _wrong(self, changes: Mapping[str, Any]) -> InvalidInput | None:
        return self.table.explained({name: self.table.columns[name].typed(value) for name, value in changes.items()})

    def in_transaction(self) -> bool:
        """Say whether this task's calls join a transaction now."""
        return self._database.joined() is not None

    def key(self, given: Any) -> Any:
        """Return an id, or that of a row, as its type, or raise `InvalidInput`."""
        return given if type(given) is UUID else self.table.key(given)

    def _values(self, row: T) -> tuple[Any, ...]:
        values = self.table.exactly(row)
        mode = self._database.suspicious
        if mode != "off":
            for place, name in self.table.texts:
                if kind_of(values[place]) is not None:
                    watch(mode, self.model.__name__, name, values[place])
        return values

    def _watch(self, named: Mapping[str, Any]) -> None:
        mode = self._database.suspicious
        if mode != "off":
            for name, value in named.items():
                watch(mode, self.model.__name__, name, value)

    def _where(self, filters: Mapping[str, Any], search: str | None = None) -> Where:
        where = conditions(self.table, filters)
        self._watch(filters if search is None else {**filters, "search": search})
        return where if search is None else matching(self.table, where, search)

    def _some(self, filters: Mapping[str, Any]) -> Where:
        if not filters:
            raise InvalidInput("at least one filter is needed, or every row would be meant")
        return self._where(filters)

    def _changes(self, changes: dict[str, Any]) -> tuple[str, list[Any]]:
        self._watch(changes)
        sets, params = [], []
        for name, value in changes.items():
            column = self.table.columns.get(name)
            if column is None:
                raise unknown_field(self.table, name)
            if name == "id" or (name == "version" and self.table.versioned):
                raise misfit(name, "cannot be changed" if name == "id" else "counts changes and cannot be set")
            sets.append(f"{quoted(name)} = %s")
            params.append(changed(column, value))
        if "updated_at" not in changes:
            sets.append(f"{quoted('updated_at')} = %s")
            params.append(now())
        if self.table.versioned:
            sets.append(f"{quoted('version')} = {quoted('version')} + 1")
        return ", ".join(sets), params

    def _missing(self, key: Any) -> NotFound:
        return NotFound(f"no {self.model.__name__} {str(key)[:60]}")

    async def _not_updated(self, key: Any, expected: Any) -> Exception:
        if expected is not None and await self.exists(id=key):
            return Conflict(f"{self.model.__name__} was changed by somebody else meanwhile", field="version", fields=["version"])
        return self._missing(key)
