"""examples/chat.py: people in a room hear each other, wherever their sockets are held."""

import asyncio
import json

import httpx
import pytest
from websockets.asyncio.client import connect

from cliffracer import InvalidInput
from cliffracer.testing import running
from examples.chat import app


def _room(t, name, room="lobby"):
    return connect(f"{t.url.replace('http', 'ws', 1)}/rooms/{room}?name={name}")


async def _hear(t, socket, room="lobby"):
    """Return once a socket hears its room: a feed begins some moments after the handshake."""
    heard = asyncio.create_task(socket.recv())
    for _ in range(100):
        await t.call("say", room=room, name="test", text="ping")
        await asyncio.wait([heard], timeout=0.05)
        if heard.done():
            return
    raise AssertionError("the room is silent")


async def _next(socket):
    async with asyncio.timeout(10):
        while (message := json.loads(await socket.recv()))["text"] == "ping":
            pass
    return message


async def test_what_one_says_everybody_in_the_room_hears():
    """A text that one socket sends arrives at the other, and at the speaker, with the name."""
    async with running(app) as t, _room(t, "Ada") as ada, _room(t, "Grace") as grace:
        await _hear(t, ada)
        await _hear(t, grace)
        await ada.send(json.dumps("Hello!"))
        assert await _next(grace) == await _next(ada) == {"name": "Ada", "text": "Hello!"}


async def test_another_room_hears_nothing_of_it():
    """Rooms are apart."""
    async with running(app) as t, _room(t, "Ada", "kitchen") as kitchen:
        await _hear(t, kitchen, "kitchen")
        await t.call("say", room="lobby", name="Grace", text="in the lobby")
        await t.call("say", room="kitchen", name="Grace", text="in the kitchen")
        assert (await _next(kitchen))["text"] == "in the kitchen"


async def test_a_room_that_would_be_another_subject_is_refused():
    """A name with a dot or a wildcard never becomes part of a subject."""
    async with running(app) as t:
        for room in ("a.b", "*", ">", "a b", ""):
            with pytest.raises(InvalidInput):
                await t.call("say", room=room, name="Ada", text="Hello")


async def test_the_page_is_served():
    """The files of the page come with an ETag."""
    async with running(app) as t, httpx.AsyncClient(base_url=t.url) as http:
        page = await http.get("/")
        assert "<title>Chat</title>" in page.text
        assert page.headers["etag"]
        for name in ("chat.js", "chat.css"):
            assert (await http.get(f"/{name}")).status_code == 200
