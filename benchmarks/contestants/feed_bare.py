"""A WebSocket feed by hand: uvicorn's websockets-sansio, one loop over everybody."""

import asyncio

import nats
import uvicorn
from nats.aio.msg import Msg

from benchmarks.contestants.serving import NATS_URL, PORT
from benchmarks.payload import decode_order, encode

watchers = set()


async def tell(message: Msg) -> None:
    text = encode(decode_order(message.data)).decode()
    for send in list(watchers):
        await send({"type": "websocket.send", "text": text})


async def app(scope, receive, send) -> None:
    if scope["type"] == "lifespan":
        client = await nats.connect(NATS_URL)
        await client.subscribe("feed_bare.tick", cb=tell)
        await client.flush()
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await asyncio.Event().wait()
    await receive()
    await send({"type": "websocket.accept"})
    watchers.add(send)
    while (await receive())["type"] != "websocket.disconnect":
        pass
    watchers.discard(send)


uvicorn.run(app, host="127.0.0.1", port=PORT, http="httptools", ws="websockets-sansio", loop="uvloop", log_level="warning")
