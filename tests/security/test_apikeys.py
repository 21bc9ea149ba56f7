"""API keys: on every door, scoped, shown once, rotated and revoked everywhere; other services see a token, never the key."""

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
import websockets
from loguru import logger
from websockets.exceptions import ConnectionClosed, InvalidStatus

from cliffracer import (
    Accounts,
    ApiKeys,
    App,
    Identity,
    Keyring,
    KeyValue,
    NotFound,
    Tickets,
    Unavailable,
    provided,
    public,
    requires,
    shielding,
)
from cliffracer.context import Context, current
from cliffracer.messaging.jetstream import JetStream
from cliffracer.messaging.revocations import Revocation
from cliffracer.security import enforcement
from cliffracer.security import keyring as module
from cliffracer.security.keyring import _new
from cliffracer.security.revocations import Revocations
from cliffracer.security.tokens import RefusedToken, unverified
from cliffracer.testing import running
from cliffracer.wire.calls import write_call
from cliffracer.wire.subjects import named_within
from tests.support.inside import authority_of, value_of
from tests.support.keys import private_pem, public_pem
from tests.support.waiting import eventually

app = App("gate")
app.use(ApiKeys())
app.use(Tickets())
inner = App("inner")


def requiring() -> App:
    """Return an app of another process: it has a rule, so that it hears of revocations."""
    made = App("requiring")

    @made.rpc
    @requires
    async def asked() -> None: ...

    return made


@inner.rpc
@requires("orders:read")
async def orders(*, identity: Identity = provided) -> list[Any]:
    return [identity.subject, identity.claims.get("key") is not None]


@app.rpc
@app.get("/orders")
@requires("orders:read")
async def through(*, identity: Identity = provided) -> list[Any]:
    return [identity.subject, *await app.call("inner.orders")]


@app.get("/admin")
@requires(role="admin")
async def admin() -> str:
    return "admin"


@app.get("/open")
@public
async def opened(*, identity: Identity | None = None) -> str | None:
    return None if identity is None else identity.subject


@app.websocket("/feed")
@requires("orders:read")
async def feed(*, identity: Identity = provided) -> AsyncIterator[str]:
    while True:
        yield identity.subject
        await asyncio.sleep(0.05)


@app.websocket("/onward")
@requires("orders:read")
async def onward(*, context: Context = provided) -> AsyncIterator[str | None]:
    while True:
        yield context.token
        await asyncio.sleep(0.02)


def ring_of(t: Any) -> Keyring:
    ring: Keyring = value_of(t, Keyring)
    return ring


async def raw(t: Any, key: str) -> Any:
    reply = await t.up.bus.request(f"{t.settings.namespace}.gate.through".encode(), b"{}", write_call("id", None, 5.0, key), timeout=5.0)
    return msgspec.json.decode(reply.payload)


async def test_every_door() -> None:
    """HTTP by either header, WebSocket by header, subprotocol and a ticket that tells no key, RPC; the next service is shown our token."""
    async with running(app, inner) as t:
        key, made = await ring_of(t).issue("robot", permissions=["orders:read"])
        expected = ["key:robot", "key:robot", True]
        bearer, header = {"Authorization": f"Bearer {key}"}, {"X-API-Key": key}
        assert (await t.http.get("/orders", headers=bearer)).json() == expected
        assert (await t.http.get("/orders", headers=header)).json() == expected
        assert await raw(t, key) == expected
        place = t.url.replace("http", "ws") + "/feed"
        ticket = (await t.http.post("/auth/ticket", headers=header)).json()["ticket"]
        assert (await t.http.get("/orders", params={"ticket": ticket})).status_code == 401
        for options in ({"additional_headers": bearer}, {"additional_headers": header}, {"subprotocols": ["bearer", key]}):
            async with websockets.connect(place, **options) as socket:
                assert json.loads(await socket.recv()) == "key:robot"
        bucket = named_within(t.settings.namespace, "tickets")
        kept = await JetStream(t.up.bus).last_message(f"KV_{bucket}", f"$KV.{bucket}.>")
        assert kept is not None
        assert not any(secret.encode() in kept.data for secret in (key, key.split("_")[2], ticket))
        async with websockets.connect(f"{place}?ticket={ticket}") as socket:
            assert json.loads(await socket.recv()) == "key:robot"
        assert (await t.http.get("/open", headers=header)).json() == "key:robot"
        assert (await ring_of(t).all())[0].last_used_at is not None
        assert made.last_used_at is None


