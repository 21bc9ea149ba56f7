"""The rows of one model over several databases: queries go to the one that has them, or to all at once."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Any, TypeVar
from uuid import UUID

from cliffracer.database.columns import misfit
from cliffracer.database.filters import Order, natural, orders
from cliffracer.database.model import Model, Shard
from cliffracer.database.pages import Page, sealed, total_order
from cliffracer.database.repository import Order as OrderBy
from cliffracer.database.repository import Repository
from cliffracer.database.table import NOTHING
from cliffracer.errors import NotFound, ServiceError, SetupError

T = TypeVar("T", bound=Model)
R = TypeVar("R")


class ScatteredRepository(Repository[T]):
    """A `Repository` whose rows are kept by several databases.

    A filter on the shard field goes to one of them, anything else to all at once. ``create_many`` is all or none on
    each of them, not over all. Text is merged by code points: give the databases a C collation if they are to agree.
    """

    def __init__(self, database: Any, model: type[T]) -> None:
        super().__init__(database, model)
        if model.__shard__ is None:
            raise SetupError(f"{model.__name__} has no __shard__: write __shard__ = Shard('tenant_id').")
        self._shard: Shard = model.__shard__
        self._spread = database

    # -- where -----------------------------------------------------------------------------------------------------

    def _place(self, value: Any) -> int:
        column = self.table.columns[self._shard.field]
        return self._shard.place(value if type(value) is column.plain else column.value(value), len(self._spread.shards))

    def _places(self, filters: dict[str, Any]) -> list[int]:
        """Return which databases may have such rows; each of them will read the filters, so what can be read once is made a list."""
        filters.update({name: list(value) for name, value in filters.items() if isinstance(value, Iterator)})
        field = self._shard.field
        value = filters.get(field, filters.get(f"{field}__eq"))
        if value is not None:
            return [self._place(value)]
        if isinstance(filters.get(f"{field}__in"), list | tuple | set):
            return sorted({self._place(value) for value in filters[f"{field}__in"]})
        return list(range(len(self._spread.shards)))

    async def _part(self, place: int) -> Repository[T]:
        found: Repository[T] = (await self._spread.on(place)).repository(self.model)
        return found

    async def _ask(self, places: list[int], question: Callable[[Repository[T]], Awaitable[R]]) -> list[R]:
        if len(places) == 1:
            return [await question(await self._part(places[0]))]
        if self.in_transaction():
            where = f"{self.model.__name__}.{self._shard.field}"
            raise SetupError(f"In a transaction a filter on {where} must say whose rows are meant: others are kept by other databases.")
        return list(await asyncio.gather(*(self._put(question, place) for place in places)))

    async def _put(self, question: Callable[[Repository[T]], Awaitable[R]], place: int) -> R:
        return await question(await self._part(place))

    async def _holder(self, key: Any) -> Repository[T]:
        """Return the part that has the row with this id, or raise `NotFound`."""
        places = self._places({"id": self.key(key)})
        if len(places) > 1:
            has = await self._ask(places, lambda part: part.exists(id=key))
            places = [place for place, found in zip(places, has, strict=True) if found]
        if not places:
            raise NotFound(f"no {self.model.__name__} {str(key)[:60]}")
        return await self._part(places[0])

    def _home(self, row: T) -> int:
        if not isinstance(row, self.model):
            raise self.table.misfit(row, TypeError(type(row).__name__))
        return self._place(getattr(row, self._shard.field))

    async def _of(self, row: T) -> Repository[T]:
        return await self._part(self._home(row))

    # -- one row ---------------------------------------------------------------------------------------------------

    async def create(self, row: T) -> T:
        """Store a new row where it belongs and return it."""
        return await (await self._of(row)).create(row)

    async def get(self, id: UUID | str = NOTHING, /, **filters: Any) -> T:
        """Return the row with this id, or the only one that meets all filters; sharded by another field, all databases are asked."""
        if filters:
            return await super().get(id, **filters)
        return await (await self._holder(id)).get(id)

    async def update(self, id: UUID | str | T, /, **changes: Any) -> T:
        """Change some fields of a row and return it; the field that decides where it is kept cannot change."""
        if isinstance(id, Model):
            return await (await self._of(id)).update(id, **changes)
        part = await self._holder(id)
        if self._shard.field in changes:
            raise misfit(self._shard.field, "decides where the row is kept and cannot change")
        return await part.update(id, **changes)

    async def upsert(self, row: T, *, on: str | Sequence[str] = "id") -> T:
        """Store a row, or change the one in the same database that it conflicts with."""
        return await (await self._of(row)).upsert(row, on=on)

    async def delete(self, id: UUID | str | T, *, forever: bool = False) -> None:
        """Delete a row, or raise `NotFound`."""
        key = self.key(id)
        await (await self._holder(key)).delete(key, forever=forever)

    async def restore(self, id: UUID | str | T) -> T:
        """Bring a row back that is only marked as deleted, and return it."""
        key = self.key(id)
        places = self._places({"id": key})
        has = await self._ask(places, lambda part: part.count(id=key, deleted=True))
        return await (await self._part(has.index(1) if 1 in has and len(has) > 1 else places[0])).restore(key)

    # -- several rows ----------------------------------------------------------------------------------------------

    async def find(
        self,
        /,
        *,
        order_by: OrderBy = None,
        limit: int | None = None,
        offset: int = 0,
        search: str | None = None,
        deleted: bool = False,
        **filters: Any,
    ) -> list[T]:
        """Return the rows that meet all filters, merged by the order asked for."""
        places = self._places(filters)
        if len(places) == 1:
            part = await self._part(places[0])
            return await part.find(order_by=order_by, limit=limit, offset=offset, search=search, deleted=deleted, **filters)
        offset = natural("offset", offset or 0)
        most = None if limit is None else natural("limit", limit) + offset
        found = await self._ask(places, lambda part: part.find(order_by=order_by, limit=most, search=search, deleted=deleted, **filters))
        rows = merged([row for part in found for row in part], orders(self.table, order_by) if order_by else [])
        return rows[offset : None if limit is None else offset + limit]

    async def exists(self, /, *, search: str | None = None, deleted: bool = False, **filters: Any) -> bool:
        """Say whether any row meets all filters."""
        return any(await self._ask(self._places(filters), lambda part: part.exists(search=search, deleted=deleted, **filters)))

    async def count(self, /, *, search: str | None = None, deleted: bool = False, **filters: Any) -> int:
        """Return how many rows meet all filters."""
        return sum(await self._ask(self._places(filters), lambda part: part.count(search=search, deleted=deleted, **filters)))

    async def page(
        self,
        /,
        *,
        after: str | UUID | T | None = None,
        limit: int = 100,
        order_by: OrderBy = "id",
        search: str | None = None,
        deleted: bool = False,
        **filters: Any,
    ) -> Page[T]:
        """Return the next ``limit`` rows over all databases, and the cursor to go on with."""
        places = self._places(filters)
        asked: dict[str, Any] = {"after": after, "limit": limit, "order_by": order_by, "search": search, "deleted": deleted, **filters}
        pages = await self._ask(places, lambda part: part.page(**asked))
        sorting = total_order(self.table, order_by)
        rows = merged([row for page in pages for row in page.items], sorting)
        more = len(rows) > limit or any(page.next for page in pages)
        return Page(rows[:limit], sealed(sorting, rows[limit - 1]) if more and limit else None)

    async def stream(
        self, /, *, order_by: OrderBy = None, size: int = 500, search: str | None = None, deleted: bool = False, **filters: Any
    ) -> AsyncGenerator[T, None]:
        """Yield all rows that meet all filters, one database after the other."""
        places = self._places(filters)
        if order_by and len(places) > 1:
            raise SetupError("Rows of several databases are streamed one database after the other: leave order_by out, or use page.")
        for place in places:
            async for row in (await self._part(place)).stream(order_by=order_by, size=size, search=search, deleted=deleted, **filters):
                yield row

    async def create_many(self, rows: Iterable[T]) -> list[T]:
        """Store new rows where they belong: all or none on each database."""
        given = list(rows)
        parts: dict[int, list[int]] = {}
        for index, row in enumerate(given):
            parts.setdefault(self._home(row), []).append(index)
        for place, indices in parts.items():
            try:
                await (await self._part(place)).create_many([given[index] for index in indices])
            except ServiceError as error:
                if "index" in error.details:  # counted among the rows of that database
                    error.details["index"] = indices[error.details["index"]]
                raise
        return given

    async def update_many(self, changes: Mapping[str, Any], /, **filters: Any) -> int:
        """Change the same fields of all rows that meet all filters and return how many."""
        if self._shard.field in changes:
            raise misfit(self._shard.field, "decides where the row is kept and cannot change")
        return sum(await self._ask(self._places(filters), lambda part: part.update_many(changes, **filters)))

    async def delete_many(self, /, *, forever: bool = False, **filters: Any) -> int:
        """Delete all rows that meet all filters and return how many."""
        return sum(await self._ask(self._places(filters), lambda part: part.delete_many(forever=forever, **filters)))


def merged(rows: list[T], sorting: list[Order]) -> list[T]:
    """Return rows in the order that one database would give them: empty values last, or first when descending."""
    for order in reversed(sorting):
        if order.column.json:
            raise misfit("order_by", f"{order.column.name} cannot order rows of several databases: it is a document")
        rows.sort(key=lambda row, name=order.column.name: _rank(getattr(row, name)), reverse=order.descending)  # type: ignore[misc]  # bound at once
    return rows


def _rank(value: Any) -> tuple[int, Any]:
    if value is None:
        return 2, 0
    if isinstance(value, Enum):
        value = value.value
    return (1, 0) if value != value else (0, value)  # noqa: PLR0124 - NaN is greater than any number, says PostgreSQL
