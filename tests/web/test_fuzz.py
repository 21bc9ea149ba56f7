"""Whatever a client sends: a typed answer, never a 5xx, never a hang, and the next good request works."""

import json
import socket
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

import httpx
import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from msgspec import Meta

from cliffracer import App
from cliffracer.markers import Cookie, Header, Query

FEW = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
REFUSALS = {400, 404, 405, 411, 413, 414, 415, 422, 431}


class Part(msgspec.Struct, forbid_unknown_fields=True):
    """Something nested."""

    name: Annotated[str, Meta(max_length=10)]
    size: float | None = None


class Thing(msgspec.Struct):
    """A body of many kinds."""

    count: int
    kind: Literal["a", "b"]
    parts: list[Part] = []
    price: Decimal = Decimal(0)
    at: datetime | None = None
    more: dict[str, int] = {}


app = App("fuzzed")


@app.post("/things/{n:int}")
async def post_thing(n: int, thing: Thing, dry: Annotated[bool, Query()] = False) -> Thing:
    """Echo a body."""
    return thing


@app.post("/any")
async def post_any(everything: Any) -> Any:
    """Echo anything."""
    return everything


@app.post("/fields")
async def post_fields(a: int, b: str = "", c: UUID | None = None) -> list[Any]:
    """Echo fields."""
    return [a, b, c]


@app.get("/texts/{name}/{rest:path}")
async def get_texts(  # noqa: PLR0917 - one of each kind
    name: str,
    rest: str,
    n: int = 0,
    x: float = 0.0,
    flag: bool = False,
    ids: list[UUID] = [],  # noqa: B006
    kind: Literal["a", "b"] = "a",
    at: datetime | None = None,
    price: Decimal = Decimal(0),
    x_h: Annotated[int, Header()] = 0,
    c: Annotated[str, Cookie()] = "",
) -> list[Any]:
    """Echo texts."""
    return [name, rest, n, x, flag, ids, kind, at, price, x_h, c]


@pytest.fixture(scope="module")
def client(in_thread: Any) -> Iterator[httpx.Client]:
    """Return a client of a server of its own."""
    with in_thread(app, http_max_body=100_000) as client:
        yield client


def check(answer: httpx.Response) -> None:
    """Assert that an answer is a result or a refusal with its reasons."""
    assert answer.headers["x-correlation-id"]
    if answer.status_code == 200:
        json.loads(answer.content)
        return
    assert answer.status_code in REFUSALS, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == answer.status_code
    if answer.status_code == 422:
        assert body["errors"]


def raw(client: httpx.Client, data: bytes) -> bytes:
    """Send bytes as they are; return the answer."""
    with socket.create_connection((client.base_url.host, client.base_url.port or 0), 5) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        found = b""
        while chunk := connection.recv(65536):
            found += chunk
        return found


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)
thing = st.fixed_dictionaries(
    {},
    optional={
        "count": st.integers() | plain,
        "kind": st.sampled_from(["a", "b", "c"]) | plain,
        "parts": st.lists(
            st.fixed_dictionaries({}, optional={"name": st.text(max_size=15) | plain, "size": plain, "odd": plain}), max_size=3
        )
        | plain,
        "price": st.text(max_size=10) | st.floats() | plain,
        "at": st.datetimes().map(str) | plain,
        "more": st.dictionaries(st.text(max_size=4), st.integers() | plain, max_size=3) | plain,
        "unknown": plain,
    },
)


@FEW
@given(body=st.binary(max_size=200) | plain.map(lambda v: json.dumps(v).encode()), path=st.sampled_from(["/any", "/fields", "/things/1"]))
@example(body=b'{"a":' + b"9" * 5000 + b"}", path="/fields")
@example(body=b"[" * 50_000, path="/any")
@example(body=b'"\\ud800"', path="/any")
@example(body=b"1e999999", path="/any")
@example(body=b"-0.0", path="/any")
@example(body="\ufeff{}".encode(), path="/any")
@example(body="{}".encode("utf-16"), path="/any")
def test_bodies(client: httpx.Client, body: bytes, path: str) -> None:
    """Bytes and documents of every shape."""
    check(client.post(path, content=body, headers={"content-type": "application/json"}))


