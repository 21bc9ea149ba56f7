"""JSON routes: what is bound, what is answered."""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Annotated, Any, Generic, Literal, NotRequired, TypedDict, TypeVar
from uuid import UUID

import msgspec
import pytest
from msgspec import Meta
from starlette.requests import Request

from cliffracer import App
from cliffracer.context import Context
from cliffracer.markers import Cookie, Header, Query

T = TypeVar("T")


class Order(msgspec.Struct):
    """A body."""

    item: str
    count: Annotated[int, Meta(ge=1)] = 1


async def test_get_binds_path_and_query(serve: Any, app: App) -> None:
    """Path and query texts arrive converted to what the signature says."""

    @app.get("/users/{user_id}")
    async def get_user(user_id: UUID, page: int = 1, tag: list[str] = []) -> dict[str, Any]:  # noqa: B006
        return {"id": user_id, "page": page, "tags": tag}

    async with serve(app) as served:
        answer = await served.http.get("/users/018f3a52-0000-7000-8000-000000000001?page=3&tag=a&tag=b%20c")
        assert answer.status_code == 200
        assert answer.json() == {"id": "018f3a52-0000-7000-8000-000000000001", "page": 3, "tags": ["a", "b c"]}
        assert answer.headers["content-type"] == "application/json"


async def test_post_binds_fields_and_whole_bodies(serve: Any, app: App) -> None:
    """Scalars are fields of the JSON object, a Struct is the whole of it."""

    @app.post("/fields", status=201)
    async def fields(name: str, age: int = 7) -> list[Any]:
        return [name, age]

    @app.post("/whole/{shelf}")
    async def whole(order: Order, shelf: str) -> list[Any]:
        return [shelf, order.item, order.count]

    async with serve(app) as served:
        answer = await served.http.post("/fields", json={"name": "Ada"})
        assert (answer.status_code, answer.json()) == (201, ["Ada", 7])
        answer = await served.http.post("/whole/top", json={"item": "pen", "count": 2})
        assert (answer.status_code, answer.json()) == (200, ["top", "pen", 2])


async def test_header_and_cookie_markers(serve: Any, app: App) -> None:
    """Marked parameters come from headers and cookies, also beside a body."""

    @app.post("/marked")
    async def marked(
        order: Order,
        x_tenant: Annotated[str, Header()],
        agent: Annotated[str, Header("User-Agent")],
        session: Annotated[str | None, Cookie()] = None,
        dry: Annotated[bool, Query()] = False,
    ) -> list[Any]:
        return [order.item, x_tenant, agent, session, dry]

    async with serve(app) as served:
        answer = await served.http.post(
            "/marked?dry=true", json={"item": "pen"}, headers={"X-Tenant": "blue", "User-Agent": "test", "Cookie": "a=b; session=s1"}
        )
        assert answer.json() == ["pen", "blue", "test", "s1", True]
        answer = await served.http.post("/marked", json={"item": "pen"})
        assert answer.json()["errors"] == [{"path": "x-tenant", "message": "is required"}]


async def test_none_is_no_content_or_null(serve: Any, app: App) -> None:
    """``-> None`` without a status answers 204; None under any other promise is JSON's null."""

    @app.delete("/a")
    async def nothing() -> None: ...

    @app.get("/b")
    async def perhaps() -> Order | None:
        return None

    @app.post("/c", status=202)
    async def accepted() -> None: ...

    async with serve(app) as served:
        answer = await served.http.delete("/a")
        assert (answer.status_code, answer.content) == (204, b"")
        answer = await served.http.get("/b")
        assert (answer.status_code, answer.content) == (200, b"null")
        answer = await served.http.post("/c")
        assert (answer.status_code, answer.content) == (202, b"null")


async def test_all_errors_are_listed(serve: Any, app: App) -> None:
    """Bad input answers 422 with every reason, and the handler is not entered."""
    entered = []

    @app.post("/orders/{shelf}")
    async def order(shelf: int, item: str, count: Annotated[int, Meta(ge=1)], kind: Literal["a", "b"]) -> None:
        entered.append(shelf)

    async with serve(app) as served:
        answer = await served.http.post("/orders/7", json={"item": 1, "count": 0, "more": 1})
        body = answer.json()
        assert answer.status_code == 422
        assert answer.headers["content-type"] == "application/problem+json"
        assert {"title": "Invalid Input", "status": 422, "code": 400, "type": "about:blank"}.items() <= body.items()
        assert sorted(e["path"] for e in body["errors"]) == ["count", "item", "kind", "more"]
        answer = await served.http.post("/orders/x", json={})
        errors = answer.json()["errors"]  # of the path and of the body alike
        assert errors[0] == {"path": "shelf", "message": "expected an integer"}
        assert {"path": "item", "message": "is required"} in errors
        assert not entered


