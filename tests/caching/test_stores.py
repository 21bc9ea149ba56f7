"""Answers that replicas share, in NATS and in Redis: found, forgotten, made once, and done without while the store is away."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import msgspec
import pytest

from cliffracer import App, Database, Model, Repository, SetupError, Unavailable
from cliffracer.caching import answers, outage
from cliffracer.caching.redisstore import redis_store
from cliffracer.testing import running
from tests.support.nats import NatsServer
from tests.support.redis import RedisServer
from tests.support.waiting import eventually

STORES = ("nats", "redis")


class Price(msgspec.Struct):
    sku: str
    cents: int


class Shop:
    """One replica of a service that keeps prices, and what its function was asked."""

    def __init__(self, store: Any, version: str = "1", **options: Any) -> None:
        self.app = App("shop", version=version)
        self.made: list[str] = []
        self.go = asyncio.Event()
        self.go.set()
        made, go = self.made, self.go

        @self.app.rpc
        @self.app.cached(ttl="30s", tags=("prices", "sku:{sku}"), store=store, **options)
        async def price(sku: str) -> Price:
            made.append(sku)
            await go.wait()
            return Price(sku, len(made))

        self.price = price


@asynccontextmanager
async def replicas(store: str, count: int = 2, **options: Any) -> AsyncIterator[list[Any]]:
    """Give what runs of the first, and then the replicas."""
    shops = [Shop(store, **options) for _ in range(count)]
    async with AsyncExitStack() as stack:
        url = stack.enter_context(RedisServer()).url if store == "redis" else None
        t = await stack.enter_async_context(running(shops[0].app, redis_url=url))
        for shop in shops[1:]:
            await stack.enter_async_context(running(shop.app, settings=t.settings))
        yield [t, *shops]


@pytest.mark.parametrize("store", STORES)
async def test_replicas_share_answers(store: str) -> None:
    """What one has made the other finds, and the other after it was forgotten makes it anew; a restarted replica finds it, too."""
    async with replicas(store) as (t, one, two):
        assert await one.price("a") == await two.price("a") == Price("a", 1)
        assert (one.made, two.made) == (["a"], [])
        await two.app.cache.forget(tag="sku:a")
        assert await one.price("a") == Price("a", 2)
        assert await two.price("a") == Price("a", 2)
        await one.app.cache.forget(one.price, sku="a")
        assert await two.price("a") == Price("a", 1)
        await one.app.cache.clear()
        assert await two.price("a") == Price("a", 2)
        await t.clock.advance("31s")
        assert await one.price("a") == Price("a", 3)


@pytest.mark.parametrize("store", STORES)
async def test_what_is_forgotten_is_forgotten_in_other_versions_too(store: str) -> None:
    """While a new version is rolled out, each keeps answers of its own, and those of a call that one forgets are good in neither."""
    old, new = Shop(store), Shop(store, version="2")
    async with AsyncExitStack() as stack:
        url = stack.enter_context(RedisServer()).url if store == "redis" else None
        t = await stack.enter_async_context(running(old.app, redis_url=url))
        await stack.enter_async_context(running(new.app, settings=t.settings))
        assert (await old.price("a"), await new.price("a")) == (Price("a", 1), Price("a", 1))
        assert (old.made, new.made) == (["a"], ["a"])
        await new.app.cache.forget(new.price, sku="a")
        assert (await old.price("a"), await new.price("a")) == (Price("a", 2), Price("a", 2))


async def test_what_was_kept_of_another_shape_is_made_anew() -> None:
    """A field that came with a default is not answered by that, for as long as the answers of before live: they are no answers."""

    def service(answer: Any) -> tuple[App, Any]:
        app = App("shop")

        async def price() -> Any:
            return answer

        price.__annotations__["return"] = type(answer)
        return app, app.cached(ttl="30s", store="nats")(price)

    old = msgspec.defstruct("Price", [("cents", int)], module=__name__)(5)
    new = msgspec.defstruct("Price", [("cents", int), ("currency", str, "EUR")], module=__name__)(5, "USD")
    (before, kept), (after, made) = service(old), service(new)
    async with running(before) as t, running(after, settings=t.settings):
        assert await kept() == old
        assert await made() == new


@pytest.mark.parametrize("store", STORES)
async def test_replicas_make_it_once(store: str) -> None:
    """While one makes an answer, the others wait for it; if that one leaves, another makes it."""
    async with replicas(store, 3) as (_, *shops):
        for shop in shops:
            shop.go.clear()
        crowd = [[asyncio.create_task(shop.price("a")) for _ in range(5)] for shop in shops]
        await eventually(lambda: any(shop.made for shop in shops))
        await asyncio.sleep(0.05)
        assert sum(len(shop.made) for shop in shops) == 1
        busy = next(number for number, shop in enumerate(shops) if shop.made)
        for call in crowd[busy]:
            call.cancel()
        for shop in shops:
            shop.go.set()
        others = [call for number, calls in enumerate(crowd) if number != busy for call in calls]
        assert {str(price) for price in await asyncio.gather(*others)} == {str(Price("a", 1))}
        assert sum(len(shop.made) for shop in shops) == 2


@pytest.mark.parametrize("moment", ["claim", "look"])
@pytest.mark.parametrize("store", STORES)
async def test_who_is_cancelled_before_he_makes_it_keeps_no_other_waiting(store: str, moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it becomes his turn to make it, or just after."""
    monkeypatch.setattr(answers, "LEASE", 600.0)
    whole, asked = getattr(outage.Reached, moment), 0

    async def cancelling(reached: outage.Reached, *given: Any) -> Any:
        nonlocal asked
        asked += 1
        if asked == (1 if moment == "claim" else 2):  # it looks before it claims, too
            asyncio.get_running_loop().call_soon(call.cancel)
        return await whole(reached, *given)

    async with replicas(store) as (_, one, two):
        monkeypatch.setattr(outage.Reached, moment, cancelling)
        call = asyncio.create_task(one.price("a"))
        await asyncio.wait([call])
        assert call.cancelled()
        assert one.made == []
        monkeypatch.setattr(outage.Reached, moment, whole)
        async with asyncio.timeout(30):
            assert await two.price("a") == Price("a", 1)


