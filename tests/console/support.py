"""A console for tests: apps that run, and the console over them on a free port."""

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from playwright.async_api import Page, expect

from cliffracer import App
from cliffracer.client import AsyncClient, connect_async
from cliffracer.console.application import opened
from cliffracer.testing import running
from cliffracer.testing.trial import Running
from cliffracer.web.ports import bind

OURS = {"X-Cliffracer": "console", "Sec-Fetch-Site": "same-origin"}


class Open:
    """A console that is open, the apps under it, and the addresses that it printed."""

    def __init__(self, t: Running, client: AsyncClient, door: Any, told: list[str]) -> None:
        self.t = t
        self.client = client
        self.door = door
        self.told = told

    @property
    def url(self) -> str:
        """Where it is, without the token."""
        return str(self.door.address).partition("/?")[0]

    async def enter(self, page: Page, place: str = "services") -> None:
        """Come in with a browser, and go somewhere."""
        await page.goto(self.door.address)
        await expect(page.get_by_role("navigation")).to_be_visible()
        await self.go(page, place)

    async def go(self, page: Page, place: str) -> None:
        """Go to a page by its address."""
        await page.evaluate("place => { location.hash = `#/${place}`; }", place)


@asynccontextmanager
async def console(*apps: App, acts: bool | None = None, at: str | None = None, **fields: Any) -> AsyncIterator[Open]:
    """Run apps, and a console that looks at them: in another environment than theirs if ``at`` names one."""
    told: list[str] = []
    async with (
        running(*apps, **(fields if "settings" in fields else {"env": "development", **fields})) as t,
        connect_async(settings=t.settings) as client,
        opened(client, t.settings.changed(env=at or t.settings.env), bind("127.0.0.1", 0), acts=acts, told=told.append) as door,
    ):
        yield Open(t, client, door, told)


@asynccontextmanager
async def entered(open_: Open) -> AsyncIterator[httpx.AsyncClient]:
    """Come in without a browser."""
    async with httpx.AsyncClient(base_url=open_.url, headers=OURS, timeout=20) as http:
        answer = await http.get(open_.door.address)
        assert answer.status_code == 200
        cookie = re.match(r"(\w+)=([\w-]+); Path=/; HttpOnly; SameSite=Strict$", answer.headers["set-cookie"])
        assert cookie is not None
        http.cookies.set(cookie[1], cookie[2], domain="127.0.0.1")
        yield http


@asynccontextmanager
async def many(open_: Open, services: int, methods: int) -> AsyncIterator[None]:
    """Have many services answer discovery, as NATS micro does, while the block runs."""
    bus, subjects = open_.client.link.bus, open_.client.link.subjects

    def endpoints(number: int) -> list[dict[str, Any]]:
        figures = {"num_requests": number, "num_errors": 0, "data": {"p50_ms": number / 10, "p95_ms": number}}
        return [{"name": f"method_{n}", "subject": f"s.{n}", **figures} for n in range(methods)]

    def answer(kind: str) -> Any:
        def receive(subject: bytes, reply: bytes, _block: bytes | None, _payload: bytes) -> None:
            wanted = subject.rpartition(b".")[2].decode()
            for number in range(services):
                if wanted not in {kind, f"service_{number:03}"}:
                    continue
                who = {"name": f"service_{number:03}", "id": f"id{number}", "version": "1.2.3", "description": f"Number {number}"}
                bus.publish(reply, json.dumps({**who, "started": "2026-11-25T10:00:00Z", "endpoints": endpoints(number)}).encode())

        return receive

    wanted = [(kind, name) for kind in ("STATS", "INFO") for name in ("", "*")]
    subscriptions = [await bus.subscribe(subjects.discovery(kind, name), answer(kind)) for kind, name in wanted]
    await bus.flush()
    try:
        yield
    finally:
        for each in subscriptions:
            await each.close()
