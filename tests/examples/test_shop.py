"""examples/shop: a few hundred orders, good and bad, and the books add up."""

import asyncio
import json

from websockets.asyncio.client import connect

from cliffracer import connect_async
from cliffracer.testing import running
from examples.shop import crowd, inventory, notifications, orders, payments
from examples.shop.drive import drive
from tests.support.browser import browsing, overflows, readable

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


async def test_a_crowd_buys_what_it_came_for():
    """The load generator places as many orders as it was asked for, good and bad."""
    async with running(*SHOP, crowd) as t:
        assert (await t.http.post("/crowd", json={"orders": 30, "per_second": 200})).status_code == 202
        await t.settled()
        totals = (await t.http.get("/totals")).json()
        assert totals["confirmed"] + totals["refused"] == 30


async def test_the_page_shows_orders_as_they_happen():
    """Empty at first; then a customer's order, its refusal, a crowd; told when the shop is gone. In both looks, and on a phone."""
    async with browsing(width=1240, height=1000) as (browser, seen):
        page = await browser.new_page()
        async with running(*SHOP, crowd, drain=0.5) as t:
            await page.goto(t.url)
            await page.wait_for_selector("#state[data-state=live]")
            assert await page.is_visible("text=Nobody has ordered anything yet.")
            assert await readable(page) == []
            await page.click(".primary")
            await page.wait_for_selector("text=Confirmed: 1.50")
            await page.wait_for_selector("td.confirmed")
            await page.select_option("#sku", "unicorn")
            await page.click(".primary")
            await page.wait_for_selector("text=Refused: no article unicorn")
            await page.wait_for_selector("#shelf li")
            await page.click("text=50, slowly")
            await page.wait_for_selector("text=50 customers are on their way.")
            await page.wait_for_selector("tbody tr:nth-child(5)")
            await page.emulate_media(color_scheme="dark")
            assert await readable(page) == []
            await page.set_viewport_size({"width": 390, "height": 800})
            assert not await overflows(page)
        await page.wait_for_selector("text=The shop does not answer.")
        assert await page.locator("td:nth-child(3):not(.confirmed):not(.refused)").count() == 0, "the last frame is no order"
        seen.forgive("WebSocket connection", "Failed to load resource")
