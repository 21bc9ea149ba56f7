"""Cliffracer, core events: at most once."""

from benchmarks.contestants.serving import STEP
from benchmarks.payload import Order, receipt
from cliffracer import App

app = App("ours_core")
counts = {"event": 0}


@app.on("order", durable=False)
async def event(order: Order) -> None:
    receipt(order)
    counts["event"] += 1
    if counts["event"] % STEP == 0:
        await app.emit("progress", counts["event"], durable=False)
