"""Decorators give the function back with its type, so that a plain call and a typed call are both checked."""

from typing import assert_type

from cliffracer import App, Context

app = App("shop")


@app.rpc
async def price(sku: str, amount: int = 1) -> float:
    return len(sku) * amount


@app.rpc(name="stock_of", limit=5)
def stock(sku: str) -> int:
    return len(sku)


@app.get("/orders/{order_id}")
async def order(order_id: int, *, context: Context) -> dict[str, str]:
    return {"id": str(order_id), "asked": context.correlation_id}


@app.on("order.placed")
async def placed(order_id: int) -> None:
    assert_type(await price("a", amount=2), float)


async def calls() -> None:
    assert_type(await price("a"), float)
    assert_type(stock("a"), int)
    assert_type(await app.call(price, sku="a", amount=2), float)
    assert_type(await app.call(stock, "a"), int)
