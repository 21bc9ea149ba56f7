"""Litestar with msgspec structs."""

import uvicorn
from litestar import Litestar, get, post

from benchmarks.contestants.serving import PORT
from benchmarks.payload import ORDER, Order, Receipt, receipt


@get("/orders/{order_id:int}")
async def show(order_id: int) -> Receipt:
    return receipt(ORDER)


@post("/orders")
async def place(data: Order) -> Receipt:
    return receipt(data)


app = Litestar([show, place], openapi_config=None)
uvicorn.run(app, host="127.0.0.1", port=PORT, http="httptools", loop="uvloop", log_level="warning", access_log=False)
