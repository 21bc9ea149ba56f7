"""Who calls is asked first: a stranger has nothing read, decoded or fetched, and learns nothing of what a handler takes."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
import websockets
from websockets.exceptions import InvalidStatus

from cliffracer import ApiKeys, App, Forbidden, NotFound, Unauthenticated, requires
from cliffracer.messaging.claimcheck import ClaimCheck
from cliffracer.testing import running
from cliffracer.wire.calls import write_call
from tests.support.inside import value_of
from tests.support.issuer import FakeIssuer
from tests.support.waiting import eventually

read: list[int] = []
looked: list[str] = []


class Item(msgspec.Struct):
    """Says when it was decoded."""

    price: int

    def __post_init__(self) -> None:
        read.append(self.price)


def of_somebody(identity: Any) -> bool:
    looked.append(identity.subject)
    if identity.subject == "broken":
        raise LookupError("the check's own")
    if identity.subject == "slow":
        raise TimeoutError("of what the check asked, which had less time than the call")
    return identity.subject != "bob"


def for_adults(identity: Any, item: Item) -> bool:
    return item.price < 18


def shop(*, keys: bool = False) -> App:
    """Return an app whose handlers all take an Item from who may buy."""
    app = App("shop")
    if keys:
        app.use(ApiKeys())

    @app.on_error(LookupError)
    def lost(error: LookupError) -> NotFound:
        return NotFound("mapped")

    @app.rpc
    @app.post("/buy")
    @app.on("bought")
    @app.on("bought.core", durable=False)
    @requires("shop:buy")
    async def buy(item: Item) -> int:
        return item.price

    @app.rpc
    @app.post("/checked")
    @requires(check=of_somebody)
    @requires(check=for_adults)
    async def careful(item: Item) -> int:
        return item.price

    @app.get("/stream")
    @requires("shop:buy")
    async def stream(price: int) -> AsyncIterator[int]:
        yield price

    @app.websocket("/ws")
    @requires("shop:buy")
    async def ws(price: int) -> int:
        return price

    return app


def bearer(token: str | None, **more: str) -> dict[str, str]:
    return more if token is None else {"Authorization": f"Bearer {token}", **more}


async def ask(t: Any, method: str, payload: bytes, token: str | None) -> Any:
    block = write_call("id", None, 5.0, token)
    reply = await t.up.bus.request(f"{t.settings.namespace}.shop.{method}".encode(), payload, block, timeout=5.0)
    return msgspec.json.decode(reply.payload)


BODIES = (
    (b'{"price": 1}', {"Content-Type": "application/json"}, 200),
    (b'{"price": "x", "and": 1}', {"Content-Type": "application/json"}, 422),
    (b"{", {"Content-Type": "application/json"}, 422),
    (b"price=1", {"Content-Type": "text/plain"}, 415),
    (b"\x1f\x8b", {"Content-Type": "application/json", "Content-Encoding": "gzip"}, 415),
    (b'{"price": 1}' + b" " * 300_000, {"Content-Type": "application/json"}, 200),
)


async def all_doors(t: Any, poor: str, good: str) -> None:
    """Come with nothing, with too little and with enough, and with all kinds of input."""
    for token, refused in ((None, 401), (poor, 403), (good, 0)):
        read.clear()
        for body, headers, status in BODIES:
            reply = await t.http.post("/buy", content=body, headers=bearer(token, **headers))
            assert reply.status_code == (refused or status)
            assert "price" not in reply.text or not refused
        for payload, code in ((b'{"item": {"price": "x"}}', 400), (b"[", 400), (b"[1, 2, 3]", 400), (b'{"item": {"price": 2}}', 2)):
            answer = await ask(t, "buy", payload, token)
            assert (answer if code == 2 and not refused else answer["code"]) == (refused or code)
        for query, status in (("?price=x", 422), ("", 422), ("?price=3", 0)):
            place = t.url.replace("http", "ws") + f"/ws{query}"
            if status == refused == 0:
                async with websockets.connect(place, additional_headers=bearer(token)) as socket:
                    assert json.loads(await socket.recv()) == 3
            else:
                with pytest.raises(InvalidStatus) as wrong:
                    await websockets.connect(place, additional_headers=bearer(token))
                assert wrong.value.response.status_code == (refused or status)
        for method in ("GET", "HEAD"):
            reply = await t.http.request(method, "/stream", headers=bearer(token))
            assert reply.status_code == (refused or 422)
        assert bool(read) == (not refused)


async def test_our_own_tokens() -> None:
    """Over HTTP, RPC and WebSocket: 401 and 403 come before 415 and 422, and nothing was decoded for them."""
    async with running(shop()) as t:
        await all_doors(t, t.token("poor"), t.token("rich", permissions=["shop:buy"]))


async def all_events(t: Any, poor: str, good: str) -> None:
    """Emit an event that is not stored, as nobody, and with too little and enough."""
    read.clear()
    for token, price in ((None, 11), (poor, 12), (good, "x"), (good, 13)):
        t.up.services[0].link.token = token
        await t.emit("bought.core", {"price": price}, durable=False)
    t.up.services[0].link.token = None
    await eventually(lambda: 13 in read)
    await t.settled()
    assert read == [13]
    assert t.up.services[0].assembly.handlers[0][1].gate.admitted == 0


async def test_where_somebody_has_to_be_asked() -> None:
    """The same where the issuer's keys have to be fetched first, and where API keys are taken."""
    with FakeIssuer() as fake:
        async with running(shop(), auth_secret_key=None, oidc_issuer=fake.url, auth_audience="shop") as t:
            await all_doors(t, fake.token(), fake.token(scope="shop:buy"))
            await all_events(t, fake.token(), fake.token(scope="shop:buy"))
    async with running(shop(keys=True)) as t:
        from cliffracer.security.keyring import Keyring

        ring = value_of(t, Keyring)
        (poor, _), (rich, _) = await ring.issue("poor"), await ring.issue("rich", permissions=["shop:buy"])
        await all_doors(t, poor, rich)
        await all_events(t, poor, rich)


