"""Writes to customers when something happens to their orders; keeps what it wrote."""

from uuid import UUID

from cliffracer import App, Event, Model, Repository

app = App("notifications", version="1.0.0", description="writes to customers", calls=[], emits=[], follows=[])


class OrderChanged(Event, subject="order.changed"):
    order_id: UUID
    customer: str
    status: str
    total: int
    reason: str = ""


class Notification(Model):
    __tablename__ = "notifications"
    order_id: UUID
    customer: str
    text: str


@app.on(OrderChanged)
async def notify(change: OrderChanged, *, notifications: Repository[Notification]) -> None:
    """Write once per order, also when its event comes twice."""
    if await notifications.exists(order_id=change.order_id):
        return
    good = f"Your order over {change.total / 100:.2f} is confirmed."
    text = good if change.status == "confirmed" else f"We could not take your order: {change.reason}."
    await notifications.create(Notification(order_id=change.order_id, customer=change.customer, text=text))


@app.rpc
async def written(*, notifications: Repository[Notification]) -> int:
    """Return how many notifications were written."""
    return await notifications.count()
