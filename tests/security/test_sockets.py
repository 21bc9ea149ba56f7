"""Sockets and streams: refused before they open, known by header or subprotocol, ended with their token."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
import websockets
from starlette.websockets import WebSocket
from websockets.exceptions import ConnectionClosed, InvalidStatus

from cliffracer import App, Identity, Unauthenticated, provided, requires
from cliffracer.testing import running
from tests.support.inside import authority_of

app = App("feeds")
entered: list[str] = []


@app.websocket("/feed")
@app.rpc
@requires("feed:read")
async def feed(*, identity: Identity = provided) -> AsyncIterator[str]:
    entered.append(identity.subject)
    yield identity.subject
    while True:
        await asyncio.sleep(0.05)
        yield "more"


@app.websocket("/talk")
@requires("feed:read")
async def talk(*, socket: WebSocket = provided) -> None:
    async for word in socket.iter_text():
        await socket.send_text(word)


def place(t, path: str = "/feed") -> str:
    return t.url.replace("http", "ws") + path


@pytest.mark.parametrize(("permissions", "status"), [(None, 401), ([], 403)])
async def test_refused_before_the_upgrade(permissions: list[str] | None, status: int) -> None:
    """Who may not is told by an HTTP answer, and the handler is not entered."""
    entered.clear()
    async with running(app) as t:
        headers = {} if permissions is None else {"Authorization": f"Bearer {t.token('ada', permissions=permissions)}"}
        with pytest.raises(InvalidStatus) as refused:
            await websockets.connect(place(t), additional_headers=headers)
        response = refused.value.response
        assert (response.status_code, response.headers["WWW-Authenticate"].split(",")[0]) == (status, f'Bearer realm="{app.name}"')
        assert entered == []


async def test_header_and_subprotocol() -> None:
    """A program gives its token in the header, a browser as a subprotocol; a query has none."""
    async with running(app) as t:
        token = t.token("ada", permissions=["feed:read"])
        async with websockets.connect(place(t), additional_headers={"Authorization": f"Bearer {token}"}) as client:
            assert json.loads(await client.recv()) == "ada"
        async with websockets.connect(place(t), subprotocols=["bearer", token]) as client:
            assert client.subprotocol == "bearer"
            assert json.loads(await client.recv()) == "ada"
        with pytest.raises(InvalidStatus):
            await websockets.connect(f"{place(t)}?token={token}&access_token={token}")


@pytest.mark.parametrize("path", ["/feed", "/talk"])
async def test_ends_with_its_token(path: str) -> None:
    """A socket is closed with 4401 when its token's time is over, whether its handler yields or talks to the socket itself."""
    async with running(app) as t:
        token = t.token("ada", permissions=["feed:read"], ttl=2)
        async with websockets.connect(place(t, path), subprotocols=["bearer", token]) as client:
            async with asyncio.timeout(30):
                with pytest.raises(ConnectionClosed) as closed:  # noqa: PT012 - some frames come first
                    while True:
                        await client.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4401


async def test_a_revoked_token_ends_streams() -> None:
    """A stream over RPC ends as Unauthenticated soon after its token is revoked."""
    async with running(app) as t:
        with t.acting("ada", permissions=["feed:read"]) as token:
            authority = authority_of(t)
            known = authority.identity(token).claims["jti"]
            with pytest.raises(Unauthenticated):  # noqa: PT012 - some items come first
                async for item in t.stream("feed"):
                    if item == "more":
                        authority.revocations.revoke(known, 2e10)
