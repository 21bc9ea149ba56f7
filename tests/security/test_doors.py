"""One rule on a function holds on every door: HTTP, RPC by our client, RPC by any NATS client, events, one-way calls."""

import asyncio
from typing import Any

import msgspec
import pytest

from cliffracer import App, Context, Identity, Unauthenticated, provided, public, requires
from cliffracer.security.authority import tokens_of
from cliffracer.settings import Settings
from cliffracer.testing import running
from cliffracer.wire.calls import write_call
from tests.support.waiting import eventually

KEY = "q8Zt3vN0xW7sLk2pRm5yUe9aJh4cGf6d1"
app = App("vault")
other = App("front")
handled: list[tuple[str, str | None]] = []


@requires("vault:open")
@app.rpc
@app.get("/above")
async def above(*, identity: Identity = provided) -> str:
    return identity.subject


@app.rpc
@app.get("/below")
@requires("vault:open")
async def below(*, context: Context = provided) -> str:
    return context.identity.subject


@app.rpc
@app.get("/own/{user_id}")
@requires(check=lambda identity, user_id: identity.subject == user_id)
async def own(user_id: str) -> str:
    return user_id


async def after_asking(identity: Identity) -> bool:
    await asyncio.sleep(0)
    return identity.subject == "ada"


async def after_looking(identity: Identity, user_id: str) -> bool:
    await asyncio.sleep(0)
    return identity.subject == user_id


CHECKS: dict[str, Any] = {
    "asking": after_asking,
    "looking": after_looking,
    "named": lambda who, user_id: who.subject == user_id,
    "placed": lambda who, user_id, /: who.subject == user_id,
    "all": lambda identity, **given: identity.subject == given["user_id"],
    "whole": lambda identity, arguments: arguments == {"user_id": identity.subject},
    "context": lambda context, other="ada": context.identity.subject == other,
}


def _declare(name: str, check: Any) -> None:
    async def record(user_id: str) -> str:
        return user_id

    record.__name__ = record.__qualname__ = f"of_{name}"
    app.rpc(app.get(f"/of/{name}/{{user_id}}")(requires(check=check)(record)))


for _name, _check in CHECKS.items():
    _declare(_name, _check)


async def never(identity: Identity) -> bool:
    await asyncio.Event().wait()
    return True


@app.rpc
@requires(check=never)
async def undecided() -> None: ...


@app.rpc
@app.get("/open")
@public
async def opened(*, identity: Identity | None = None) -> str | None:
    return identity.subject if identity is not None else None


@app.on("vault.opened")
@requires("vault:open")
async def on_opened(name: str, *, identity: Identity = provided) -> None:
    handled.append((name, identity.subject))


@app.on("vault.seen", durable=False)
@requires("vault:open")
async def on_seen(name: str, *, identity: Identity = provided) -> None:
    handled.append((name, identity.subject))


@app.on("vault.many", batch=10)
@requires("vault:open")
async def on_many(names: list[str], *, identity: Identity = provided) -> None:
    handled.extend((name, identity.subject) for name in names)


@other.rpc
@other.get("/through")
@requires
async def through(name: str = "") -> str:
    if name:
        await other.emit("vault.opened", name)
        await other.emit("vault.seen", name, durable=False)
        await other.emit("vault.many", name)
        await other.service("vault").send.above()
    return await other.call("vault.above")


def token(subject: str = "ada", **claims: Any) -> str:
    return tokens_of(Settings(auth_secret_key=KEY)).issue(subject, ttl=60, **{"permissions": ["vault:open"], **claims})


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


async def raw(t: Any, method: str, payload: bytes = b"{}", **who: Any) -> Any:
    """Call as any NATS client does, with or without a token."""
    block = write_call("id", None, who.get("within", 5.0), who.get("token"))
    reply = await t.up.bus.request(f"{t.settings.namespace}.{method}".encode(), payload, block, timeout=5.0)
    return msgspec.json.decode(reply.payload)


@pytest.mark.parametrize("path", ["/above", "/below"])
async def test_http(path: str) -> None:
    """Without a token 401, with a bad one 401 that says so, with one that is not enough 403, else the answer."""
    async with running(app, auth_secret_key=KEY) as t:
        nobody = await t.http.get(path)
        bad = await t.http.get(path, headers=bearer(token() + "x"))
        poor = await t.http.get(path, headers=bearer(token(permissions=[])))
        good = await t.http.get(path, headers=bearer(token()))
    assert (nobody.status_code, nobody.headers["www-authenticate"]) == (401, 'Bearer realm="vault"')
    assert (bad.status_code, bad.headers["www-authenticate"]) == (401, 'Bearer realm="vault", error="invalid_token"')
    scarce = 'Bearer realm="vault", error="insufficient_scope", scope="vault:open"'
    assert (poor.status_code, poor.headers["www-authenticate"]) == (403, scarce)
    assert "scope" not in bad.json().keys() | nobody.json().keys()
    assert (good.status_code, good.json()) == (200, "ada")


