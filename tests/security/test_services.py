"""Services that act on their own behalf, their public keys, and revocation in every process."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from cliffracer import App, Forbidden, Identity, KeyValue, Unauthenticated, Unavailable, provided, public, requires
from cliffracer.client import connect_async
from cliffracer.messaging.reading import Reader
from cliffracer.runtime import running as served
from cliffracer.security import authority as authorities
from cliffracer.security.authority import tokens_of
from cliffracer.settings import Settings
from cliffracer.testing import running
from tests.support.inside import authority_of
from tests.support.keys import private_pem
from tests.support.nats import NatsServer
from tests.support.proxy import Proxy
from tests.support.waiting import eventually

inner = App("ledger")
outer = App("shop")
PEM = private_pem()


@inner.rpc
@inner.get("/entry")
@requires
async def entry(*, identity: Identity = provided) -> list[str]:
    return [identity.subject, *identity.roles]


@outer.rpc
@public
async def buy() -> list[list[str]]:
    mine = await outer.call("ledger.entry")
    with outer.as_service():
        own = await outer.call("ledger.entry")
    return [mine, own, await outer.call("ledger.entry")]


async def test_as_service() -> None:
    """In the block the service calls as itself, before and after as its caller."""
    async with running(outer, inner, auth_keys=PEM) as t:
        with t.acting("ada"):
            assert await t.call("buy") == [["ada"], ["shop", "service"], ["ada"]]


async def test_a_block_outlives_its_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that goes on as itself, as a task of it may for days, calls and emits by a token that is good."""
    monkeypatch.setattr(authorities, "OWN_LIFE", 2.0)
    front, heard = App("front"), list[str]()

    @front.on("front.went")
    @requires
    async def went(*, identity: Identity = provided) -> None:
        heard.append(identity.subject)

    async with running(inner, front, auth_keys=PEM):
        with front.as_service():
            for _ in range(2):
                assert await front.call("ledger.entry") == ["front", "service"]
                await asyncio.sleep(2.1)
            await front.emit("front.went", None)
            await eventually(lambda: heard == ["front"])


async def test_hooks_act_as_the_service() -> None:
    """What runs before anybody calls can call others as the service."""
    front, heard = App("front"), []

    @front.on_startup
    async def greet() -> None:
        with front.as_service():
            heard.append(await front.call("ledger.entry"))

    @front.on_shutdown
    async def leave() -> None:
        with front.as_service():
            heard.append(await front.call("ledger.entry"))

    async with running(inner, auth_keys=PEM) as t, running(front, requiring(), settings=t.settings.changed(http_port=0)):
        pass
    assert heard == [["front", "service"]] * 2


def requiring() -> App:
    """Return an app with a rule."""
    app = App("requiring")

    @app.rpc
    @requires
    async def nothing() -> None: ...

    return app


async def test_published_keys() -> None:
    """Others find the public halves of our keys where OpenID Connect has them, and nothing else of them."""
    async with running(inner, auth_keys=PEM, auth_secret_key="q8Zt3vN0xW7sLk2pRm5yUe9aJh4cGf6d1") as t:
        found = (await t.http.get("/.well-known/jwks.json")).json()
    assert [sorted(key) for key in found["keys"]] == [["alg", "crv", "kid", "kty", "use", "x"]]


async def test_revocation_reaches_every_process() -> None:
    """What one process revokes is refused by another at once, and by one that starts later."""
    async with running(inner, auth_keys=PEM) as t:
        token = t.token("ada")
        headers = {"Authorization": f"Bearer {token}"}
        assert (await t.http.get("/entry", headers=headers)).status_code == 200
        authority = authority_of(t)
        settings: Settings = t.settings.changed(http_port=0)
        async with running(App("ledger2"), requiring(), settings=settings) as other:
            theirs = authority_of(other)
            await theirs.revoke(authority.identity(token).claims["jti"], 2e10)
            await eventually(lambda: len(authority.revocations) == 1, within=1.0)
            assert (await t.http.get("/entry", headers=headers)).status_code == 401
        async with running(App("ledger3"), requiring(), settings=settings) as late:
            fresh = authority_of(late)
            assert len(fresh.revocations) == 1


async def test_a_process_that_starts_knows_what_is_revoked() -> None:
    """Before it takes anything in: what a revoked token has stored while no process ran is not handled, the next event is."""
    app, handled = App("vault"), list[str]()

    @app.on("vault.asked", retry=[])
    @requires
    async def asked(name: str) -> None:
        handled.append(name)

    async with running(inner, auth_keys=PEM) as t:
        settings, theirs, good = t.settings.changed(http_port=0), t.token("ada"), t.token("bob")
        async with running(app, settings=settings) as first:
            authority = authority_of(first)
            for number in range(50):
                await authority.revoke(f"some-{number}", 2e10)
            await authority.revoke(authority.identity(theirs).claims["jti"], 2e10)
        for token, name in ((theirs, "by a revoked one"), (good, "by a good one")):
            t.up.services[0].link.token = token
            await t.emit("vault.asked", name)
        async with running(app, settings=settings):
            await eventually(lambda: handled)
    assert handled == ["by a good one"]


