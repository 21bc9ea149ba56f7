"""Cliffracer, RPC: validation, context, deadline, limit, metrics and typed errors on, as by default."""

import asyncio

from benchmarks.payload import Customer, Line, Order, Receipt, receipt
from cliffracer import App

app = App("ours")


@app.rpc
async def place(id: int, customer: Customer, lines: list[Line], note: str, paid: bool) -> Receipt:
    return receipt(Order(id, customer, lines, note, paid))


@app.rpc
def place_def(id: int, customer: Customer, lines: list[Line], note: str, paid: bool) -> Receipt:
    return receipt(Order(id, customer, lines, note, paid))


@app.rpc
async def wait(id: int, customer: Customer, lines: list[Line], note: str, paid: bool) -> Receipt:
    await asyncio.sleep(0.002)
    return receipt(Order(id, customer, lines, note, paid))
