"""Calls from one account of NATS into another, by what is exported and imported."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from cliffracer import App, Unavailable, connect_async, runtime
from cliffracer.settings import Settings
from tests.support.nats import NatsServer
from tests.support.waiting import eventually

pytestmark = pytest.mark.both_transports

ACCOUNTS = """
accounts {
  OFFICE { jetstream: enabled, users: [{user: office, password: o}], exports: [{service: "reports.>"%s}] }
  SHOP { jetstream: enabled, users: [{user: shop, password: s}], imports: [{service: {account: OFFICE, subject: "reports.>"}}] }
}
"""


@pytest.mark.parametrize("exported", [', response_type: "stream"', ""])
async def test_a_stream_comes_from_another_account_if_it_is_exported_as_one(exported: str):
    """Whole, and it ends there when it is left here. Exported as most are it ends early, and says so; a call is answered either way."""
    app, ended = App("reports"), asyncio.Event()

    @app.rpc
    async def add(a: int, b: int) -> int:
        return a + b

    @app.rpc
    async def rows(number: int) -> AsyncIterator[int]:
        try:
            for row in range(number):
                await asyncio.sleep(0)
                yield row
        finally:
            ended.set()

    with NatsServer(ACCOUNTS % exported, jetstream=True) as server:
        settings = Settings(nats_url=server.url, nats_user="office", nats_password="o")
        async with runtime.running(app, settings), connect_async(f"nats://shop:s@127.0.0.1:{server.port}") as shop:
            assert await shop.call("reports.add", 1, 2) == 3
            if not exported:
                with pytest.raises(Unavailable, match=r"went away in the middle of reports\.rows"):
                    _ = [row async for row in shop.stream("reports.rows", 5)]
                return
            assert [row async for row in shop.stream("reports.rows", 1000)] == list(range(1000))
            ended.clear()
            async for _ in shop.stream("reports.rows", 10**9):
                break
            await eventually(ended.is_set)
