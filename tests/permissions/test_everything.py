"""Every feature that uses NATS, under permissions derived from its declaration, in a namespace: nothing is refused."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator

import httpx
import nats
import pytest
import websockets
from loguru import logger

from cliffracer import App, DeadlineExceeded, Model, Repository, Settings, connect_async
from cliffracer.messaging import chunked
from cliffracer.messaging.bus import connect
from cliffracer.permissions.nats import configuration, permissions_of, variable
from cliffracer.permissions.needs import Needs, processes
from cliffracer.permissions.network import of_process
from cliffracer.permissions.provision import provision
from cliffracer.permissions.sql import grants
from cliffracer.runtime import Running, running
from cliffracer.security.authority import tokens_of
from tests.permissions import everything
from tests.permissions.escaping import escaped, ways_of
from tests.permissions.everything import LARGE, app, happened, other
from tests.security.corpus import KEY
from tests.support.inside import authority_of
from tests.support.nats import NatsServer
from tests.support.waiting import eventually

NAMESPACE = "stage"


def settings(url: str, user: str) -> Settings:
    return Settings(
        env="production", namespace=NAMESPACE, nats_url=url, nats_user=user, nats_password=f"{user}-password", wait=5.0,
        http_host="127.0.0.1", http_port=0, auth_secret_key=KEY,
    )  # fmt: skip


@pytest.fixture
def server() -> Iterator[NatsServer]:
    """A nats-server with the users of both services."""
    given = Settings(namespace=NAMESPACE, auth_secret_key=KEY)
    found = processes([app.freeze(), other.freeze()], given, together=False)
    with pytest.MonkeyPatch.context() as patch:
        for user in ("every-thing", "other", "deploy"):
            patch.setenv(variable(user), f"{user}-password")
        with NatsServer(configuration([permissions_of(process) for process in found]), jetstream=True) as up:
            yield up


@pytest.fixture
async def up(server: NatsServer) -> AsyncIterator[tuple[Running, list[str]]]:
    """Both services, each as its own user, and what was logged as a warning."""
    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(str(message)), level="WARNING")
    deploying = settings(server.url, "deploy")
    bus = await connect(deploying, name="deploy")
    made = await provision(bus, [Needs(app.freeze(), deploying), Needs(other.freeze(), deploying)])
    assert made == await provision(bus, [Needs(app.freeze(), deploying), Needs(other.freeze(), deploying)])
    await bus.close()
    happened.clear()
    async with running(other, settings(server.url, "other")), running(app, settings(server.url, "every-thing")) as one:
        yield one, lines
    logger.remove(sink)


async def test_everything_works(server: NatsServer, up: tuple[Running, list[str]]) -> None:
    """RPC, streams, one-way calls, events of every kind, stores, locks, timers, rooms, rates, large payloads, revocation."""
    one, lines = up
    token = tokens_of(one.settings).issue("ada", ttl=60)
    async with connect_async(settings=settings(server.url, "deploy"), token=token) as client:
        service = client.service("every-thing", timeout=20)
        assert await service.known() == "ada"
        assert await service.use_stores() == [1, None, ["a", "b"], 300_000, []]
        assert await service.use_others() == ["x", LARGE, sum(range(100))]
        assert [await service.use_cache(), await service.use_cache()] == [1, 1]
        await app.cache.forget(tag="answers")
        assert [await service.use_cache(), await service.use_cache()] == [2, 2]
        await service.use_events()
    async with httpx.AsyncClient(base_url=one.addresses[0]) as page:
        ticket = (await page.post("/auth/ticket", headers={"Authorization": f"Bearer {token}"})).json()["ticket"]
    async with websockets.connect(f"{one.addresses[0].replace('http', 'ws')}/room?ticket={ticket}") as socket:
        await socket.send(json.dumps("hello"))
        assert json.loads(await socket.recv()) == "hello"
    wanted = ["fed", ("durable", "z" * 20), ("other", "z" * 20), ("durable", "later"), ("batch", "many"), ("core", "core"),
              ("row", "row"),
              ("core", "each"), "tick", "noted", "led"]  # fmt: skip
    await eventually(lambda: all(one in happened for one in wanted), within=30)
    await everything.tick()
    authority = authority_of(one)
    dead = one.services[0].backend.dead
    await eventually(lambda: any("gave up on" in line for line in lines), within=10)
    assert authority.revocations is not None
    assert dead.stream == "stage_DEAD"
    assert [line for line in lines if "NATS refuses" in line or "permissions violation" in line.lower()] == []


@pytest.mark.parametrize("one", [app, other], ids=["every-thing", "other"])
async def test_a_reply_subject_opens_nothing(server: NatsServer, one: App) -> None:
    """Not by discovery, own events, caches, locks, rooms: what it may publish and hear leads nowhere else."""
    (process,) = processes([one.freeze()], Settings(namespace=NAMESPACE, auth_secret_key=KEY), together=False)
    found = permissions_of(process)
    assert len(ways_of(found)) > (5 if one is app else 0)
    assert await escaped(server, found, ("stage.other.secret", "events.thing", "$JS.API.STREAM.PURGE.stage_EVENTS")) == set()


async def test_a_stock_client_is_answered(server: NatsServer, up: tuple[Running, list[str]]) -> None:
    """Its inboxes are those of every NATS client, or begin with a name beneath ``_INBOX.`` as ours do."""
    for options in ({}, {"inbox_prefix": "_INBOX.mine"}):
        client = await nats.connect(server.url, user="deploy", password="deploy-password", **options)
        reply = await client.request("stage.other.echo", b'{"text":"x"}', timeout=20)
        assert json.loads(reply.data) == "x"
        assert (await client.request("stage.$SRV.PING.other", b"", timeout=20)).data
        await client.close()


def test_one_process_for_all() -> None:
    """Services that run together share one user, with what both need and an inbox of their own."""
    given = Settings(namespace=NAMESPACE)
    (process,) = processes([app.freeze(), other.freeze()], given, together=True)
    found = permissions_of(process)
    assert found.user == "every-thing-other"
    assert "_INBOX.stage_every-thing-other.>" in found.subscribe
    assert {"stage.other.echo other", "stage.every-thing.known every-thing"} <= set(found.subscribe)
    assert "stage.cliffracer.local.other.*.echo" in found.publish


class Place(Model):
    __tablename__ = "places"


def test_two_versions_of_an_app_are_one_user() -> None:
    """While one replaces the other, the user of both may do what either does; nats-server refuses a file with two users of one name."""
    old, new = App("shop", version="1", calls=["pay.charge"]), App("shop", version="2", calls=["pay.book"])

    @old.rpc
    async def place(*, places: Repository[Place]) -> None: ...

    @new.rpc
    async def order() -> None: ...

    (process,) = processes([old.freeze(), new.freeze()], Settings(), together=False)
    found = permissions_of(process)
    assert (found.user, len(found.notes)) == ("shop", 1)
    assert {"_INBOX.shop.>", "shop.place shop", "shop.order shop"} <= set(found.subscribe)
    assert {"pay.charge", "pay.book"} <= set(found.publish)
    assert grants([process]).count('ON "places" TO "shop"') == 1
    (policy,) = of_process(process, Settings())
    assert (policy["metadata"]["name"], policy["metadata"]["annotations"]) == ("shop", {"cliffracer/calls": "pay.charge, pay.book"})
    assert {"port": 5432, "protocol": "TCP"} in [port for rule in policy["spec"]["egress"] for port in rule["ports"]]


def test_what_is_not_said_is_noted() -> None:
    """Whoever reads the permissions is told what an app did not say, and that it may not do it."""
    silent = App("silent")
    silent.service("payments")
    (process,) = processes([silent.freeze()], Settings(), together=False)
    found = permissions_of(process)
    assert "silent: it does not say which methods it calls, so it may call all of payments" in found.notes
    assert "silent: it may do nothing of what it does not say: App('silent', emits=[...], follows=[...])" in found.notes
    assert "payments.*" in found.publish
    assert "# silent: it may do nothing" in configuration([found])


def test_who_says_nothing_may_only_answer() -> None:
    """No list is ever empty, which nats-server would take for no limit; and none allows what is named as a reply subject."""
    (process,) = processes([App("quiet", calls=[], emits=[], follows=[]).freeze()], Settings(), together=False)
    found = permissions_of(process)
    assert found.publish == ["_INBOX.>"]
    assert "_INBOX.quiet.>" in found.subscribe
    assert "allow_responses" not in configuration([found])


def test_quotes_stay_in_their_string() -> None:
    """A subject may have quotes and backslashes; the file that nats-server reads is still what was meant."""
    (process,) = processes([App("odd", calls=[], emits=['a"b\\c']).freeze()], Settings(), together=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(variable("odd"), "x")
        patch.setenv(variable("deploy"), "y")
        text = configuration([permissions_of(process)])
        assert r'"events.a\"b\\c"' in text
        with NatsServer(text):
            pass


@pytest.mark.parametrize("renews", [True, False])
async def test_a_stream_outlasts_the_time_to_answer(monkeypatch: pytest.MonkeyPatch, renews: bool) -> None:
    """Permissions of another hand may let a request be answered only so long; who reads a stream renews that, or a long one is cut off."""
    app = App("long", calls=[], emits=[], follows=[])

    @app.rpc
    async def numbers() -> AsyncIterator[int]:
        for number in range(12):
            yield number
            await asyncio.sleep(0.2)

    monkeypatch.setattr(chunked, "RENEWED", 0.2 if renews else 60.0)
    (process,) = processes([app.freeze()], Settings(), together=False)
    for user in ("long", "deploy"):
        monkeypatch.setenv(variable(user), f"{user}-password")
    replies = 'allow_responses: { max: -1, expires: "1s" }'
    text = (
        configuration([permissions_of(process)]).replace('"_INBOX.>"', '"unused"').replace("subscribe:", f"{replies}\n        subscribe:")
    )
    assert text.count(replies) == 1
    with NatsServer(text, jetstream=True) as server:
        deploying = Settings(nats_url=server.url, nats_user="deploy", nats_password="deploy-password")
        bus = await connect(deploying, name="deploy")
        await provision(bus, [Needs(app.freeze(), deploying)])
        await bus.close()
        serving = deploying.changed(nats_user="long", nats_password="long-password")
        async with running(app, serving), connect_async(settings=deploying, timeout=30 if renews else 5) as client:
            got: list[int] = []
            with contextlib.nullcontext() if renews else pytest.raises(DeadlineExceeded):
                async for number in client.stream("long.numbers"):
                    got += [number]
    assert (got == list(range(12))) == renews


async def test_apps_in_one_process_all_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks what there is gets an answer of each, over their one connection."""
    apps = [App(f"part{number}", calls=[], emits=[], follows=[]) for number in range(3)]
    for one in apps:

        @one.rpc
        async def nothing() -> None: ...

    (process,) = processes([one.freeze() for one in apps], Settings(), together=True)
    for user in (process.name, "deploy"):
        monkeypatch.setenv(variable(user), f"{user}-password")
    with NatsServer(configuration([permissions_of(process)]), jetstream=True) as server:
        deploying = Settings(nats_url=server.url, nats_user="deploy", nats_password="deploy-password")
        bus = await connect(deploying, name="deploy")
        await provision(bus, [Needs(one.freeze(), deploying) for one in apps])
        await bus.close()
        serving = deploying.changed(nats_user=process.name, nats_password=f"{process.name}-password")
        async with running(apps, serving), connect_async(settings=deploying) as client:
            answers = await client.directory.ask("PING", patience=1.0)
    assert sorted(answer.name for answer in answers) == ["part0", "part1", "part2"]