async def test_scopes() -> None:
    """A key may do what it was given, as whom it was given; nothing more."""
    async with running(app, inner) as t:
        poor, _ = await ring_of(t).issue("poor")
        root, _ = await ring_of(t).issue("root", subject="ada", roles=["admin"])
        assert (await t.http.get("/orders", headers={"X-API-Key": poor})).status_code == 403
        assert (await t.http.get("/admin", headers={"X-API-Key": root})).json() == "admin"
        assert (await raw(t, root))["code"] == 403
        assert (await t.http.get("/open", headers={"X-API-Key": root})).json() == "ada"


async def test_bad_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys that are mistyped, cut, of another database, expired or no keys get one and the same 401, and none is logged.

    The database is only asked for those that are well-formed.
    """
    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(str(message)), level="TRACE")
    async with running(app, inner) as t:
        key, made = await ring_of(t).issue("robot", permissions=["orders:read"])
        brief, late = await ring_of(t).issue("brief", permissions=["orders:read"], ttl="10ms")
        other = f"cr_{made.id}_{key[20:].swapcase()}"
        await asyncio.sleep(0.05)
        mistyped = key[:-1] + ("0" if key[-1] != "0" else "1")
        answers, asked, strange = set(), _look_ups(ring_of(t), monkeypatch), _new()
        for bad in (key[:-1], key + "0", mistyped, key.upper(), other, strange[0], brief, "cr_", "cr_x"):
            reply = await t.http.get("/orders", headers={"Authorization": f"Bearer {bad}"})
            answers.add((reply.status_code, reply.text, reply.headers["www-authenticate"]))
            assert (await raw(t, bad))["code"] == 401
        assert len(answers) == 1
        assert next(iter(answers))[0] == 401
        assert set(asked) == {strange[1], late.id}
        assert (await t.http.get("/open", headers={"X-API-Key": mistyped})).json() is None
        stored = await ring_of(t)._db.fetch("SELECT * FROM cliffracer_api_keys")
    logger.remove(sink)
    assert key not in "".join(lines)
    assert key[20:84] not in str(stored)


def _look_ups(ring: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the ids of the keys that the database is asked for from now on."""
    asked: list[str] = []
    fetch = ring._fetch

    async def counted(id: str, hashed: str, now: float) -> Any:
        asked.append(id)
        return await fetch(id, hashed, now)

    monkeypatch.setattr(ring, "_fetch", counted)
    return asked


@pytest.mark.parametrize("more", [{"subject": "a" * 1025}, {"roles": [f"role-{number}" for number in range(1000)]}])
async def test_keys_that_nobody_could_use(more: dict[str, Any]) -> None:
    """A key of which no token can be made for other services is not issued."""
    async with running(app) as t:
        with pytest.raises(ValueError, match="token"):
            await ring_of(t).issue("robot", **more)
        assert await ring_of(t).all() == []


@pytest.mark.parametrize("ttl", ["0s", 0, "99999999d", 1e300])
async def test_a_key_is_good_for_some_time_that_ends(ttl: Any) -> None:
    """A key that ends beyond the calendar was kept and not shown, and none could be listed any more; one for no time was of no use."""
    async with running(app) as t:
        with pytest.raises(ValueError, match=r"leaves the key no time|good for a hundred years at most"):
            await ring_of(t).issue("robot", ttl=ttl)
        assert await ring_of(t).all() == []
        _, key = await ring_of(t).issue("robot", ttl="36500d")
        if ttl:
            with pytest.raises(ValueError, match="a hundred years at most"):
                await ring_of(t).rotate(key.id, overlap="99999999d")
        assert [each.id for each in await ring_of(t).all()] == [key.id]


