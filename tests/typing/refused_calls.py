"""A typed call with a wrong argument is found by the type checker."""

from collections.abc import AsyncIterator

from cliffracer import App, InvalidInput, KeyValue, connect, connect_async
from cliffracer.testing import running

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


@app.rpc
async def count(upto: int) -> AsyncIterator[int]:
    for number in range(upto):
        yield number


async def others(numbers: KeyValue[int]) -> None:
    async with connect_async() as client:
        await client.call(price, sku=7)  # E: No overload variant of "call"
        client.stream(price, "a")  # E: No overload variant of "stream"
    with connect() as blocking:
        blocking.call(price)  # E: No overload variant of "call"
    async with running(app) as t:
        await t.call(count, upto="3")  # E: No overload variant of "call"
    app.service("bank").send.charge(amount=1)  # E: Value of type "Coroutine[Any, Any, None]" must be used
    async with app.lock("job") as lock:
        print(lock.tokn)  # E: "Held" has no attribute "tokn"
    found = await numbers.get("a", None)
    number: int = found  # E: Incompatible types in assignment (expression has type "int | None"
    raise InvalidInput("no", errors={"a": number})  # E: expected "FieldError | Mapping[str, str]"
