"""Forms and uploads through a real server."""

from typing import Any

from starlette.datastructures import UploadFile

from cliffracer import App
from tests.support.waiting import eventually


async def test_upload_beside_text(serve: Any, app: App) -> None:
    """An `UploadFile` makes the body a multipart form; its other parameters are fields, and the file is closed in the end."""
    kept: list[UploadFile] = []

    @app.post("/shelves/{shelf}/pictures", status=201)
    async def add(shelf: int, title: str, picture: UploadFile, pages: int = 1) -> list[Any]:
        kept.append(picture)
        return [shelf, title, pages, picture.filename, len(await picture.read())]

    async with serve(app) as served:
        answer = await served.http.post("/shelves/7/pictures", data={"title": "é"}, files={"picture": ("a.png", b"x" * 300_000)})
        assert (answer.status_code, answer.json()) == (201, [7, "é", 1, "a.png", 300_000])
        await eventually(lambda: kept[0].file.closed)
        answer = await served.http.post("/shelves/7/pictures", data={"title": "é"})
        assert (answer.status_code, answer.json()["errors"]) == (422, [{"path": "picture", "message": "is required"}])
        answer = await served.http.post("/shelves/7/pictures", json={"title": "é"})
        assert answer.status_code == 415


async def test_upload_over_the_limit(serve: Any, app: App) -> None:
    """An upload beyond `http_max_body` is refused by its announced length."""

    @app.post("/pictures")
    async def add(picture: UploadFile) -> None: ...

    async with serve(app, http_max_body=10_000) as served:
        answer = await served.http.post("/pictures", files={"picture": ("a.png", b"x" * 20_000)})
        assert (answer.status_code, answer.headers["content-type"]) == (413, "application/problem+json")


async def test_fields_take_html_forms_too(serve: Any, app: App) -> None:
    """A handler with scalar fields takes them as JSON or as a form, a whole body as JSON only."""

    @app.post("/users")
    async def add(name: str, age: int = 3) -> list[Any]:
        return [name, age]

    @app.post("/loose")
    async def loose(everything: dict[str, Any]) -> dict[str, Any]:
        return everything

    async with serve(app) as served:
        assert (await served.http.post("/users", data={"name": "Ada", "age": "7"})).json() == ["Ada", 7]
        answer = await served.http.post("/users", data={"name": "Ada", "age": "old", "odd": "1"})
        assert sorted(e["path"] for e in answer.json()["errors"]) == ["age", "odd"]
        assert (await served.http.post("/loose", data={"name": "Ada"})).status_code == 415


async def test_lists_and_mappings_beside_others_are_fields(serve: Any, app: App) -> None:
    """As they are over RPC: alone, each of them is the whole body."""

    @app.rpc
    @app.post("/orders")
    async def place(customer: str, lines: list[dict[str, int]], extra: dict[str, str] | None = None) -> list[Any]:
        return [customer, lines, extra]

    @app.post("/lines")
    async def count(lines: list[dict[str, int]]) -> int:
        return len(lines)

    async with serve(app) as served:
        given = {"customer": "ada", "lines": [{"pen": 2}], "extra": {"to": "Rome"}}
        assert (await served.http.post("/orders", json=given)).json() == ["ada", [{"pen": 2}], {"to": "Rome"}]
        answer = await served.http.post("/orders", json={"customer": "ada", "lines": [{"pen": "two"}]})
        assert [error["path"] for error in answer.json()["errors"]] == ["lines[0].pen"]
        assert (await served.http.post("/lines", json=[{"pen": 2}, {"lamp": 1}])).json() == 2


async def test_a_form_whose_fields_all_have_defaults_may_be_absent(serve: Any, app: App) -> None:
    """As an empty body of JSON may; where a field is needed, it is said that a form is."""

    @app.post("/optional")
    async def optional(picture: UploadFile | None = None, pages: int = 1) -> list[Any]:
        return [picture, pages]

    @app.post("/needed")
    async def needed(picture: UploadFile) -> None: ...

    async with serve(app) as served:
        assert (await served.http.post("/optional")).json() == [None, 1]
        assert (await served.http.post("/optional", content=b"x")).status_code == 415
        assert (await served.http.post("/needed")).status_code == 415
        found = (await served.http.get("/openapi.json")).json()["paths"]
        assert [found[path]["post"]["requestBody"]["required"] for path in ("/optional", "/needed")] == [False, True]
