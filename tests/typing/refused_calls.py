"""A typed call with a wrong argument is found by the type checker."""

from cliffracer import App

app = App("shop")


@app.rpc
async def price(sku: str, amount: int = 1) -> float:
    return len(sku) * amount


async def calls() -> None:
    await app.call(price, sku=7)  # E: No overload variant of "call"
    await app.call(price, "a", colour="red")  # E: Unexpected keyword argument "colour"
    await app.call(price)  # E: No overload variant of "call"
    cost: str = await app.call(price, "a")  # E: No overload variant of "call"
    print(cost)