async def test_literal_paths_come_before_parameters(serve: Any, app: App) -> None:
    """The most specific path wins, whatever the order of declaration."""

    @app.get("/files/{rest:path}")
    async def rest(rest: str) -> str:
        return f"rest {rest}"

    @app.get("/files/{name}")
    async def by_name(name: str) -> str:
        return f"name {name}"

    @app.get("/files/{number:int}")
    async def by_number(number: int) -> str:
        return f"number {number}"

    @app.get("/files/new")
    async def new() -> str:
        return "new"

    async with serve(app) as served:
        found = [(await served.http.get(f"/files/{path}")).json() for path in ("new", "7", "a%20b", "a/b", "")]
        assert found == ["new", "number 7", "name a b", "rest a/b", "rest "]


async def test_a_number_in_the_path_that_python_does_not_read_takes_no_place(serve: Any, app: App) -> None:
    """It is the client's mistake, also where the argument is a text, and however often it comes others are served."""

    @app.get("/one/{number:int}", limit=1)
    async def one(number: str, *, request: Request) -> str:
        return f"{number} {request.path_params['number'] + 1}"

    @app.get("/some/{number:int}", limit=1)
    async def some(number: str, *, request: Request) -> AsyncIterator[str]:
        yield f"{number} {request.path_params['number'] + 1}"

    async with serve(app) as served:
        for path in ("/one", "/some"):
            for _ in range(15):  # more than a place and its queue
                assert (await served.http.get(f"{path}/{'9' * 5000}")).status_code == 422
            assert "7 8" in (await served.http.get(f"{path}/7")).text


async def test_unknown_paths_and_methods(serve: Any, app: App) -> None:
    """404 and 405 are problem documents; 405 tells what is allowed, HEAD comes with GET."""

    @app.get("/a/{x}")
    async def get_a(x: str) -> str:
        return x

    @app.post("/a/{x}")
    async def post_a(x: str) -> str:
        return x

    async with serve(app) as served:
        answer = await served.http.get("/nowhere")
        assert (answer.status_code, answer.json()["code"]) == (404, 404)
        assert answer.headers["content-type"] == "application/problem+json"
        answer = await served.http.put("/a/1")
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD, POST")
        assert answer.json()["status"] == 405
        answer = await served.http.head("/a/1")
        assert (answer.status_code, answer.content, answer.headers["content-length"]) == (200, b"", "3")


