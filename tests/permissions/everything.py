"""Two services that use everything that NATS gives, for the test that runs them with the permissions derived from them."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any

from cliffracer import App, Bucket, Identity, KeyValue, ObjectStore, Retry, Tickets, provided, public, requires

app = App(
    "every-thing",
    calls=["other.echo", "other.numbers"],
    emits=["every.>"],
    follows=["every.fed"],
    uses=["delays", "large", "locks", "rooms"],
)
other = App("other", calls=[], emits=["every.thing"], follows=[], uses=["large"])
app.use(Tickets())
happened: list[Any] = []
LARGE = 2_000_000


@other.rpc
@public
async def echo(text: str) -> str:
    return text


@other.rpc
@public
async def numbers(count: int) -> AsyncIterator[int]:
    for number in range(count):
        yield number


@other.on("every.thing")
@public
async def on_thing(name: str) -> None:
    happened.append(("other", name[:20]))


@app.on("every.thing", group="together")
@app.on("every.thing.else", group="together")
@public
async def on_things(name: str) -> None:
    happened.append(("durable", name[:20]))


@app.on("every.batch", batch=10)
@public
async def on_batch(names: list[str]) -> None:
    happened.extend(("batch", name) for name in names)


@app.on("every.row", ordered=True)
@public
async def on_row(name: str) -> None:
    happened.append(("row", name))


@app.on("every.bad", retry=())
@public
async def on_bad(name: str) -> None:
    raise ValueError(name)


@app.on("every.each", each=True)
@app.on("every.core", durable=False)
@public
async def on_core(name: str) -> None:
    happened.append(("core", name))


@app.every("1s")
async def tick() -> None:
    happened.append("tick")


@app.every("3s")
async def noted() -> None:
    """Far enough apart to be noted with the server ahead."""
    happened.append("noted")


@app.leader
async def lead() -> None:
    happened.append("led")


@app.rpc(rate="100/s per identity")
@requires
async def known(*, identity: Identity = provided) -> str:
    return identity.subject


@app.rpc
@public
async def use_stores(*, values: Annotated[KeyValue[int], Bucket("counts")] = provided, files: ObjectStore = provided) -> list[Any]:
    await values.put("a", 1)
    await values.put("b", 2)
    await files.put("f", b"x" * 300_000)
    got = await files.read("f")
    await files.delete("f")
    return [await values.get("a"), await values.get("no", None), sorted(await values.keys()), len(got), await files.list()]


@app.rpc
@public
@app.cached(ttl=30, store="nats", tags="answers")
async def use_cache() -> int:
    happened.append("answer")
    return happened.count("answer")


@app.rpc
@public
async def use_others() -> list[Any]:
    service = app.service("other", retry=Retry())
    await service.send.echo(text="one way")
    large = await service.echo(text="y" * LARGE)
    items = [item async for item in service.stream.numbers(count=100)]
    async with app.lock("job", wait=5):
        pass
    return [await app.call(echo, text="x"), len(large), sum(items)]


@app.rpc
@public
async def use_events() -> None:
    feed = app.events("every.fed")
    waiting = asyncio.ensure_future(anext(feed))
    while not waiting.done():
        await app.emit("every.fed", "fed", durable=False)
        await asyncio.sleep(0.05)
    happened.append((await waiting).data)
    await feed.aclose()
    await app.emit("every.thing", "z" * LARGE)
    await app.emit("every.thing.else", "later", delay=1, id="later")
    await app.emit("every.thing.else", "never", delay=600, id="never")
    assert await app.cancel("never")
    await app.emit("every.batch", "many")
    await app.emit("every.bad", "bad")
    await app.emit("every.row", "row", key="k")
    await app.emit("every.core", "core", durable=False)
    await app.emit("every.each", "each", durable=False)


@app.websocket("/room")
@requires
async def room(incoming: AsyncIterator[str]) -> None:
    async with app.sockets.join("room"):
        async for text in incoming:
            await app.sockets.to("room").send(text)
