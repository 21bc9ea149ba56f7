"""Decorators give the function back with its type, so that a plain call and a typed call are both checked."""

from typing import assert_type

from cliffracer import App, Breaker, Context, Retry, provided, resilient

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


@resilient(retry=Retry(attempts=2), breaker=Breaker(), fallback=0.0)
async def rate(currency: str) -> float:
    return len(currency)


@app.rpc(idempotent=True)
@resilient(fallback=len)
def weight(sku: str) -> int:
    return len(sku)


@app.rpc
@app.cached(ttl="30s", tags=("sku:{sku}",), store="nats", stale="1h", vary=lambda context: context and context.kind)
async def kept(sku: str, *, context: Context = provided) -> list[int]:
    return [len(sku)]


async def cached() -> None:
    assert_type(await kept("a"), list[int])
    assert_type(await app.call(kept, sku="a"), list[int])
    await app.cache.forget(tag="sku:a")
    await app.cache.forget(kept, sku="a")
    await app.cache.clear()


async def guarded() -> None:
    assert_type(await rate(currency="EUR"), float)
    assert_type(weight("a"), int)
    assert_type(await app.call(weight, sku="a"), int)
    bank = app.service("bank", timeout="2s", retry=Retry(), breaker=Breaker(failures=3), fallback=None)
    await bank.latest(currency="EUR")
