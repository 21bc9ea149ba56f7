"""Cliffracer as a client: calls through a service proxy, and durable events."""

import uvloop

from benchmarks.contestants.driver import serve
from benchmarks.payload import ORDER
from cliffracer import App

app = App("ours_client")
services = {name: app.service(name, timeout=10) for name in ("echo", "ours")}


async def request(subject: str) -> bool:
    service, _, method = subject.partition(".")
    reply = await getattr(services[service], method)(
        id=ORDER.id, customer=ORDER.customer, lines=ORDER.lines, note=ORDER.note, paid=ORDER.paid
    )
    return bool(reply["id"] == ORDER.id)


async def durable(subject: str) -> bool:
    await app.emit(subject, ORDER)
    return True


async def main() -> None:
    async with app.connected():
        await serve({"request": request, "durable": durable})


uvloop.run(main())
