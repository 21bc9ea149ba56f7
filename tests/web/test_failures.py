"""What goes wrong in a handler, as HTTP shows it."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from cliffracer import App, errors
from cliffracer.context import Context
from cliffracer.web.answers import challenge
from tests.support.waiting import eventually


@pytest.mark.parametrize("kind", list(errors.BY_CODE.values()))
async def test_every_error_has_its_status(serve: Any, app: App, kind: type[errors.ServiceError]) -> None:
    """A `ServiceError` is a problem document with its status, code, message and details."""

    @app.get("/a")
    async def fails() -> None:
        raise kind("what went wrong", order=7)

    async with serve(app) as served:
        answer = await served.http.get("/a", headers={"X-Correlation-ID": "mine"})
        assert answer.status_code == kind.status
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["x-correlation-id"] == "mine"
        body = answer.json()
        assert (body["detail"], body["code"], body["status"], body["title"], body["order"]) == (
            kind.title if kind is errors.Internal else "what went wrong", kind.code, kind.status, kind.title, 7,
        )  # fmt: skip
        assert ("error_id" in body) == (kind is errors.Internal), "only of a defect the log has more"
        stats = served.handler("fails").stats
        assert (stats.errors, stats.cancelled) == ((0, 1) if kind is errors.Cancelled else (1, 0))


async def test_a_detail_that_cannot_be_encoded_is_left_out_alone(serve: Any, app: App) -> None:
    """As over NATS: the others, and the errors of refused input, are told in documents and streams."""

    @app.get("/a")
    async def fails() -> None:
        raise errors.InvalidInput("no", errors=[{"path": "a", "message": "is odd"}], bad=object())

    @app.get("/b")
    async def breaks() -> AsyncIterator[int]:
        yield 1
        raise errors.Conflict("no", good=1, bad=object())

    async with serve(app) as served:
        assert (await served.http.get("/a")).json()["errors"] == [{"path": "a", "message": "is odd"}]
        assert (await served.http.get("/b")).text == '1\n{"error":{"code":409,"message":"no","details":{"good":1}}}\n'


async def test_headers_that_errors_bring(serve: Any, app: App) -> None:
    """Overload says when to come back, a missing identity what to send."""

    @app.get("/busy")
    async def busy() -> None:
        raise errors.Overloaded("too much", retry_after=1.2)

    @app.get("/who")
    async def who() -> None:
        raise errors.Unauthenticated("who are you")

    async with serve(app) as served:
        answer = await served.http.get("/busy")
        assert (answer.headers["retry-after"], answer.json()["retry_after"]) == ("2", 1.2)
        assert (await served.http.get("/who")).headers["www-authenticate"] == f'Bearer realm="{app.name}"'


async def test_every_401_has_a_challenge(serve: Any, app: App) -> None:
    """Also one of Starlette's exceptions, which may bring its own; a peer's words are only repeated where a header can hold them."""

    @app.get("/plain")
    async def plain() -> None:
        raise HTTPException(401, "who are you")

    @app.get("/own")
    async def own() -> None:
        raise HTTPException(401, "who are you", headers={"WWW-Authenticate": 'Basic realm="mine"'})

    @app.get("/scope")
    async def scope(text: str) -> None:
        raise errors.Forbidden("no", reason="insufficient_scope", scope=text)

    async with serve(app) as served:
        assert (await served.http.get("/plain")).headers.get_list("www-authenticate") == [f'Bearer realm="{app.name}"']
        assert (await served.http.get("/own")).headers.get_list("www-authenticate") == ['Basic realm="mine"']
        poor = f'Bearer realm="{app.name}", error="insufficient_scope"'
        for text, shown in (("a:read b", ', scope="a:read b"'), ('a"', ""), ("a\r\nX: y", ""), ("a  b", ""), ("é", ""), ("", "")):
            answer = await served.http.get("/scope", params={"text": text})
            assert answer.headers.get_list("www-authenticate") == [poor + shown]


def test_a_realm_is_quoted() -> None:
    """Whatever a realm is called, it cannot end its string or the header (RFC 9110, 5.6.4)."""
    assert challenge('a"b\\c\r\nd') == b'Bearer realm="a\\"b\\\\cd"'


async def test_defects_show_nothing(serve: Any, app: App, logged: list[str]) -> None:
    """An unknown exception, or a result that cannot be encoded, is logged with an id and answered with that id alone."""

    @app.get("/raises")
    async def raises() -> None:
        raise RuntimeError("secret text")

    @app.get("/odd")
    async def odd() -> object:
        return object()

    @app.get("/circle")
    async def circle() -> list[Any]:
        found: list[Any] = []
        found.append(found)
        return found

    @app.get("/details")
    async def details() -> None:
        raise errors.Conflict("no\udcffo", what=object())

    async with serve(app) as served:
        for path in ("/raises", "/odd", "/circle"):
            answer = await served.http.get(path)
            assert (answer.status_code, answer.json()["title"]) == (500, "Internal Error")
            assert "secret" not in answer.text
            assert answer.json()["error_id"]
            assert served.handler(path[1:]).stats.errors == 1
        assert (await served.http.get("/details")).status_code == 409
        text = "".join(logged)
        assert "secret text" in text
        assert "odd (tests/web/test_failures.py:" in text


async def test_mapped_errors(serve: Any, app: App) -> None:
    """``on_error`` turns an exception into a `ServiceError`, or into a response of its own."""

    class Late(Exception):
        pass

    @app.on_error(KeyError)
    def missing(error: KeyError) -> errors.NotFound:
        return errors.NotFound(f"no {error.args[0]}")

    @app.on_error(Late)
    async def late(_: Late) -> Response:
        return PlainTextResponse("too late", 418)

    @app.get("/a/{what}")
    async def fails(what: str) -> None:
        raise KeyError("thing") if what == "key" else Late

    async with serve(app) as served:
        answer = await served.http.get("/a/key")
        assert (answer.status_code, answer.json()["detail"]) == (404, "no thing")
        answer = await served.http.get("/a/late")
        assert (answer.status_code, answer.text) == (418, "too late")


async def test_starlette_exceptions(serve: Any, app: App) -> None:
    """`HTTPException` keeps its status and headers, and is a problem document."""

    @app.get("/a/{status}")
    async def fails(status: int) -> None:
        raise HTTPException(status, "words", {"X-Why": "because", "Location": "/b"})

    async with serve(app) as served:
        for status in (400, 418, 503, 599):
            answer = await served.http.get(f"/a/{status}")
            assert (answer.status_code, answer.headers["x-why"], answer.json()["detail"]) == (status, "because", "words")
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.headers["x-correlation-id"]
        answer = await served.http.get("/a/302")
        assert (answer.status_code, answer.headers["location"]) == (302, "/b")
        assert (await served.http.get("/a/304")).content == b""


async def test_responses_are_sent_as_they_are(serve: Any, app: App) -> None:
    """A Starlette response keeps its status, type, cookies and background task, and gets the correlation id."""
    done: list[bool] = []

    @app.get("/plain")
    async def plain() -> Response:
        response = PlainTextResponse("hello", 203, background=BackgroundTask(done.append, True))
        response.set_cookie("a", "b")
        return response

    @app.get("/chunks")
    async def chunks() -> StreamingResponse:
        return StreamingResponse(iter(["a", "b"]))

    async with serve(app) as served:
        answer = await served.http.get("/plain")
        assert (answer.status_code, answer.text, answer.headers["content-type"]) == (203, "hello", "text/plain; charset=utf-8")
        assert answer.headers["set-cookie"].startswith("a=b")
        assert answer.headers["x-correlation-id"]
        await eventually(lambda: done)
        assert (await served.http.get("/chunks")).text == "ab"


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\nb", "a\x00b", "a\x7fb", "\x1b[31m"])
async def test_no_header_injection(serve: Any, app: App, value: str, logged: list[str]) -> None:
    """A header value that would break out of its line is a defect: answered as one, never written, the connection kept."""

    @app.get("/a")
    async def echo(*, request: Request) -> Response:
        return PlainTextResponse("hello", headers={"X-Echo": value})

    @app.get("/cookie")
    async def cookie() -> Response:
        response = PlainTextResponse("hello")
        response.raw_headers.append((b"set-cookie", value.encode()))
        return response

    @app.get("/raise")
    async def fails() -> None:
        raise HTTPException(400, "no", {"X-Echo": value})

    async with serve(app) as served:
        for path in ("/a", "/cookie", "/raise"):
            answer = await served.http.get(path)
            assert answer.status_code == 500, path
            assert "x-evil" not in answer.headers
        assert sum("line break" in line for line in logged) == 3


async def test_a_response_that_fails_while_it_is_sent_is_counted(serve: Any, app: App) -> None:
    """Its handler has returned by then; the client sees that it broke off, and the figures say so."""

    @app.get("/broken")
    async def broken(before: int) -> StreamingResponse:
        def chunks() -> Iterator[str]:
            yield from ["a"] * before
            raise RuntimeError("the disk is gone")

        return StreamingResponse(chunks())

    @app.get("/header")
    async def header() -> Response:
        return PlainTextResponse("hello", headers={"X-Echo": "a\nb"})

    async with serve(app) as served:
        for before in (0, 1):
            with contextlib.suppress(httpx.RemoteProtocolError):
                await served.http.get(f"/broken?before={before}")
        await served.http.get("/header")
        figures = [(served.handler(name).stats.requests, served.handler(name).stats.errors) for name in ("broken", "header")]
        assert figures == [(2, 2), (1, 1)]


@pytest.mark.parametrize("given", ["", "a b", "a\x7f", "x" * 129, "<script>", "é", "-a"])
async def test_unfit_correlation_ids_are_replaced(serve: Any, app: App, given: str) -> None:
    """An id that may not go into logs and headers is replaced, on answers of every kind."""

    @app.get("/a")
    async def get_a(*, context: Context) -> str:
        return context.correlation_id

    async with serve(app) as served:
        for path in ("/a", "/nowhere", "/health"):
            head = await served.one(f"GET {path} HTTP/1.1\r\nHost: x\r\nX-Correlation-ID: {given}\r\n\r\n".encode())
            found = next((line for line in head.split(b"\r\n") if line.lower().startswith(b"x-correlation-id:")), b"")
            assert len(found) > 18
            assert found.decode() != f"x-correlation-id: {given}"


async def test_never_ending_handler_meets_its_deadline(serve: Any, app: App) -> None:
    """A handler that does not return is ended at its deadline, or at the client's if that is nearer."""
    ended: list[str] = []

    @app.get("/hangs", deadline=0.1)
    async def hangs() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("own")

    @app.get("/patient")
    async def patient() -> None:
        await asyncio.sleep(60)

    async with serve(app) as served:
        assert (await served.http.get("/hangs")).status_code == 504
        assert ended == ["own"]
        assert (await served.http.get("/patient", headers={"Cliffracer-Timeout": "100"})).status_code == 504
        assert (await served.http.get("/patient", headers={"Cliffracer-Timeout": "0"})).status_code == 504
        answer = await served.http.get("/hangs", headers={"Cliffracer-Timeout": "60000"})
        assert answer.status_code == 504