@pytest.mark.parametrize("method", ["above", "below"])
async def test_rpc(method: str) -> None:
    """NATS alone is no way round: the same rule, from our client and from any other."""
    async with running(app, auth_secret_key=KEY) as t:
        with pytest.raises(Unauthenticated):
            await t.call(method)
        assert (await raw(t, f"vault.{method}"))["code"] == 401
        assert (await raw(t, f"vault.{method}", token=token() + "x"))["code"] == 401
        assert (await raw(t, f"vault.{method}", token=token(permissions=[])))["code"] == 403
        assert await raw(t, f"vault.{method}", token=token()) == "ada"


async def test_own_records() -> None:
    """A check sees the arguments, over HTTP and RPC alike."""
    async with running(app, auth_secret_key=KEY) as t:
        mine = await t.http.get("/own/ada", headers=bearer(token()))
        theirs = await t.http.get("/own/bob", headers=bearer(token()))
        assert (mine.status_code, theirs.status_code) == (200, 403)
        assert await raw(t, "vault.own", b'{"user_id": "ada"}', token=token()) == "ada"
        assert (await raw(t, "vault.own", b'["bob"]', token=token()))["code"] == 403


@pytest.mark.parametrize("name", CHECKS)
async def test_checks_of_all_shapes(name: str) -> None:
    """A check may be async, call the identity as it likes and take what it names; whom it refuses is refused, over HTTP and RPC alike."""
    async with running(app, auth_secret_key=KEY) as t:
        who = {subject: token(subject) for subject in ("ada", "bob")}
        over_http = [(await t.http.get(f"/of/{name}/ada", headers=bearer(each))).status_code for each in who.values()]
        assert over_http == [200, 403]
        assert await raw(t, f"vault.of_{name}", b'{"user_id": "ada"}', token=who["ada"]) == "ada"
        assert (await raw(t, f"vault.of_{name}", b'{"user_id": "ada"}', token=who["bob"]))["code"] == 403


async def test_a_check_has_the_time_of_the_call() -> None:
    """Who waits for a check in vain is told so when his time is over."""
    async with running(app, auth_secret_key=KEY) as t:
        assert (await raw(t, "vault.undecided", token=token(), within=0.2))["code"] == 504


async def test_public() -> None:
    """Everybody may; who has a good token is recognised, and a bad one makes nobody of him."""
    async with running(app, auth_secret_key=KEY) as t:
        assert await t.call("opened") is None
        assert await raw(t, "vault.opened", token=token()) == "ada"
        assert await raw(t, "vault.opened", token="x.y.z") is None
        assert (await t.http.get("/open", headers=bearer(token()))).json() == "ada"


async def test_forwarding() -> None:
    """Calls, events and one-way calls go out with the caller's token, and the other service verifies it itself."""
    handled.clear()
    async with running(other, app, auth_secret_key=KEY) as t:
        answer = await t.http.get("/through", params={"name": "x"}, headers=bearer(token()))
        assert (answer.status_code, answer.json()) == (200, "ada")
        await eventually(lambda: len(handled) == 3)
        await t.settled()
        poor = await t.http.get("/through", headers=bearer(token(permissions=[])))
        assert poor.status_code == 403
    assert handled == [("x", "ada")] * 3


async def test_events_of_nobody() -> None:
    """An event without a token, or with a bad one, is not handled."""
    handled.clear()
    async with running(app, auth_secret_key=KEY) as t:
        await t.emit("vault.opened", "core", durable=False)
        await t.emit("vault.seen", "seen", durable=False)
        await t.emit("vault.opened", "durable")
        t.up.services[0].link.token = token() + "x"
        await t.emit("vault.opened", "bad")
        await t.emit("vault.many", "bad")
        t.up.services[0].link.token = token("bob")
        await t.emit("vault.many", "good")
        await t.emit("vault.opened", "last")
        await eventually(lambda: len(handled) == 2)
        await asyncio.sleep(0.2)  # room for what must not come
    assert sorted(handled) == [("good", "bob"), ("last", "bob")]