@pytest.mark.parametrize("store", STORES)
async def test_what_is_made_while_it_is_forgotten_is_not_kept(store: str) -> None:
    """Whoever began before the change must not have the last word."""
    async with replicas(store) as (_, one, two):
        one.go.clear()
        call = asyncio.create_task(one.price("a"))
        await eventually(lambda: bool(one.made))
        await two.app.cache.forget(tag="sku:a")
        one.go.set()
        await call
        await two.price("a")
        assert two.made == ["a"]


async def test_a_cancellation_is_not_lost_in_redis() -> None:
    """At none of the turns in which it may come, while its client writes among them."""
    with RedisServer() as server:
        async with redis_store(server.url, "shop", "", 10.0) as store:
            reached = outage.Reached("redis", store)
            await reached.look("a", ["t"])
            for turns in range(1, 5):
                looking = asyncio.create_task(reached.look("a", ["t"]))
                for _ in range(turns):
                    await asyncio.sleep(0)
                if looking.cancel():
                    await asyncio.wait([looking])
                    assert looking.cancelled()


async def test_without_redis_answers_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Away, it is said once, nothing is kept and nothing fails; forgetting says that it could not be told; back, all is as before."""
    monkeypatch.setattr(outage, "REST", 0.05)
    shop = Shop("redis")
    with RedisServer() as server:
        async with running(shop.app, redis_url=server.url) as t:
            await t.call("price", sku="a")
            server.kill()
            for _ in range(3):
                assert (await t.call("price", sku="a"))["sku"] == "a"
            assert shop.made == ["a"] * 4
            with pytest.raises(Unavailable, match="what is kept in redis could not be forgotten"):
                await shop.app.cache.forget(tag="prices")
            server.start()
            await asyncio.sleep(0.1)
            await t.call("price", sku="a")
            await t.call("price", sku="a")
            assert shop.made == ["a"] * 5


async def test_a_store_that_is_away_keeps_no_other_from_forgetting() -> None:
    """Who forgets is told that one store could not be, and what is kept in the other is good no more all the same."""
    app, made = App("shop"), []

    @app.cached(ttl="30s", store="redis", tags="prices")
    async def away() -> int: ...

    @app.cached(ttl="30s", store="nats", tags="prices")
    async def price() -> int:
        made.append(1)
        return len(made)

    with RedisServer() as server:
        async with running(app, redis_url=server.url):
            server.kill()
            for expected in range(1, 4):
                assert await price() == await price() == expected
                with pytest.raises(Unavailable, match="what is kept in redis could not be forgotten"):
                    await app.cache.forget(tag="prices")


async def test_a_replica_that_comes_back_has_nothing_in_memory() -> None:
    """It may have missed what was to be forgotten; an answer that was being made meanwhile is not kept either."""
    shop = Shop("memory")
    with NatsServer(jetstream=True) as server:
        async with running(shop.app, nats_url=server.url) as t:
            await shop.price("a")
            assert await shop.price("a") == Price("a", 1)
            server.kill()
            await eventually(lambda: not t.up.bus.connected)
            assert await shop.price("a") == Price("a", 1)
            shop.go.clear()
            making = asyncio.create_task(shop.price("b"))
            server.start()
            await eventually(lambda: t.up.bus.connected)
            shop.go.set()
            await making
            for sku in ("a", "b", "a", "b"):
                await shop.price(sku)
            assert shop.made == ["a", "b", "a", "b"]


async def test_without_nats_answers_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same of NATS, whose outage ends nothing else of a handler that came over HTTP."""
    monkeypatch.setattr(outage, "REST", 0.05)
    shop = Shop("nats")
    with NatsServer(jetstream=True) as server:
        async with running(shop.app, nats_url=server.url) as t:
            await shop.price("a")
            await shop.price("a")
            server.kill()
            assert await shop.price("a") == Price("a", 2)
            assert await shop.price("a") == Price("a", 3)
            server.start()
            await eventually(lambda: t.up.bus.connected)
            await asyncio.sleep(0.1)
            await shop.price("a")
            before = len(shop.made)
            await shop.price("a")
            assert len(shop.made) == before


