"""Cliffracer over HTTP: one App, path parameter and JSON body validated."""

from benchmarks.payload import ORDER, Order, Receipt, receipt
from cliffracer import App

app = App("ours_http")


@app.get("/orders/{order_id}")
async def show(order_id: int) -> Receipt:
    return receipt(ORDER)


@app.post("/orders", status=201)
async def place(order: Order) -> Receipt:
    return receipt(order)
