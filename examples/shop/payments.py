"""Charges cards; one charge per order, however often it is asked for."""

from typing import Annotated
from uuid import UUID

from msgspec import Meta

from cliffracer import App, Conflict, Database, Model, Repository, Unique

app = App("payments", version="1.0.0", description="charges cards", calls=[], emits=[], follows=[])


class Charge(Model):
    __tablename__ = "charges"
    order_id: Annotated[UUID, Unique()]
    amount: Annotated[int, Meta(gt=0, description="in cents")]


@app.rpc(idempotent=True)  # so callers may repeat it when they do not know what became of it
async def charge(
    order_id: UUID,
    amount: Annotated[int, Meta(gt=0)],
    card: Annotated[str, Meta(pattern=r"^[0-9]{16}$", description="a test card; those that begin with 4000 are declined")],
    *,
    charges: Repository[Charge],
) -> Charge:
    """Charge a card for an order."""
    if card.startswith("4000"):
        raise Conflict("the card was declined")
    done = await charges.first(order_id=order_id)
    return done or await charges.create(Charge(order_id=order_id, amount=amount))


@app.rpc
async def ledger(*, db: Database) -> int:
    """Return what was charged in all, in cents."""
    return await db.fetch_value(int, "select coalesce(sum(amount), 0)::bigint from charges") or 0