async def test_trailing_slash_redirects(serve: Any, app: App) -> None:
    """The other form of a declared path is redirected to it, query and all; nothing leads off this host."""

    @app.get("/a/{x}")
    async def get_a(x: str) -> str:
        return x

    @app.get("/b/c/")
    async def get_b(q: str) -> str:
        return q

    @app.get("/{x}")
    async def any_x(x: str) -> str:
        return x

    async with serve(app) as served:
        answer = await served.http.get("/a/%41/")
        assert (answer.status_code, answer.headers["location"]) == (307, "/a/%41")
        answer = await served.http.get("/b/c?q=1", follow_redirects=True)
        assert (answer.status_code, answer.json()) == (200, "1")
        for path in (b"//evil.example/", b"/%2Fevil.example/", b"/\\evil.example/", b"/%5Cevil.example/"):
            head = await served.one(b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"location" not in head


async def test_sync_handlers_and_context(serve: Any, app: App) -> None:
    """A plain function runs in a thread, with the context of its call."""

    @app.get("/who")
    def who(*, context: Context) -> list[Any]:
        return [context.kind, context.handler, context.headers["x-thing"], context.remaining() is not None]

    async with serve(app) as served:
        answer = await served.http.get("/who", headers={"X-Thing": "t"})
        assert answer.json() == ["http", "who", "t", True]


async def test_a_header_that_is_a_list_has_all_its_members(serve: Any, app: App) -> None:
    """On several lines, between commas, or both (RFC 9110, 5.3); any other header is one text, commas and all."""

    @app.get("/a")
    async def tagged(x_tags: Annotated[list[int], Header()] = [], since: Annotated[str, Header()] = "") -> list[Any]:  # noqa: B006
        return [x_tags, since]

    async with serve(app) as served:
        headers = [("X-Tags", "1, 2"), ("x-tags", "3"), ("since", "Thu, 26 Nov 2026")]
        assert (await served.http.get("/a", headers=headers)).json() == [[1, 2, 3], "Thu, 26 Nov 2026"]
        assert (await served.http.get("/a")).json() == [[], ""]
        answer = await served.http.get("/a", headers={"X-Tags": "1,x"})
        assert answer.json()["errors"] == [{"path": "x-tags[1]", "message": "expected an integer"}]


async def test_query_struct_and_dict(serve: Any, app: App) -> None:
    """A Struct takes its fields from the query, a dict all that is left; unknown names are ignored otherwise."""

    class Filter(msgspec.Struct):
        page: int
        tags: list[str] = []

    @app.get("/a")
    async def filtered(filter: Filter, sort: str = "id") -> list[Any]:
        return [filter.page, filter.tags, sort]

    @app.get("/b")
    async def loose(found: dict[str, str], page: int = 1) -> list[Any]:
        return [found, page]

    async with serve(app) as served:
        assert (await served.http.get("/a?page=2&tags=x&tags=y&sort=name&utm_source=z")).json() == [2, ["x", "y"], "name"]
        answer = await served.http.get("/a?page=x")
        assert answer.json()["errors"] == [{"path": "page", "message": "expected an integer"}]
        answer = await served.http.get("/a")
        assert answer.json()["errors"] == [{"path": "page", "message": "is required"}]
        assert (await served.http.get("/b?x=1&page=3&y=%C3%A9+")).json() == [{"x": "1", "y": "é "}, 3]


async def test_a_route_of_several_methods_reads_each_as_if_it_were_alone(serve: Any, app: App) -> None:
    """GET takes from the query what POST takes from the body, and the document says so."""

    @app.route("/a", methods=["GET", "POST"])
    async def both(a: int, b: int = 2) -> list[int]:
        return [a, b]

    async with serve(app) as served:
        assert (await served.http.get("/a?a=1")).json() == [1, 2]
        assert (await served.http.post("/a", json={"a": 1, "b": 3})).json() == [1, 3]
        found = (await served.http.get("/openapi.json")).json()["paths"]["/a"]
        assert [(name, "parameters" in one, "requestBody" in one) for name, one in found.items()] == [
            ("get", True, False),
            ("post", False, True),
        ]


async def test_the_methods_of_one_route_share_its_limit(serve: Any, app: App) -> None:
    """Not each its own; and what is in flight is counted once."""
    running, told = asyncio.Event(), list[str]()

    @app.route("/a", methods=["GET", "POST"], limit=1)
    async def one() -> str:
        assert not running.is_set()
        running.set()
        told.append((await served.http.get("/metrics")).text)
        running.clear()
        return "done"

    async with serve(app) as served:
        answers = await asyncio.gather(served.http.get("/a"), served.http.post("/a"))
        assert [answer.status_code for answer in answers] == [200, 200]
    assert re.findall(r'^cliffracer_in_flight{.*handler="one".*} (\d)$', told[-1], re.MULTILINE) == ["1"]


@dataclass
class Paging:
    page: int
    tags: list[str] = field(default_factory=list)


class Asked(TypedDict):
    page: int
    tags: NotRequired[list[str]]


class Wanted(msgspec.Struct, Generic[T]):
    page: T
    tags: list[str] = []


@pytest.mark.parametrize("kind", [Paging, Asked, Wanted[int], Paging | None])
async def test_other_objects_take_their_fields_from_the_query_as_structs_do(serve: Any, app: App, kind: Any) -> None:
    """A dataclass, a TypedDict, a generic Struct; the document names each field."""

    async def filtered(filter: Any) -> Any:
        return filter

    filtered.__annotations__["filter"] = kind
    app.get("/a")(filtered)
    async with serve(app) as served:
        assert (await served.http.get("/a?page=2&tags=x&tags=y")).json() == {"page": 2, "tags": ["x", "y"]}
        answer = await served.http.get("/a?page=x")
        assert answer.json()["errors"] == [{"path": "page", "message": "expected an integer"}]
        found = (await served.http.get("/openapi.json")).json()["paths"]["/a"]["get"]["parameters"]
        assert [(one["name"], one["schema"]["type"]) for one in found] == [("page", "integer"), ("tags", "array")]


async def test_queries_that_are_ambiguous_or_malformed(serve: Any, app: App) -> None:
    """A scalar given twice, text that is not UTF-8 and numbers beyond 64 bits are refused."""

    @app.get("/a")
    async def get_a(n: int = 0, x: float = 0.0, b: bool = False) -> list[Any]:
        return [n, x, b]

    async with serve(app) as served:
        for query in ("n=1&n=2", "n=%ff", "n=99999999999999999999", "x=nan", "x=1e400", "b=maybe", "n=1.5", "n=", "n= 1"):
            answer = await served.http.get(f"/a?{query}")
            assert answer.status_code == 422, query
            assert answer.json()["errors"], query
        assert (await served.http.get("/a?n=-5&x=2&b=true&&=&z")).json() == [-5, 2.0, True]


async def test_statuses_without_content(serve: Any, app: App) -> None:
    """A declared 204 sends nothing, whatever the handler returns."""

    @app.delete("/a", status=204)
    async def delete_a() -> str:
        return "ignored"

    async with serve(app) as served:
        answer = await served.http.delete("/a")
        assert (answer.status_code, answer.content) == (204, b"")
        assert "content-length" not in answer.headers


async def test_paths_that_are_no_text(serve: Any, app: App) -> None:
    """A path parameter that is not UTF-8 is refused; the replacement character itself is a character like any other."""

    @app.get("/a/{x}")
    async def get_a(x: str) -> str:
        return x

    async with serve(app) as served:
        answer = await served.http.get("/a/%ff")
        assert (answer.status_code, answer.json()["errors"]) == (422, [{"path": "", "message": "the path is not UTF-8"}])
        assert (await served.http.get("/a/%EF%BF%BD")).json() == "\ufffd"
        assert (await served.http.get("/a/%00%0A")).json() == "\x00\n"