async def test_keys_that_are_not_there() -> None:
    """Who revokes or rotates a key that is not there is told so, and so is who rotates one that is revoked."""
    async with running(app) as t:
        ring = ring_of(t)
        _, made = await ring.issue("robot")
        await ring.revoke(made.id)
        for asked in (ring.revoke("0" * 16), ring.rotate("0" * 16), ring.rotate(made.id)):
            with pytest.raises(NotFound, match="there is no key"):
                await asked


async def test_a_key_where_none_are_taken() -> None:
    """An app that takes no API keys refuses one as it refuses anything that is no token of its."""
    app = App("keyless")

    @app.get("/checked")
    @requires(check=lambda identity: True)
    async def checked() -> None: ...

    async with running(app) as t:
        assert (await t.http.get("/checked", headers={"Authorization": f"Bearer {_new()[0]}"})).status_code == 401


async def test_keys_where_nothing_is_signed() -> None:
    """A service that only verifies takes keys, too; what it calls for them goes out without a token."""
    async with running(app, inner, auth_keys=public_pem(private_pem())) as t:
        key, _ = await ring_of(t).issue("robot", roles=["admin"], permissions=["orders:read"])
        found = [await t.http.get(place, headers={"X-API-Key": key}) for place in ("/admin", "/open", "/orders")]
        assert [reply.json() for reply in found[:2]] == ["admin", "key:robot"]
        assert found[2].status_code == 401


async def test_lasting_work_calls_others_with_fresh_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket outlives the short tokens that its calls to other services are made with."""
    monkeypatch.setattr(module, "LIFE", 0.1)
    monkeypatch.setattr(enforcement, "_LOOK", 0.05)
    async with running(app) as t:
        key, made = await ring_of(t).issue("robot", permissions=["orders:read"])
        seen: set[str] = set()
        async with websockets.connect(t.url.replace("http", "ws") + "/onward", additional_headers={"X-API-Key": key}) as socket:
            async with asyncio.timeout(30):
                while len(seen) < 3:
                    seen.add(json.loads(await socket.recv()))
        assert {unverified(token)[1]["key"] for token in seen} == {made.id}


async def test_made_up_keys_do_not_keep_the_database_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a flood of well-formed keys that nobody was given some are looked up, the rest told to come back; who is known goes on."""
    async with running(app, inner) as t:
        ring = ring_of(t)
        key, _ = await ring.issue("robot", permissions=["orders:read"])
        second, _ = await ring.issue("second", permissions=["orders:read"])
        assert (await t.http.get("/orders", headers={"X-API-Key": key})).status_code == 200
        asked, now = _look_ups(ring, monkeypatch), time.time()
        monkeypatch.setattr(module.time, "time", lambda: now)
        answers = await asyncio.gather(*(t.http.get("/orders", headers={"X-API-Key": _new()[0]}) for _ in range(80)))
        assert len(asked) == module.STRANGE
        assert {reply.status_code for reply in answers} == {401, 429}
        assert (await t.http.get("/orders", headers={"X-API-Key": key})).status_code == 200
        assert (await t.http.get("/open", headers={"X-API-Key": _new()[0]})).json() is None
        now += 1.5
        assert (await t.http.get("/orders", headers={"X-API-Key": second})).status_code == 200


