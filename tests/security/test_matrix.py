"""Who may do what: five callers, ten operations, five doors, one table."""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import msgspec
import nats
import pytest
import websockets
from websockets.exceptions import ConnectionClosed, InvalidStatus

from cliffracer import App, ServiceError, public, requires
from cliffracer.testing import running
from tests.support.inside import handler_of

WHO: dict[str, dict[str, Any] | None] = {
    "admin": {"roles": ["admin", "user"], "permissions": ["users:read", "users:write", "users:delete", "reports:read"]},
    "manager": {"roles": ["manager", "user"], "permissions": ["users:read", "users:write", "reports:read"]},
    "user": {"roles": ["user"], "permissions": ["users:read"]},
    "guest": {"roles": ["guest"], "permissions": []},
    "anonymous": None,
}
RULES: dict[str, tuple[Callable[[Any], Any], str]] = {
    "open": (public, "admin manager user guest anonymous"),
    "known": (requires, "admin manager user guest"),
    "read": (requires("users:read"), "admin manager user"),
    "write": (requires(permission="users:write"), "admin manager"),
    "delete": (requires("users:read", "users:delete"), "admin"),
    "roles": (requires(role="admin"), "admin"),
    "either": (requires(role=("admin", "manager")), "admin manager"),
    "both": (requires("reports:read", role="manager"), "manager"),
    "some": (requires("users:delete", role="guest", any=True), "admin guest"),
    "checked": (requires(check=lambda identity, arguments: identity.subject == "user" and not arguments), "user"),
}
app = App("matrix")
entered: list[tuple[str, str]] = []


def _declare(name: str, rule: Callable[[Any], Any]) -> None:
    async def operation() -> str:
        entered.append((name, "call"))
        return name

    async def happened() -> None:
        entered.append((name, "event"))

    operation.__name__ = operation.__qualname__ = name
    happened.__name__ = happened.__qualname__ = f"on_{name}"
    app.rpc(app.post(f"/{name}")(app.websocket(f"/ws/{name}")(operation)))
    rule(operation)  # after it was declared: it counts all the same
    app.on(f"matrix.{name}", durable=False)(rule(happened))


for _name, (_rule, _) in RULES.items():
    _declare(_name, _rule)


async def over_http(t: Any, name: str, token: str | None) -> int:
    reply: httpx.Response = await t.http.post(f"/{name}", headers={} if token is None else {"Authorization": f"Bearer {token}"})
    return reply.status_code


async def over_socket(t: Any, name: str, token: str | None) -> int:
    place = t.url.replace("http", "ws") + f"/ws/{name}"
    try:
        async with websockets.connect(place, subprotocols=None if token is None else ["bearer", token]) as client:
            await client.recv()
    except InvalidStatus as refused:
        return refused.response.status_code
    except ConnectionClosed:
        return 200
    return 200


async def over_rpc(t: Any, name: str, token: str | None) -> int:
    t.up.services[0].link.token = token
    try:
        return 200 if await t.call(name) == name else 500
    except ServiceError as error:
        return error.code
    finally:
        t.up.services[0].link.token = None


async def over_nats(t: Any, name: str, token: str | None) -> int:
    """Ask as any NATS client does: nats-py, which knows nothing of us."""
    client = await nats.connect(t.settings.nats_url)
    headers = None if token is None else {"Authorization": f"Bearer {token}"}
    reply = await client.request(f"{t.settings.namespace}.matrix.{name}", b"{}", timeout=5, headers=headers)
    await client.close()
    answer = msgspec.json.decode(reply.data)
    assert (reply.headers or {}).get("Nats-Service-Error-Code") == (None if answer == name else str(answer["code"]))
    return 200 if answer == name else answer["code"]


async def by_event(t: Any, name: str, token: str | None) -> int:
    before = len(entered)
    stats = handler_of(t, f"on_{name}").stats
    handled = stats.calls
    t.up.services[0].link.token = token
    await t.emit(f"matrix.{name}", None, durable=False)
    t.up.services[0].link.token = None
    async with asyncio.timeout(30):
        while stats.calls == handled:  # noqa: ASYNC110 - nothing else says that it was refused
            await asyncio.sleep(0.002)
    return 200 if len(entered) > before else 401 if token is None else 403


@pytest.mark.parametrize("door", [over_http, over_socket, over_rpc, over_nats, by_event])
async def test_matrix(door: Callable[..., Any]) -> None:
    """Each caller may do on this door exactly what the table says, and the handler is entered in no other case."""
    found, wanted = {}, {}
    entered.clear()
    async with running(app) as t:
        for who, given in WHO.items():
            token = None if given is None else t.token(who, **given)
            for name, (_, allowed) in RULES.items():
                found[who, name] = await door(t, name, token)
                wanted[who, name] = 200 if who in allowed.split() else 401 if token is None else 403
    assert found == wanted
    assert len(entered) == sum(status == 200 for status in wanted.values())
