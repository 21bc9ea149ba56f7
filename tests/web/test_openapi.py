"""The OpenAPI document, held against its validator and against what the server does."""

from collections.abc import AsyncIterator
from enum import Enum
from typing import Annotated, Any

import jsonschema
import msgspec
from msgspec import Meta
from openapi_spec_validator import validate
from starlette.datastructures import UploadFile
from starlette.responses import PlainTextResponse, Response

from cliffracer import App, Group
from cliffracer.markers import Cookie, Header, Query


class Colour(Enum):
    """A closed set."""

    RED = "red"
    BLUE = "blue"


class Item(msgspec.Struct):
    """Something to buy."""

    name: Annotated[str, Meta(min_length=1, description="what it is called")]
    colour: Colour = Colour.RED
    parts: list["Item"] = []


class Filter(msgspec.Struct):
    """What to look for."""

    page: Annotated[int, Meta(ge=1)] = 1
    tags: list[str] = []


def declare(app: App) -> None:
    """Declare one route of every kind."""
    group = Group("admin", prefix="/admin")

    @app.get("/items/{item_id:int}/{rest:path}")
    async def get_item(
        item_id: int, rest: str, filter: Filter, x_tenant: Annotated[str, Header()], sid: Annotated[str, Cookie()] = ""
    ) -> Item:
        """Get one item.

        With all its parts.
        """
        return Item(rest)

    @app.post("/items", status=201, tags=["shop"])
    async def create_item(item: Item, dry: Annotated[bool, Query()] = False) -> Item:
        return item

    @app.route("/both", methods=["PUT", "PATCH"])
    async def change(name: str, count: int = 1) -> dict[str, int]:
        return {name: count}

    @app.delete("/items/{item_id}")
    async def delete_item(item_id: int) -> None: ...

    @app.post("/pictures")
    async def picture(title: str, one: UploadFile, more: list[UploadFile] = []) -> str:  # noqa: B006
        return title

    @app.get("/stream")
    async def stream(n: int = 3) -> AsyncIterator[Item]:
        yield Item("a")

    @app.get("/page")
    async def page() -> Response:
        return PlainTextResponse("hello")

    @group.get("/items")
    async def get_item_too(everything: dict[str, str]) -> list[Item]:
        return []

    app.include(group)


async def test_document_is_valid(serve: Any, app: App) -> None:
    """Routes of every kind make a document that the validator accepts."""
    declare(app)
    async with serve(app) as served:
        answer = await served.http.get("/openapi.json")
        found = answer.json()
    validate(found)
    assert found["openapi"].startswith("3.1")
    assert found["info"] == {"title": "shop", "version": "0.1.0"}
    get = found["paths"]["/items/{item_id}/{rest}"]["get"]
    assert (get["summary"], get["description"], get["operationId"], get["tags"]) == (
        "Get one item.",
        "With all its parts.",
        "get_item",
        ["shop"],
    )
    assert [(p["name"], p["in"], p["required"]) for p in get["parameters"]] == [
        ("item_id", "path", True), ("rest", "path", True), ("page", "query", False), ("tags", "query", False), ("x-tenant", "header", True),
        ("sid", "cookie", False),
    ]  # fmt: skip
    assert get["parameters"][2]["schema"] == {"type": "integer", "minimum": 1}
    assert get["responses"]["200"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Item"}
    assert set(get["responses"]) == {"200", "422", "default"}
    assert set(found["paths"]["/both"]) == {"put", "patch"}
    assert list(found["paths"]["/items"]["post"]["responses"]) == ["201", "422", "default"]
    assert list(found["paths"]["/items/{item_id}"]["delete"]["responses"]) == ["204", "422", "default"]
    upload = found["paths"]["/pictures"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert upload["required"] == ["title", "one"]
    assert upload["properties"]["more"]["type"] == "array"


async def test_answers_match_the_document(serve: Any, app: App) -> None:
    """What is answered, failures included, fits the schema that was promised."""
    declare(app)
    async with serve(app) as served:
        found = (await served.http.get("/openapi.json")).json()

        def check(path: str, method: str, answer: Any) -> None:
            responses = found["paths"][path][method]["responses"]
            said = responses.get(str(answer.status_code), responses["default"])
            schema = said["content"][answer.headers["content-type"]]["schema"]
            jsonschema.validate(answer.json(), {**schema, "components": found["components"]})

        check("/items", "post", await served.http.post("/items", json={"name": "pen", "parts": [{"name": "cap"}]}))
        check("/items", "post", await served.http.post("/items", json={"name": "", "colour": "green"}))
        check("/items", "post", await served.http.post("/items", content=b"x", headers={"content-type": "text/plain"}))
        check("/both", "put", await served.http.put("/both", json={"name": "a"}))


async def test_a_default_that_its_type_does_not_allow_is_left_out(serve: Any, app: App) -> None:
    """As many write ``page: int = None``: the document would be invalid for one of them."""
    nothing: Any = None

    @app.route("/a", methods=["GET", "POST"])
    async def odd(
        page: int = nothing, most: float = float("inf"), count: Annotated[int, Meta(ge=1)] = 0, size: int | None = None
    ) -> None: ...

    async with serve(app) as served:
        assert (await served.http.get("/a")).status_code == 204
        found = (await served.http.get("/openapi.json")).json()
    validate(found)
    parameters = found["paths"]["/a"]["get"]["parameters"]
    assert [one["name"] for one in parameters if "default" in one["schema"]] == ["size"]


async def test_docs_off(serve: Any, app: App) -> None:
    """Without docs there is no document."""
    declare(app)
    async with serve(app, docs=False) as served:
        assert (await served.http.get("/openapi.json")).status_code == 404
