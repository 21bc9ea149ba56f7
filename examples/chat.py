"""A chat: every room is a NATS subject, so people meet even if their WebSockets are held by different replicas.

```sh
cliffracer run examples.chat:app
```

Then open http://127.0.0.1:8000/ in two windows.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

from cliffracer import App

app = App("chat", description="rooms to talk in")

# A room becomes part of a NATS subject, so what it may be called is limited; a bad name never reaches the handler.
Room = Annotated[str, Meta(pattern=r"^[a-z0-9-]{1,32}$")]
Name = Annotated[str, Meta(min_length=1, max_length=40)]


class Message(Struct):
    name: str
    text: Annotated[str, Meta(min_length=1, max_length=500)]


# `incoming` iterates what the client sends, checked like any other input; what is yielded goes to the client.
@app.websocket("/rooms/{room}")
async def talk(room: Room, incoming: AsyncIterator[str], name: Name = "somebody") -> AsyncIterator[Message]:
    """Join a room: send texts, receive what everybody in it says."""

    async def speak() -> None:
        async for text in incoming:
            await say(room, name, text)

    speaking = asyncio.create_task(speak())
    try:
        async for event in app.events(f"chat.{room}", Message):
            yield event.data
    finally:
        speaking.cancel()  # the client left


# The same for programs: `cliffracer call chat.say room=lobby name=Ada text=Hello`.
@app.rpc
async def say(room: Room, name: Name, text: str) -> None:
    """Say something in a room."""
    # durable=False is core NATS: whoever listens now hears it, nothing is stored.
    await app.emit(f"chat.{room}", Message(name, text), durable=False)


app.static("/", Path(__file__).parent / "chat_page")