async def test_an_answer_that_is_too_large_is_not_kept() -> None:
    """It is given all the same, and the store is not taken for away."""
    app, made = App("large"), []

    @app.cached(ttl=30, store="nats")
    async def blob(size: int) -> bytes:
        made.append(size)
        return bytes(size)

    async with running(app):
        for size in (2_000_000, 10):
            assert await blob(size) == bytes(size)
            assert await blob(size) == bytes(size)
    assert made == [2_000_000, 2_000_000, 10]


async def test_redis_has_to_be_named() -> None:
    """Without REDIS_URL the app does not start, and says what to do."""
    with pytest.raises(SetupError, match=r"Shop.*price is kept in Redis, and REDIS_URL is not set.*store='nats', which needs nothing more"):
        async with running(Shop("redis").app):
            pass


async def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the client of Redis the app does not start, and says what to install."""
    monkeypatch.setitem(sys.modules, "redis.asyncio", None)
    monkeypatch.delitem(sys.modules, "cliffracer.caching.redisstore", raising=False)
    with pytest.raises(SetupError, match=r'needs cliffracer\[redis\]: pip install "cliffracer\[redis\]"'):
        async with running(Shop("redis").app, redis_url="redis://127.0.0.1:1"):
            pass


class Item(Model):
    name: str


async def test_an_open_transaction_keeps_nothing_and_forgets_after_its_commit() -> None:
    """What is read before a commit is not for others, and what others read before it must not survive it."""
    app, made = App("items"), []

    @app.cached(ttl=30, tags="items")
    async def count(*, items: Repository[Item]) -> int:
        made.append(1)
        return await items.count()

    @app.rpc
    async def look(*, items: Repository[Item]) -> int:
        return await count(items=items)

    @app.rpc
    async def add(name: str, *, items: Repository[Item], db: Database) -> list[int]:
        async with db.transaction():
            await items.create(Item(name=name))
            seen = await count(items=items)
            await app.cache.forget(tag="items")
            others = await asyncio.create_task(app.call(look))
        return [seen, others]

    async with running(app) as t:
        assert await t.call("look") == 0
        assert await t.call("add", name="a") == [1, 0]
        assert await t.call("look") == 1
        assert len(made) == 3
