"""examples/shop: a few hundred orders, good and bad, and the books add up."""

import asyncio
import json

from websockets.asyncio.client import connect

from cliffracer import connect_async
from cliffracer.testing import running
from examples.shop import inventory, notifications, orders, payments
from examples.shop.drive import drive

SHOP = (orders, inventory, payments, notifications)
ORDER = {"customer": "Ada", "card": "4242424242424242", "lines": [{"sku": "pen", "quantity": 2}]}


async def test_the_books_add_up_after_three_hundred_orders():
    """Money, stock, orders and letters agree, and every bad order got an answer that is right for it."""
    async with running(*SHOP) as t, connect_async(settings=t.settings) as shop:
        tally = await drive(shop, t.url, orders=300, seed=7)
        assert not tally["wrong"], tally
        assert not tally["wrong answer"], tally
        assert all(tally[name] > 20 for name in ("confirmed", "refused", "invalid")), tally


async def test_goods_of_a_declined_order_go_back():
    """The compensation is a durable one-way call; it is done when the system has settled."""
    async with running(*SHOP) as t:
        before = await t.call("inventory.shelf")
        answer = await t.http.post("/orders", json=ORDER | {"card": "4000000000000000"})
        assert (answer.json()["status"], answer.json()["reason"]) == ("refused", "the card was declined")
        await t.settled()
        assert await t.call("inventory.shelf") == before


async def test_the_page_hears_of_an_order():
    """The feed sends what the page shows, and the page is there."""
    async with running(*SHOP) as t, connect(f"{t.url.replace('http', 'ws', 1)}/orders/feed") as socket:
        seen = asyncio.create_task(socket.recv())
        for _ in range(100):  # the feed begins some moments after the handshake
            await t.http.post("/orders", json=ORDER)
            await asyncio.wait([seen], timeout=0.05)
            if seen.done():
                break
        assert json.loads(await seen)["total"] == 300
        assert "<title>The shop, live</title>" in (await t.http.get("/")).text
        assert (await t.http.get("/totals")).json()["confirmed"] > 0
