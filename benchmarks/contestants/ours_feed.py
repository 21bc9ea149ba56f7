"""Cliffracer, a WebSocket feed: what the generator yields goes to the client."""

from collections.abc import AsyncIterator

from benchmarks.payload import Order
from cliffracer import App

app = App("ours_feed")


@app.websocket("/feed", limit=2000)
async def feed() -> AsyncIterator[Order]:
    async for event in app.events("tick", Order):
        yield event.data