async def test_leaving_client_cancels_the_handler(serve: Any, app: App) -> None:
    """A client that goes away ends the call that it asked for, in whatever way it goes."""
    began: list[bool] = []
    ended: list[bool] = []

    @app.post("/slow")
    async def slow(x: int = 0) -> None:
        began.append(True)
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(True)

    async with serve(app) as served:
        for way in range(3):
            _, writer = await asyncio.open_connection("127.0.0.1", served.port)
            writer.write(b"POST /slow HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
            await eventually(lambda: len(began) == way + 1)  # noqa: B023
            if way == 0:
                writer.close()
            elif way == 1:
                writer.transport.abort()
            else:
                writer.write_eof()
            await eventually(lambda: len(ended) == way + 1)  # noqa: B023
            writer.close()
        await eventually(lambda: not served.server._running())
        assert not served.handler("slow").gate.admitted


async def test_too_many_at_once(serve: Any, app: App) -> None:
    """Beyond limit and queue a request is refused at once, and the rest are answered."""
    release = asyncio.Event()

    @app.get("/a", limit=1)
    async def one() -> str:
        await release.wait()
        return "done"

    async with serve(app) as served:
        waiting = [asyncio.create_task(served.http.get("/a")) for _ in range(11)]
        await eventually(lambda: served.handler("one").gate.admitted == 11)
        answer = await served.http.get("/a")
        assert (answer.status_code, int(answer.headers["retry-after"]) >= 1) == (429, True)
        release.set()
        assert {(await each).status_code for each in waiting} == {200}


async def test_bodies_that_are_no_json(serve: Any, app: App) -> None:
    """Other content types and encodings are refused before they are read; JSON under any of its names is taken."""

    @app.post("/a")
    async def post_a(everything: dict[str, Any]) -> int:
        return len(everything)

    async with serve(app) as served:
        for kind in ("text/plain", "application/xml", "application/jsonp", "multipart/form-data"):
            answer = await served.http.post("/a", content=b"{}", headers={"content-type": kind})
            assert (answer.status_code, answer.json()["status"]) == (415, 415), kind
        for kind in ("application/json; charset=utf-8", "application/merge-patch+json", "APPLICATION/JSON"):
            assert (await served.http.post("/a", content=b"{}", headers={"content-type": kind})).status_code == 200, kind
        assert (await served.http.post("/a", content=b"{}")).status_code == 200
        answer = await served.http.post("/a", content=b"x", headers={"content-type": "application/json", "content-encoding": "gzip"})
        assert answer.status_code == 415
        for body in (b"", b" ", b"{", b"[]", b"null", b"\xff", b"{}x", b'{"a":1,"a":2}', b"[" * 100_000, b'{"a":' * 1000, b"NaN"):
            answer = await served.http.post("/a", content=body, headers={"content-type": "application/json"})
            assert (answer.status_code, bool(answer.json()["errors"])) == (422, True), body[:20]


async def test_request_parameter(serve: Any, app: App) -> None:
    """A handler may take Starlette's Request beside its arguments; the body can be read again, path parameters are converted."""

    @app.post("/a/{n:int}")
    async def post_a(n: int, x: int, *, request: Request) -> list[Any]:
        return [n, x, await request.json(), request.path_params, request.url.path, request.headers["x-a"]]

    @app.post("/raw")
    async def raw(*, request: Request) -> str:
        return (await request.body()).decode()

    async with serve(app) as served:
        answer = await served.http.post("/a/7", json={"x": 1}, headers={"X-A": "b"})
        assert answer.json() == [7, 1, {"x": 1}, {"n": 7}, "/a/7", "b"]
        assert (await served.http.post("/raw", content=b"anything")).json() == "anything"


async def test_optional_bodies(serve: Any, app: App) -> None:
    """No body at all stands for the defaults."""

    @app.post("/fields")
    async def fields(a: int = 1, b: str = "x") -> list[Any]:
        return [a, b]

    @app.post("/whole")
    async def whole(body: dict[str, int] | None = None) -> Any:
        return body

    async with serve(app) as served:
        assert (await served.http.post("/fields")).json() == [1, "x"]
        assert (await served.http.post("/whole")).json() is None
        assert (await served.http.post("/whole", json={"a": 1})).json() == {"a": 1}
        assert json.loads((await served.http.post("/fields", json={"a": 2})).text) == [2, "x"]