async def test_one_way_calls() -> None:
    """Those of nobody and of who may not are parked as they came, and what they carry was not decoded."""
    read.clear()
    async with running(shop()) as t:
        tokens = {21: None, 22: t.token("poor"), 23: t.token("rich", permissions=["shop:buy"])}
        for price, token in tokens.items():
            t.up.services[0].link.token = token
            await t.app.service("shop").send.buy(item={"price": price})
        await t.settled()
        told = sorted([letter.error.partition(":")[0] async for letter in t.up.services[0].backend.dead.ls()])
    assert (read, told) == ([23], ["Forbidden", "Unauthenticated"])


async def test_strangers_take_no_more_places_than_there_are() -> None:
    """They are refused as everybody is where a handler is busy, since to refuse them costs a place, too."""
    async with running(shop()) as t:
        gate = t.up.services[0]._rpc.endpoints[0]._gate
        gate.admitted = gate.capacity
        assert (await ask(t, "buy", b"{}", None))["code"] == 429
        gate.admitted = 0
        assert (await ask(t, "buy", b"{}", None))["code"] == 401


async def test_a_refused_body_does_not_end_the_connection() -> None:
    """What was sent along is thrown away, and the next request on the same connection is answered."""
    async with running(shop()) as t:
        place = t.url.rpartition("//")[2].split(":")
        reader, writer = await asyncio.open_connection(place[0], int(place[1]))
        for _ in range(2):
            body = b"x" * 70_000
            head = b"POST /buy HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
            writer.write(head)
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 401")  # before the body has come
            await reader.readuntil(b"}")
            writer.write(body)
        writer.write(b"GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert b"HTTP/1.1 404" in await reader.read()
        writer.close()


async def test_checks() -> None:
    """A check that needs no argument comes before the input is read, one that does comes after; what a check raises is mapped as ever."""
    async with running(shop()) as t:
        for subject, price, status in (("bob", 1, 403), ("ada", 1, 200), ("ada", 20, 403), ("broken", 1, 404), ("slow", 1, 500)):
            read.clear()
            looked.clear()
            body, token = {"price": price}, t.token(subject)
            reply = await t.http.post("/checked", json=body, headers=bearer(token))
            assert reply.status_code == status
            answer = await ask(t, "careful", json.dumps({"item": body}).encode(), token)
            assert answer == price if status == 200 else answer["code"] == status
            assert looked == [subject] * 2
            assert read == ([price] * 2 if subject == "ada" else [])
        assert (await t.http.post("/checked", content=b"{", headers=bearer(t.token("ada"), **BODIES[0][1]))).status_code == 422


@pytest.mark.parametrize("path", ["/stream", "/plain"])
async def test_the_client_leaves_while_somebody_is_asked(path: str) -> None:
    """Nothing begins for nobody: there was no call yet that could be ended, and a stream would have gone on for good."""
    app, asked, answered, begun = App("shop"), asyncio.Event(), asyncio.Event(), list[str]()

    async def asks(identity: Any) -> bool:
        asked.set()
        await answered.wait()
        return True

    @app.get("/stream")
    @requires(check=asks)
    async def stream() -> AsyncIterator[int]:
        begun.append("stream")
        yield 1

    @app.get("/plain")
    @requires(check=asks)
    async def plain() -> None:
        begun.append("plain")

    async with running(app) as t:
        reader, writer = await asyncio.open_connection("127.0.0.1", t.http.base_url.port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {t.token('ada')}\r\n\r\n".encode())
        await asked.wait()
        writer.write_eof()
        await reader.read()  # the server has closed, too
        writer.close()
        answered.set()
        await t.settled()
        assert not begun


async def test_events() -> None:
    """An event of nobody is parked for that, and not decoded."""
    read.clear()
    async with running(shop()) as t:
        await t.emit("bought", {"item": {"price": "x"}})
        await t.emit("bought", {"price": 5})
        await t.emit("bought.core", {"price": 6}, durable=False)
        with t.acting("rich", permissions=["shop:buy"]):
            await t.emit("bought.core", {"price": 7}, durable=False)
            await t.emit("bought", {"price": 8})
        await eventually(lambda: set(read) == {7, 8})
        await t.settled()
    assert set(read) == {7, 8}


async def test_batches() -> None:
    """Of a batch, what nobody and who may not have emitted is not decoded, and fails for that; the rest is handled."""
    read.clear()
    app, handled = App("crates"), list[int]()

    @app.on("packed", batch=10, within=0.3, retry=[])
    @requires("crates:open")
    async def packed(items: list[Item]) -> None:
        handled.extend(item.price for item in items)

    async with running(app) as t:
        for price in (1, "x"):
            await t.emit("packed", {"price": price})
        with t.acting("poor"):
            await t.emit("packed", {"price": 2})
        with t.acting("rich", permissions=["crates:open"]):
            for price in (3, "x", 4):
                await t.emit("packed", {"price": price})
        await eventually(lambda: len(handled) == 2)
        await t.settled()
        told = sorted([letter.error async for letter in t.up.services[0].backend.dead.ls()])
    assert sorted(read) == sorted(handled) == [3, 4]
    assert [error.partition(":")[0] for error in told] == ["Forbidden", "InvalidInput", "Unauthenticated", "Unauthenticated"]


async def test_nothing_is_fetched_for_a_stranger(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is too large for a message is fetched for who may make the call, which is decided once, or whose event is not a stored one."""
    fetched: list[str] = []
    redeem = ClaimCheck.redeem_name

    async def counted(claims: ClaimCheck, name: str) -> bytes:
        fetched.append(name)
        return await redeem(claims, name)

    monkeypatch.setattr(ClaimCheck, "redeem_name", counted)
    app, heard = App("large"), list[int]()

    @app.rpc
    @requires("large:take")
    @requires(check=of_somebody)
    async def take(text: str) -> int:
        return len(text)

    @app.on("large.told", durable=False)
    @requires("large:take")
    async def told(text: str) -> None:
        heard.append(len(text))

    async with running(app) as t:
        text = "x" * (t.up.bus.max_payload + 1)
        with pytest.raises(Unauthenticated):
            await t.call("take", text=text)
        with t.acting("poor"), pytest.raises(Forbidden):
            await t.call("take", text=text)
        await t.emit("large.told", text)
        await t.settled()
        assert fetched == []
        looked.clear()
        with t.acting("rich", permissions=["large:take"]):
            assert await t.call("take", text=text) == len(text)
            assert looked == ["rich"]
            await t.emit("large.told", text)
        await eventually(lambda: heard == [len(text)])
        assert len(fetched) == 2
