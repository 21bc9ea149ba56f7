"""FastAPI with pydantic, as its tutorial has it."""

import uvicorn
from fastapi import FastAPI

from benchmarks.contestants.serving import PORT
from benchmarks.payload import ORDER, encode
from benchmarks.payload_pydantic import Order, Receipt, receipt

app = FastAPI()
stored = Order.model_validate_json(encode(ORDER))


@app.get("/orders/{order_id}")
async def show(order_id: int) -> Receipt:
    return receipt(stored)


@app.post("/orders", status_code=201)
async def place(order: Order) -> Receipt:
    return receipt(order)


uvicorn.run(app, host="127.0.0.1", port=PORT, http="httptools", loop="uvloop", log_level="warning", access_log=False)
