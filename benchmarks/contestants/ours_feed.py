"""Cliffracer, WebSocket feeds: what a generator yields goes to its client, what is said to a room to all who are in it."""

from collections.abc import AsyncIterator

from benchmarks.payload import FrozenOrder, Order
from cliffracer import App

app = App("ours_feed")


@app.websocket("/feed", limit=2000)
async def feed() -> AsyncIterator[Order]:
    async for event in app.events("tick", Order):
        yield event.data


@app.websocket("/frozen", limit=2000)
async def frozen() -> AsyncIterator[FrozenOrder]:
    async for event in app.events("tick", FrozenOrder):
        yield event.data


@app.websocket("/room", limit=2000)
async def room(incoming: AsyncIterator[str]) -> None:
    async with app.sockets.join("orders"):
        async for _ in incoming:
            pass


@app.on("order", durable=False)
async def tell(order: Order) -> None:
    await app.sockets.to("orders").send(order)
