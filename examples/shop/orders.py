"""Takes orders over HTTP, has the goods reserved and the card charged, and tells everybody how it went."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

from msgspec import Meta, Struct

from cliffracer import App, Database, Event, Model, Repository, Retry, ServiceError, provided

app = App(
    "orders",
    version="1.0.0",
    description="takes orders",
    calls=["inventory.reserve", "inventory.release", "payments.charge"],  # all that it does to others: cliffracer permissions
    emits=["order.changed"],
    follows=["order.changed"],
)
inventory = app.service("inventory", timeout=5)
payments = app.service("payments", timeout=5, retry=Retry())  # again if it was restarted meanwhile: it says that it may be asked twice

Status = Literal["open", "confirmed", "refused"]


class Line(Struct):
    sku: Annotated[str, Meta(min_length=1, max_length=40)]
    quantity: Annotated[int, Meta(ge=1, le=1000)]


class NewOrder(Struct, forbid_unknown_fields=True):
    customer: Annotated[str, Meta(min_length=1, max_length=100)]
    card: Annotated[str, Meta(pattern=r"^[0-9]{16}$")]
    lines: Annotated[list[Line], Meta(min_length=1, max_length=50)]


class Order(Model):
    __tablename__ = "orders"
    customer: str
    lines: list[Line]
    total: int = 0
    status: Status = "open"
    reason: str = ""


class OrderChanged(Event, subject="order.changed"):
    order_id: UUID
    customer: str
    status: Status
    total: int
    reason: str = ""


@app.rpc
@app.post("/orders", status=201)
async def place_order(new: NewOrder, *, orders: Repository[Order] = provided) -> Order:
    """Place an order: it comes back confirmed, or refused with the reason."""
    order = await orders.create(Order(customer=new.customer, lines=new.lines))
    try:
        total = await inventory.reserve(order_id=order.id, lines=new.lines)
        await payments.charge(order_id=order.id, amount=total, card=new.card)
    except ServiceError as error:
        await inventory.send.release(order_id=order.id)  # one way and stored: done even if inventory is down right now
        order = await orders.update(order.id, status="refused", reason=error.message)
    else:
        order = await orders.update(order.id, status="confirmed", total=total)
    await app.emit(OrderChanged(order.id, order.customer, order.status, order.total, order.reason))
    return order


@app.get("/orders/{order_id}")
async def get_order(order_id: UUID, *, orders: Repository[Order]) -> Order:
    """Return one order."""
    return await orders.get(order_id)


@app.get("/orders")
async def list_orders(
    status: Status | None = None, limit: Annotated[int, Meta(ge=1, le=500)] = 50, *, orders: Repository[Order]
) -> list[Order]:
    """Return the latest orders, newest first."""
    chosen: dict[str, Any] = {} if status is None else {"status": status}
    return await orders.find(order_by="-created_at", limit=limit, **chosen)


@app.rpc
@app.get("/totals")
async def totals(*, orders: Repository[Order], db: Database) -> dict[str, int]:
    """Return how many orders have each status, and what the confirmed ones come to, in cents."""
    found = {status: await orders.count(status=status) for status in ("open", "confirmed", "refused")}
    cents = await db.fetch_value(int, "select coalesce(sum(total), 0)::bigint from orders where status = 'confirmed'")
    return {**found, "cents": cents or 0}


@app.websocket("/orders/feed")
async def feed() -> AsyncIterator[OrderChanged]:
    """Send every change of an order as it happens."""
    async for event in app.events(OrderChanged):
        yield event.data


app.static("/", Path(__file__).parent / "page")
