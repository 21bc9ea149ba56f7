"""Places a few hundred orders of varied shape, good and bad, and checks the books at the end.

Run the shop first (``cliffracer run examples.shop``), then ``python -m examples.shop.drive [--orders 300] [--url URL]``.
"""

import argparse
import asyncio
import random
import sys
from collections import Counter
from typing import Any

import httpx
from msgspec import json

from cliffracer import AsyncClient, CliffracerError, Settings, connect_async

PRICES = {"pen": 150, "book": 1290, "lamp": 4500, "desk": 19900, "dust": 1}
STOCK = {"pen": 1000, "book": 500, "lamp": 300, "desk": 80, "dust": 100_000}


def some_order(dice: random.Random) -> tuple[Any, set[int]]:
    """Return an order and the statuses of an answer that is right for it."""
    kind = dice.random()
    lines = [{"sku": dice.choice(list(PRICES)), "quantity": dice.randint(1, 5)} for _ in range(dice.randint(1, 4))]
    order: dict[str, Any] = {"customer": f"customer {dice.randint(1, 50)}", "card": "4242424242424242", "lines": lines}
    if kind < 0.65:
        return order, {201}
    if kind < 0.75:
        return order | {"card": "4000000000000000"}, {201}  # declined
    if kind < 0.80:
        return order | {"lines": [{"sku": "unicorn", "quantity": 1}]}, {201}  # no such article
    bad = dice.choice(
        [
            order | {"lines": []},
            order | {"card": "12"},
            order | {"customer": ""},
            order | {"lines": [{"sku": "pen", "quantity": 0}]},
            order | {"lines": [{"sku": "pen", "quantity": "two"}]},
            order | {"discount": 100},
            {"customer": "x"},
            [],
            None,
            "an order",
            b'{"customer":',
            b"\xff\xfe",
        ]
    )
    return bad, {400, 422}


async def place(client: httpx.AsyncClient, dice: random.Random, tally: Counter[str]) -> None:
    """Place one order and check its answer."""
    order, right = some_order(dice)
    body = order if isinstance(order, bytes) else json.encode(order)
    answer = await client.post("/orders", content=body, headers={"Content-Type": "application/json"})
    if answer.status_code not in right:
        tally["wrong answer"] += 1
        print(f"wrong: {answer.status_code} for {order!r}: {answer.text[:200]}", file=sys.stderr)
    elif answer.status_code == 201:
        found = answer.json()
        tally[found["status"]] += 1
        if found["status"] == "confirmed":
            tally["cents"] += found["total"]
    else:
        tally["invalid"] += 1


async def drive(shop: AsyncClient, url: str, orders: int, seed: int) -> Counter[str]:
    """Place so many orders, twenty at once, and return how they went, with a line ``wrong`` for every book that does not add up."""
    tally: Counter[str] = Counter()
    dice = random.Random(seed)
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        for sku, price in PRICES.items():
            await shop.inventory.stock_up(sku=sku, price=price, stock=STOCK[sku])
        before = await look(shop)
        gate = asyncio.Semaphore(20)

        async def one() -> None:
            async with gate:
                await place(client, dice, tally)

        await asyncio.gather(*(one() for _ in range(orders)))
        await check(shop, tally, before)
    return tally


async def look(shop: Any) -> dict[str, Any]:
    """Return the books of all services."""
    return {
        **await shop.orders.totals(),
        "charged": await shop.payments.ledger(),
        "held": await shop.inventory.holding(),
        "reserved": Counter(await shop.inventory.reserved()),
        "shelf": await shop.inventory.shelf(),
    }


async def check(shop: Any, tally: Counter[str], before: dict[str, Any]) -> None:
    """Compare what the services hold with what the answers said."""
    # Goods of refused orders go back, and letters are written, in the background.
    held = await becomes(before["held"] + tally["confirmed"], shop.inventory.holding)
    after = await look(shop)
    taken = after["reserved"] - before["reserved"]
    books = {
        "no order is left open": after["open"] == before["open"],
        "confirmed orders": after["confirmed"] - before["confirmed"] == tally["confirmed"],
        "refused orders": after["refused"] - before["refused"] == tally["refused"],
        "the money charged is that of the confirmed orders": after["charged"] - before["charged"] == tally["cents"],
        "goods are held for the confirmed orders only": held,
        "what left the shelf is what is reserved": all(before["shelf"][sku] - after["shelf"][sku] == taken[sku] for sku in STOCK),
        "everybody was written to, once": await becomes(after["confirmed"] + after["refused"], shop.notifications.written),
    }
    for name, right in books.items():
        tally["wrong" if not right else "right"] += 1
        print(f"{'ok   ' if right else 'WRONG'} {name}")


async def becomes(wanted: int, look: Any) -> bool:
    """Say whether a service comes to report a number within ten seconds."""
    for _ in range(200):
        if await look() == wanted:
            return True
        await asyncio.sleep(0.05)
    return bool(await look() == wanted)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default=f"http://127.0.0.1:{Settings.load().http_port}")
    parser.add_argument("--orders", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()

    async def connected() -> Counter[str]:
        async with connect_async() as shop:
            return await drive(shop, given.url, given.orders, given.seed)

    try:
        tally = asyncio.run(connected())
    except (CliffracerError, httpx.TransportError) as error:
        raise SystemExit(f"{error}\nIs the shop running? cliffracer run examples.shop") from None
    print(", ".join(f"{count} {name}" for name, count in sorted(tally.items())))
    raise SystemExit(1 if tally["wrong"] or tally["wrong answer"] else 0)


if __name__ == "__main__":
    main()
