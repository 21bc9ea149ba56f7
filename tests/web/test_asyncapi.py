"""The AsyncAPI document, held against its official JSON Schema and against what the services do."""

import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

import jsonschema
import msgspec
from msgspec import Meta

from cliffracer import App, WebSocket
from cliffracer.web.asyncapi import document
from tests.support.tools import asyncapi_schema


class User(msgspec.Struct):
    """Somebody."""

    name: Annotated[str, Meta(min_length=1)]
    friends: list["User"] = []


def declare(app: App) -> None:
    """Declare RPC, events and sockets of every kind."""

    @app.rpc
    async def create_user(name: str, age: int = 1) -> User:
        """Create a user.

        Twice is a conflict.
        """
        return User(name)

    @app.rpc
    async def all_users(limit: int = 10) -> AsyncIterator[User]:
        yield User("a")

    @app.on("user.created")
    async def welcome(user: User) -> None:
        """Say hello."""

    @app.on("order.*.>", durable=False)
    async def count() -> None: ...

    @app.on("order.paid", batch=10)
    async def book(orders: list[dict[str, Any]]) -> None: ...

    @app.websocket("/rooms/{room}/talk")
    async def talk(room: str, frames: AsyncIterator[User], since: int = 0) -> AsyncIterator[str]:
        async for user in frames:
            yield user.name

    @app.websocket("/feed")
    async def feed() -> AsyncIterator[User]:
        yield User("a")

    @app.websocket("/raw")
    async def raw(*, socket: WebSocket) -> None:
        """Drive it."""
        await socket.close()


async def test_document_is_valid_asyncapi_3(app: App, serve: Any) -> None:
    """What is served at /asyncapi.json passes the official schema of AsyncAPI 3.0, and every reference in it leads somewhere."""
    declare(app)
    schema = json.loads(asyncapi_schema("3.0.0").read_text())
    async with serve(app) as served:
        answer = await served.http.get("/asyncapi.json")
    assert answer.headers["content-type"] == "application/json"
    found = answer.json()
    jsonschema.Draft7Validator(schema).validate(found)
    for reference in _references(found):
        target = found
        for part in reference.removeprefix("#/").split("/"):
            target = target[part.replace("~1", "/").replace("~0", "~")]


async def test_rpc_is_request_and_reply(app: App, serve: Any) -> None:
    """An RPC has its subject, its queue, the schema of its arguments, of its result and of a failure, and its docstring's words."""
    declare(app)
    async with serve(app, namespace="test") as served:
        found = (await served.http.get("/asyncapi.json")).json()
    operation = found["operations"]["shop.create_user"]
    assert (operation["action"], operation["summary"], operation["description"]) == ("receive", "Create a user.", "Twice is a conflict.")
    assert operation["bindings"]["nats"]["queue"] == "shop"
    assert found["channels"]["shop.create_user"]["address"] == "test.shop.create_user"
    request = found["components"]["messages"]["shop.create_user.request"]["payload"]
    assert found["components"]["messages"]["shop.create_user.reply"]["payload"] == {"$ref": "#/components/schemas/User"}
    named = found["components"]["schemas"][request["$ref"].rpartition("/")[2]]
    assert named["properties"] == {"name": {"type": "string"}, "age": {"type": "integer", "default": 1}}
    assert [each["$ref"].rpartition("/")[2] for each in operation["reply"]["messages"]] == ["shop.create_user.reply", "fault"]
    assert found["operations"]["shop.all_users"]["x-streams"] is True


async def test_wildcards_are_parameters(app: App, serve: Any) -> None:
    """A pattern's ``*`` and ``>`` are parameters of the address, since AsyncAPI knows no wildcards; how it is delivered is said."""
    declare(app)
    async with serve(app) as served:
        found = (await served.http.get("/asyncapi.json")).json()
    channel = found["channels"]["shop.count.order.any.rest"]
    assert channel["address"] == "events.order.{token1}.{rest}"
    assert list(channel["parameters"]) == ["token1", "rest"]
    assert found["operations"]["shop.count.order.any.rest"]["x-delivery"] == "at most once"
    assert found["operations"]["shop.welcome.user.created"]["x-delivery"] == "at least once"
    assert found["components"]["messages"]["shop.book.order.paid"]["payload"] == {"type": "object"}


async def test_sockets_say_what_goes_either_way(app: App, serve: Any) -> None:
    """A WebSocket is a channel of the HTTP port, with an operation for what it sends and one for what it takes."""
    declare(app)
    async with serve(app) as served:
        found = (await served.http.get("/asyncapi.json")).json()
    channel = found["channels"]["shop.talk"]
    assert (channel["address"], list(channel["parameters"])) == ("/rooms/{room}/talk", ["room"])
    assert channel["bindings"]["ws"]["query"]["properties"] == {"since": {"type": "integer", "default": 0}}
    assert found["operations"]["shop.talk.receive"]["action"] == "receive"
    assert "shop.feed.receive" not in found["operations"]
    assert found["components"]["messages"]["shop.feed.send"]["payload"] == {"$ref": "#/components/schemas/User"}
    assert {f"shop.raw.{way}" for way in ("send", "receive")} <= set(found["operations"]), "a socket that is driven by hand is told, too"
    assert found["components"]["messages"]["shop.raw.receive"]["payload"] == {}


async def test_documents_are_not_served_when_docs_is_off(app: App, serve: Any) -> None:
    """With ``docs`` off, which production is, neither document is there."""
    declare(app)
    async with serve(app, docs=False) as served:
        for path in ("/openapi.json", "/asyncapi.json", "/docs", "/docs/page.js"):
            assert (await served.http.get(path)).status_code == 404


def test_an_app_without_messages_has_a_document_too(app: App) -> None:
    """An empty app has a valid document: no servers, channels or operations."""
    from cliffracer.assembly import Assembly
    from cliffracer.injection import Injector

    assembly = Assembly(app.freeze(), Injector((), lambda _: None, {}), limit=1, deadline=1)
    made = document([assembly])
    assert (made["servers"], made["channels"], made["operations"]) == ({}, {}, {})
    jsonschema.Draft7Validator(json.loads(asyncapi_schema("3.0.0").read_text())).validate(made)


def _references(value: Any) -> Any:
    if isinstance(value, dict):
        for name, inner in value.items():
            if name == "$ref":
                yield inner
            else:
                yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _references(inner)
