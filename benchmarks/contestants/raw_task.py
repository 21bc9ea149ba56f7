"""nats-py, a task per message: what one writes when a slow handler must not hold up the others."""

import asyncio

import nats
import uvloop
from nats.aio.msg import Msg

from benchmarks.contestants.serving import NATS_URL, forever
from benchmarks.payload import decode_order, encode, receipt

tasks: set[asyncio.Task[None]] = set()


async def place(message: Msg) -> None:
    await message.respond(encode(receipt(decode_order(message.data))))


async def wait(message: Msg) -> None:
    order = decode_order(message.data)
    await asyncio.sleep(0.002)
    await message.respond(encode(receipt(order)))


def spawned(handler):
    async def start(message: Msg) -> None:
        task = asyncio.create_task(handler(message))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    return start


async def main() -> None:
    client = await nats.connect(NATS_URL)
    await client.subscribe("raw_task.place", queue="raw", cb=spawned(place))
    await client.subscribe("raw_task.wait", queue="raw", cb=spawned(wait))
    await client.flush()
    await forever()


uvloop.run(main())