async def test_a_process_that_comes_back_knows_what_is_revoked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it handles what was stored while NATS was away from it, however slowly that comes: of a revoked token nothing is done."""
    app, handled, begin = App("vault"), list[str](), Reader._ensure

    @app.on("vault.asked", retry=[])
    @requires
    async def asked(name: str) -> None:
        handled.append(name)

    async def anew_slowly(self: Reader) -> str:
        await asyncio.sleep(1.0 if self._created else 0.0)
        return await begin(self)

    monkeypatch.setattr(Reader, "_ensure", anew_slowly)
    async with running(inner, auth_keys=PEM) as t, Proxy(urlsplit(t.settings.nats_url).port or 0) as proxy:
        theirs, good = t.token("ada"), t.token("bob")
        through = t.settings.nats_url.replace(f":{proxy.target}", f":{proxy.port}")
        async with running(app, settings=t.settings.changed(http_port=0, nats_url=through)) as away:
            proxy.refuse()
            await eventually(lambda: not away.up.bus.connected)
            authority = authority_of(t)
            await authority.revoke(authority.identity(theirs).claims["jti"], 2e10)
            for token, name in ((theirs, "by a revoked one"), (good, "by a good one")):
                t.up.services[0].link.token = token
                await t.emit("vault.asked", name)
            proxy.heal()
            await eventually(lambda: handled)
    assert handled == ["by a good one"]


async def test_a_server_that_lost_all_it_stored_has_nothing_revoked() -> None:
    """The bucket is made again, as the stream of events is, and what is stored from then on is handled."""
    app, handled = App("vault"), list[str]()

    @app.on("vault.asked", retry=[])
    @requires
    async def asked(name: str) -> None:
        handled.append(name)

    with NatsServer(jetstream=True) as server:
        settings = Settings(nats_url=server.url, auth_keys=PEM, wait=5.0)
        async with served(app, settings) as up, connect_async(settings=settings, token=tokens_of(settings).issue("ada", ttl=300)) as client:
            await client.emit("vault.asked", "before")
            await eventually(lambda: handled)
            server.kill()
            shutil.rmtree(server.folder / "jetstream")
            server.start()
            await eventually(lambda: up.bus.connected)
            await client.emit("vault.asked", "after")
            await eventually(lambda: handled == ["before", "after"])


async def test_without_what_is_revoked_nothing_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """While it cannot be read no call can be judged, so the start fails in time, and says why."""

    async def unreadable(*_: object, **__: object) -> None:
        raise Unavailable("no leader")

    async with running(inner, auth_keys=PEM) as t:
        settings = t.settings.changed(http_port=0, wait=0.1)
        monkeypatch.setattr(KeyValue, "_reader", unreadable)
        with pytest.raises(Unavailable, match=r"which tokens are revoked could not be read from NATS within 1 s.*no leader"):
            async with running(requiring(), settings=settings):
                pytest.fail("it started")


async def test_as_long_as_some_come_the_start_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many were revoked, and however slow NATS is: each has come within the time, all of them have not."""
    watch, applied = KeyValue.watch, list[str]()

    async def slow(self: KeyValue[Any], *args: Any, **options: Any) -> AsyncIterator[Any]:
        async for entry in watch(self, *args, **options):
            await asyncio.sleep(0.7)
            applied.append(entry.key)
            yield entry

    async with running(inner, auth_keys=PEM) as t:
        authority = authority_of(t)
        for number in range(5):
            await authority.revoke(f"some-{number}", 2e10)
        monkeypatch.setattr(KeyValue, "watch", slow)
        async with running(requiring(), settings=t.settings.changed(http_port=0, wait=3.0)) as late:
            assert len(authority_of(late).revocations) == 5
    assert len(applied) == 5


async def test_without_jetstream_nothing_is_stored() -> None:
    """No revocation and no event: a service with rules starts there."""
    with NatsServer() as server:
        async with served(requiring(), Settings(nats_url=server.url, auth_keys=PEM, wait=600.0)):
            pass


async def test_audit() -> None:
    """A hook is told who called what, and who was refused, under one correlation id on every hop."""
    seen: list[tuple[str | None, str, str | None, str]] = []
    front, back = App("front"), App("back")

    @back.on_access
    @front.on_access
    def audit(access) -> None:
        subject = None if access.identity is None else access.identity.subject
        seen.append((subject, f"{access.service}.{access.handler}", access.refused, access.correlation_id))

    @front.rpc
    @requires
    async def ask() -> str:
        return await front.call("back.answer")

    @back.rpc
    @requires("answers")
    async def answer() -> str:
        return "yes"

    async with running(front, back) as t:
        with pytest.raises(Unauthenticated):
            await t.call("ask")
        with t.acting("ada"), pytest.raises(Forbidden):
            await t.call("ask")
        with t.acting("bob", permissions=["answers"]):
            assert await t.call("ask") == "yes"
    assert [entry[:3] for entry in seen] == [
        (None, "front.ask", "Unauthenticated"),
        ("ada", "front.ask", None),
        ("ada", "back.answer", "Forbidden"),
        ("bob", "front.ask", None),
        ("bob", "back.answer", None),
    ]
    assert seen[1][3] == seen[2][3] != seen[3][3] == seen[4][3]