async def test_all_who_have_a_key_are_let_in_after_a_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many good keys, not seen here, come at once: few are looked up at a time, none is refused; without a database all hear why."""
    async with running(app, inner) as t:
        ring = ring_of(t)
        keys = [(await ring.issue(f"robot {number}"))[0] for number in range(2 * module.STRANGE)]
        asking, most = 0, 0
        fetch = ring._fetch

        async def slow(*asked: Any) -> Any:
            nonlocal asking, most
            asking, most = asking + 1, max(most, asking + 1)
            try:
                await asyncio.sleep(0.01)
                return await fetch(*asked)
            finally:
                asking -= 1

        async def away(*_: Any) -> Any:
            raise Unavailable("the database cannot be reached")

        monkeypatch.setattr(ring, "_fetch", away)
        missed = await asyncio.gather(*(ring.exchange(key) for key in keys), return_exceptions=True)
        assert {type(one) for one in missed} == {Unavailable}
        monkeypatch.setattr(ring, "_fetch", slow)
        found = await asyncio.gather(*(ring.exchange(key) for key in keys))
        assert len({one.subject for one in found}) == len(keys)
        assert most == module.AT_ONCE


async def test_the_database_is_asked_once_for_all_who_come_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many with one key, which was not seen here or is to be asked for again, are let in by one look-up; a bad one lets nobody in."""
    async with running(app, inner) as t:
        ring = ring_of(t)
        key, _ = await ring.issue("robot", permissions=["orders:read"])
        asked, now = _look_ups(ring, monkeypatch), time.time()
        monkeypatch.setattr(module.time, "time", lambda: now)
        for turn in (1, 2):
            found = await asyncio.gather(*(ring.exchange(key) for _ in range(2 * module.STRANGE)))
            assert {one.subject for one in found} == {"key:robot"}
            assert len(asked) == turn
            now += module.FRESH
        bad = _new(asked[0])[0]
        refused = await asyncio.gather(*(ring.exchange(bad) for _ in range(3)), return_exceptions=True)
        assert [type(one) for one in refused] == [RefusedToken] * 3


async def test_rotation() -> None:
    """The new secret has the same rights; the old one goes on for the overlap, or not at all."""
    async with running(app, inner) as t:
        ring = ring_of(t)
        first, made = await ring.issue("robot", permissions=["orders:read"])

        async def good(key: str) -> bool:
            return (await t.http.get("/orders", headers={"X-API-Key": key})).status_code == 200

        assert await good(first)
        second = await ring.rotate(made.id, overlap="1m")
        assert await good(first)
        assert await good(second)
        third = await ring.rotate(made.id)
        assert [await good(key) for key in (first, second, third)] == [False, False, True]
        fourth = await ring.rotate(made.id, overlap=1.5)
        assert await good(third)
        await asyncio.sleep(1.6)
        assert [await good(key) for key in (third, fourth)] == [False, True]


async def test_rotations_at_once_follow_each_other() -> None:
    """Both new secrets are good, of which one was replaced by the other, and is for its overlap; the old one was replaced twice."""
    async with running(app, inner) as t:
        ring = ring_of(t)
        first, made = await ring.issue("robot", permissions=["orders:read"])
        keys = [first, *await asyncio.gather(*(ring.rotate(made.id, overlap=60) for _ in range(2)))]
        found = [(await t.http.get("/orders", headers={"X-API-Key": key})).status_code for key in keys]
        assert found == [401, 200, 200]


