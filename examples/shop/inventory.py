"""What is in stock: reserves goods for an order, all of them or none."""

from operator import itemgetter
from typing import Annotated
from uuid import UUID

from msgspec import Meta, Struct

from cliffracer import App, Conflict, Database, Model, NotFound, Repository, Transaction, Unique

app = App("inventory", version="1.0.0", description="what is in stock", calls=[], emits=[], follows=[])
ASSORTMENT = {"pen": (150, 1000), "book": (1290, 500), "lamp": (4500, 300), "desk": (19900, 80)}


class Article(Model):
    __tablename__ = "articles"
    sku: Annotated[str, Meta(min_length=1, max_length=40), Unique()]
    price: Annotated[int, Meta(ge=0, description="in cents")]
    stock: Annotated[int, Meta(ge=0)]


class Reservation(Model):
    __tablename__ = "reservations"
    order_id: UUID
    sku: str
    quantity: int


class Line(Struct):
    sku: Annotated[str, Meta(min_length=1, max_length=40)]
    quantity: Annotated[int, Meta(ge=1, le=1000)]


@app.rpc
async def stock_up(sku: str, price: int, stock: int, *, articles: Repository[Article]) -> Article:
    """Put an article on the shelf, or set its price and stock."""
    return await articles.upsert(Article(sku=sku, price=price, stock=stock), on="sku")


@app.rpc
async def reserve(order_id: UUID, lines: list[Line], *, tx: Transaction, reservations: Repository[Reservation]) -> int:
    """Take the goods of an order off the shelf and return what they cost, in cents; nothing is taken if one is missing."""
    total = 0
    for line in sorted(lines, key=lambda line: line.sku):  # always in one order, so that two orders never wait for each other
        taken = await tx.fetch_one(
            "update articles set stock = stock - %s where sku = %s and stock >= %s returning price", line.quantity, line.sku, line.quantity
        )
        if taken is None:
            known = await tx.fetch_value("select stock from articles where sku = %s", line.sku)
            if known is None:
                raise NotFound(f"no article {line.sku}", sku=line.sku)
            raise Conflict(f"only {known} of {line.sku} left" if known else f"no {line.sku} is left", sku=line.sku, stock=known)
        total += taken["price"] * line.quantity
        await reservations.create(Reservation(order_id=order_id, sku=line.sku, quantity=line.quantity))
    return total


@app.rpc
async def release(order_id: UUID, *, tx: Transaction) -> None:
    """Put the goods of an order back; doing it twice is the same as once."""
    gone = await tx.fetch("delete from reservations where order_id = %s returning sku, quantity", order_id)
    for row in sorted(gone, key=itemgetter("sku")):  # in the same order as above
        await tx.execute("update articles set stock = stock + %s where sku = %s", row["quantity"], row["sku"])


@app.rpc
@app.get("/shelf")
async def shelf(*, articles: Repository[Article]) -> dict[str, int]:
    """Return the stock of every article."""
    return {article.sku: article.stock for article in await articles.find(limit=1000)}


@app.rpc
async def reserved(*, db: Database) -> dict[str, int]:
    """Return how much of each article is reserved."""
    rows = await db.fetch("select sku, sum(quantity)::int as quantity from reservations group by sku")
    return {row["sku"]: row["quantity"] for row in rows}


@app.rpc
async def holding(*, db: Database) -> int:
    """Return for how many orders something is reserved."""
    return await db.fetch_value(int, "select count(distinct order_id) from reservations") or 0


@app.on_startup
async def open_shop(*, articles: Repository[Article]) -> None:
    """Put something on the shelf of a new shop."""
    if not await articles.count():
        await articles.create_many([Article(sku=sku, price=price, stock=stock) for sku, (price, stock) in ASSORTMENT.items()])