@FEW
@given(body=thing)
def test_nearly_right_bodies(client: httpx.Client, body: Any) -> None:
    """Documents that nearly fit."""
    check(client.post("/things/1?dry=1", content=json.dumps(body).encode(), headers={"content-type": "application/json"}))


@FEW
@given(
    parts=st.lists(
        st.tuples(st.sampled_from(["n", "x", "flag", "ids", "kind", "at", "price", "odd"]), st.text(max_size=20) | st.floats().map(str)),
        max_size=5,
    )
)
def test_queries(client: httpx.Client, parts: list[tuple[str, str]]) -> None:
    """Query parameters of every text."""
    usable = [(name, value.encode("utf-8", "replace").decode()) for name, value in parts]
    check(client.get("/texts/a/b", params=usable))


@FEW
@given(
    path=st.binary(max_size=60).map(lambda b: b.translate(None, b" \r\n\x00")),
    query=st.binary(max_size=60).map(lambda b: b.translate(None, b" \r\n\x00")),
    method=st.sampled_from([b"GET", b"POST", b"PUT", b"DELETE", b"HEAD", b"OPTIONS", b"PATCH", b"TRACE", b"CONNECT"]),
)
def test_raw_targets(client: httpx.Client, path: bytes, query: bytes, method: bytes) -> None:
    """Request targets of any bytes."""
    answer = raw(client, method + b" /texts/a/" + path + b"?" + query + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 ")
    assert int(answer[9:12]) in REFUSALS | {200, 307}, answer[:200]
    assert client.get("/texts/a/b").status_code == 200


@FEW
@given(
    target=st.text(alphabet="/%.a\\:*@?#[]", max_size=30).map(str.encode),
    header=st.binary(max_size=40).map(lambda b: b.translate(None, b"\r\n")),
)
@example(target=b"*", header=b"")
@example(target=b"http://other/texts/a/b", header=b"")
@example(target=b"//", header=b"")
@example(target=b"/texts/%ff/x", header=b"")
@example(target=b"/texts/%c0%ae%c0%ae/x", header=b"")
def test_raw_requests(client: httpx.Client, target: bytes, header: bytes) -> None:
    """Odd targets and header lines."""
    answer = raw(client, b"GET " + target + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-H: " + header + b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 "), answer[:100]
    assert int(answer[9:12]) in REFUSALS | {200, 307}, answer[:200]


@FEW
@given(data=st.binary(max_size=200))
@example(data=b"POST /any HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n")
@example(data=b"GET /texts/a/b HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
@example(data=b"GET /texts/a/b HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n")
@example(data=b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
def test_raw_bytes(client: httpx.Client, data: bytes) -> None:
    """Bytes that need not be HTTP at all: refused, or silence until the client ends; never a 500."""
    answer = raw(client, data)
    assert not answer.startswith(b"HTTP/1.1 5"), answer[:200]
    assert client.get("/texts/a/b").status_code == 200


@FEW
@given(
    values=st.dictionaries(
        st.sampled_from(["x-h", "cookie", "cliffracer-timeout", "traceparent", "x-correlation-id", "accept"]),
        st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=30),
    )
)
@example(values={"cliffracer-timeout": "99999999999999999999"})
@example(values={"cookie": 'c="\\"; c; =; c=\xff'})
def test_headers(client: httpx.Client, values: dict[str, str]) -> None:
    """Header values of every text; a time that is over is a 504."""
    answer = client.get("/texts/a/b", headers={name: value.strip().encode("latin-1") for name, value in values.items()})  # type: ignore[misc]
    if answer.status_code != 504 or not values.get("cliffracer-timeout", "").isdigit():
        check(answer)