@pytest.mark.parametrize("overlap", [0.0, 60.0])
async def test_a_rotation_that_nobody_can_be_told_of_is_none(overlap: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The new secret would be known to nobody, so the old one goes on, and its rotation can be tried again."""

    async def away(*_: object, **__: object) -> None:
        raise Unavailable("no leader")

    async with running(app, inner) as t:
        ring = ring_of(t)
        first, made = await ring.issue("robot")
        with monkeypatch.context() as patch:
            patch.setattr(KeyValue, "put", away)
            with pytest.raises(Unavailable):
                await ring.rotate(made.id, overlap=overlap)
        assert (await ring.exchange(first)).subject == "key:robot"
        second = await ring.rotate(made.id, overlap="1m")
        assert {(await ring.exchange(key)).subject for key in (first, second)} == {"key:robot"}


async def test_in_a_transaction_of_the_callers_a_revocation_is_part_of_that() -> None:
    """What is rolled back is not revoked in the table, and what is committed is."""
    async with running(app) as t:
        ring = ring_of(t)
        _, made = await ring.issue("robot")
        with pytest.raises(LookupError):  # noqa: PT012 - it is the transaction that it leaves
            async with ring._db.transaction():
                await ring.revoke(made.id)
                raise LookupError
        assert (await ring.all())[0].revoked_at is None
        async with ring._db.transaction():
            await ring.revoke(made.id)
        assert (await ring.all())[0].revoked_at is not None


@pytest.mark.parametrize("way", ["cancelled", "too late"])
@pytest.mark.parametrize("what", ["rotated", "revoked"])
async def test_what_its_asker_does_not_wait_for_is_done_whole(what: str, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key is never revoked in the table and good elsewhere, nor refused from the end of an overlap on while the table has no other."""
    telling, goes_on, put = asyncio.Event(), asyncio.Event(), KeyValue.put

    async def slowly(*args: Any, **kwargs: Any) -> int:
        telling.set()
        await goes_on.wait()
        return await put(*args, **kwargs)

    async with running(app, inner) as t:
        ring = ring_of(t)
        key, made = await ring.issue("robot")
        identity = await ring.exchange(key)
        monkeypatch.setattr(KeyValue, "put", slowly)

        async def asked() -> None:
            within = 0.3 if way == "too late" else None
            current.set(None if within is None else Context(deadline=time.monotonic() + within))
            async with asyncio.timeout(within):
                await (ring.rotate(made.id, overlap="1h") if what == "rotated" else ring.revoke(made.id))

        asking = asyncio.create_task(asked())
        await telling.wait()
        if way == "cancelled":
            asking.cancel()
        with pytest.raises(asyncio.CancelledError if way == "cancelled" else TimeoutError):
            await asking
        goes_on.set()
        await eventually(lambda: len(authority_of(t).revocations) == 1)
        for task in list(shielding._at_work):
            await asyncio.wait([task])
        kept = (await ring.all())[0]
        assert (kept.revoked_at is not None) == (what == "revoked") == authority_of(t).revocations.holds(identity.claims)
        previous = await ring._db.fetch_value("SELECT previous_until FROM cliffracer_api_keys")
        assert (previous is not None) == (what == "rotated")


async def test_an_overlap_ends_everywhere_at_once() -> None:
    """A replica that knows the old key, the token that was made of it, and its open socket: none outlives the overlap."""
    async with running(app, inner) as t, running(App("late"), requiring(), settings=t.settings) as other:
        key, made = await ring_of(t).issue("robot", permissions=["orders:read"])
        theirs = authority_of(other)
        elsewhere = Keyring(ring_of(t)._db, theirs)
        identity = await elsewhere.exchange(key)
        token = elsewhere.onward(identity)
        headers = {"X-API-Key": key}
        async with websockets.connect(t.url.replace("http", "ws") + "/feed", additional_headers=headers) as socket:
            await socket.recv()
            await ring_of(t).rotate(made.id, overlap=2.5)
            await eventually(lambda: len(theirs.revocations) == 1)
            assert (await t.http.get("/orders", headers=headers)).status_code == 200
            assert await elsewhere.exchange(key) is identity
            async with asyncio.timeout(30):
                with pytest.raises(ConnectionClosed):  # noqa: PT012 - some frames come first
                    while True:
                        await socket.recv()
        assert (await t.http.get("/orders", headers=headers)).status_code == 401
        assert (await t.http.get("/orders", headers={"Authorization": f"Bearer {token}"})).status_code == 401
        with pytest.raises(RefusedToken):
            await elsewhere.exchange(key)
        with pytest.raises(RefusedToken):
            theirs.identity(token)


def test_what_is_revoked_at_once_is_not_put_off() -> None:
    """A revocation now overrules one for later, the sooner of two counts, and it is known for good which of them says more."""
    known = Revocations()
    claims = {"sub": "ada", "iat": 0, "sid": "s"}
    known.apply("s", 4e9, 3e9)
    assert not known.holds(claims)
    known.apply("s", 4e9, 1.0)
    known.apply("s", 4e9, 3e9)
    assert known.holds(claims)
    now, later, last = Revocation("s", 4e9), Revocation("s", 4e9, 2e9), Revocation("s", 4e9, 3e9)
    assert (now.adds(later), later.adds(last), last.adds(later), later.adds(now)) == (True, True, False, False)


async def test_revocation_is_everywhere() -> None:
    """The command revokes: another process refuses the key, the token that was made for it, and ends its sockets."""
    async with running(app, inner) as t:
        key, made = await ring_of(t).issue("robot", permissions=["orders:read"])
        identity = await ring_of(t).exchange(key)
        token = ring_of(t).onward(identity)
        environment = {
            **os.environ, "CLIFFRACER_NATS_URL": t.settings.nats_url, "DATABASE_URL": t.settings.database_url,
            "CLIFFRACER_NAMESPACE": t.settings.namespace, "AUTH_SECRET_KEY": t.settings.auth_secret_key.reveal(),
        }  # fmt: skip

        async def keys(*words: str) -> str:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "cliffracer", "keys", *words, env=environment,
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            )  # fmt: skip
            out, err = await process.communicate()
            assert process.returncode == 0, err.decode()
            return out.decode()

        printed = (await keys("issue", "printed", "--permission", "orders:read", "--ttl", "1h")).strip()
        assert (await t.http.get("/orders", headers={"X-API-Key": printed})).status_code == 200
        listed = json.loads(await keys("ls", "--json"))
        assert {one["name"] for one in listed} == {"robot", "printed"}
        assert printed[20:] not in await keys("ls")
        fresh = (await keys("rotate", next(one["id"] for one in listed if one["name"] == "printed"))).strip()
        for bearer in (key, token, fresh):
            assert (await t.http.get("/orders", headers={"Authorization": f"Bearer {bearer}"})).status_code == 200
        async with websockets.connect(t.url.replace("http", "ws") + "/feed", additional_headers={"X-API-Key": key}) as socket:
            await keys("revoke", made.id)
            async with asyncio.timeout(30):
                with pytest.raises(ConnectionClosed):  # noqa: PT012 - some frames come first
                    while True:
                        await socket.recv()
        await eventually(lambda: authority_of(t).revocations.holds(identity.claims))
        for bearer in (key, token, printed):
            assert (await t.http.get("/orders", headers={"Authorization": f"Bearer {bearer}"})).status_code == 401
        with pytest.raises(InvalidStatus):
            await websockets.connect(t.url.replace("http", "ws") + "/feed", additional_headers={"X-API-Key": key})


