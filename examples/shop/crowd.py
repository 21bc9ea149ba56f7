"""Customers who cannot stop buying: the load generator behind the buttons of the page."""

import asyncio
import random
from typing import Annotated

from msgspec import Meta, Struct

from cliffracer import App, ServiceError
from examples.shop.orders import Line, NewOrder, place_order

app = App("crowd", version="1.0.0", description="buys a lot", calls=["orders.place_order"], emits=["crowd.sent"], follows=[])

NAMES = ("Ada", "Grace", "Edith", "Alan", "Barbara", "Edsger", "Frances", "Hedy", "Katherine", "Linus", "Margaret", "Radia")
ARTICLES = ("pen", "pen", "pen", "book", "book", "lamp", "desk")


class Crowd(Struct):
    orders: Annotated[int, Meta(ge=1, le=5000)] = 100
    per_second: Annotated[int, Meta(ge=1, le=200)] = 20


@app.post("/crowd", status=202)
async def send_crowd(crowd: Crowd) -> Crowd:
    """Send customers into the shop; the answer does not wait for them."""
    await app.emit("crowd.sent", crowd)
    return crowd


# The event is handled by one replica, once: an attempt that failed half-way would buy twice. A handler may take as long as it likes.
@app.on("crowd.sent", retry=())
async def shop(crowd: Crowd) -> None:
    """Place orders at a pace: one in ten with a card that is declined, one in twenty for something that nobody sells."""
    async with asyncio.TaskGroup() as buying:
        for _ in range(crowd.orders):
            buying.create_task(buy(some_order()))
            await asyncio.sleep(1 / crowd.per_second)


async def buy(order: NewOrder) -> None:
    try:
        await app.call(place_order, order)
    except ServiceError:
        return  # a customer who is turned away goes away


def some_order() -> NewOrder:
    lines = [Line(sku, random.randint(1, 3)) for sku in random.sample(ARTICLES, random.randint(1, 2))]
    if random.random() < 0.05:
        lines.append(Line("unicorn", 1))
    card = "4000000000000000" if random.random() < 0.1 else "4242424242424242"
    return NewOrder(random.choice(NAMES), card, lines)
