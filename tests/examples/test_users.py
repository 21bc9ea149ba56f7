"""examples/users.py: HTTP, RPC, rows, events and a WebSocket of one service."""

import asyncio
import json

import pytest
from websockets.asyncio.client import connect

from cliffracer import Conflict, InvalidInput, NotFound
from cliffracer.testing import running
from examples.users import app

ADA = {"name": "Ada", "email": "ada@example.org"}


@pytest.fixture
async def t():
    async with running(app) as running_app:
        yield running_app


async def test_a_user_that_http_creates_is_found_by_rpc(t):
    """Both ways in work on the same rows."""
    answer = await t.http.post("/users", json=ADA)
    assert answer.status_code == 201
    assert (await t.call("get_user", user_id=answer.json()["id"]))["name"] == "Ada"
    assert [user["email"] for user in await t.call("find_users", status="active")] == ["ada@example.org"]


async def test_creating_emits_once_and_the_subscriber_handles_it(t):
    """One durable event per user, handled before the test ends."""
    user = await t.call("create_user", **ADA)
    await t.settled()
    assert [event.data["id"] for event in t.emitted("user.created")] == [user["id"]]


async def test_the_second_user_of_an_email_is_a_conflict(t):
    """The unique column answers 409 over HTTP and Conflict over RPC, and nothing is emitted for it."""
    await t.call("create_user", **ADA)
    with pytest.raises(Conflict):
        await t.call("create_user", **ADA)
    answer = await t.http.post("/users", json=ADA)
    assert answer.status_code == 409
    assert answer.headers["content-type"] == "application/problem+json"
    assert len(t.emitted("user.created")) == 1


async def test_every_wrong_field_is_named(t):
    """Both mistakes are in one answer, and the handler is not entered."""
    with pytest.raises(InvalidInput) as caught:
        await t.call("find_users", status="asleep", limit=0)
    assert [error["path"] for error in caught.value.errors] == ["status", "limit"]
    answer = await t.http.post("/users", json={"name": "", "email": "nowhere"})
    assert (answer.status_code, [error["path"] for error in answer.json()["errors"]]) == (422, ["name", "email"])


async def test_nobody_is_not_found(t):
    """An unknown id is NotFound, a 404 over HTTP."""
    nobody = "01a2057a-c3cf-71ad-b9a4-07a8136cc8ea"
    with pytest.raises(NotFound):
        await t.call("get_user", user_id=nobody)
    assert (await t.http.get(f"/users/{nobody}")).status_code == 404


async def test_a_suspension_is_told_when_it_is_committed(t):
    """Row and event change together."""
    user = await t.call("create_user", **ADA)
    answer = await t.http.post(f"/users/{user['id']}/suspend", json={"reason": "spam"})
    assert answer.json()["status"] == "suspended"
    await t.settled()
    assert [event.data for event in t.emitted("user.suspended")] == [{"id": user["id"], "reason": "spam"}]


async def test_the_feed_shows_users_as_they_are_created(t):
    """A WebSocket gets each new user as JSON."""
    async with connect(f"{t.url.replace('http', 'ws', 1)}/users/feed") as socket:
        seen = asyncio.create_task(socket.recv())
        for number in range(100):  # the feed begins some moments after the handshake
            await t.call("create_user", name="Ada", email=f"ada{number}@example.org")
            await asyncio.wait([seen], timeout=0.05)
            if seen.done():
                break
        assert json.loads(await seen)["name"] == "Ada"
