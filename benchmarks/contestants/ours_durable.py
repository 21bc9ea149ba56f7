"""Cliffracer, durable events: acknowledged after the handler returned."""

from benchmarks.contestants.serving import STEP
from benchmarks.payload import Order, receipt
from cliffracer import App

app = App("ours_durable")
counts = {"event": 0}


@app.on("order")
async def event(order: Order) -> None:
    receipt(order)
    counts["event"] += 1
    if counts["event"] % STEP == 0:
        await app.emit("progress", counts["event"], durable=False)