async def test_shown_in_openapi() -> None:
    """The document names both ways in, and the permissions for each."""
    async with running(app, inner) as t:
        found = (await t.http.get("/openapi.json")).json()
    assert found["components"]["securitySchemes"]["key"] == {"type": "apiKey", "in": "header", "name": "X-API-Key"}
    assert found["paths"]["/orders"]["get"]["security"] == [{"bearer": ["orders:read"]}, {"key": ["orders:read"]}]


@pytest.mark.parametrize("onward", [False, True])
async def test_keys_do_not_sign_out(onward: bool) -> None:
    """Whoever has an API key, or a token that was made of it, cannot end it for all others by signing out."""
    members = App("members")
    members.use(Accounts())
    members.use(ApiKeys())
    async with running(members) as t:
        keys = value_of(t, Keyring)
        key, _ = await keys.issue("job")
        shown = {"Authorization": f"Bearer {keys.onward(await keys.exchange(key)) if onward else key}"}
        reply = await t.http.post("/auth/logout", headers=shown)
        assert (reply.status_code, "no sign-in of ours" in reply.json()["detail"]) == (403, True)
        assert (await t.http.get("/auth/me", headers=shown)).status_code == 200
        assert (await t.http.get("/auth/me", headers={"X-API-Key": key})).status_code == 200
