"""The database in an app: repositories and transactions provided, events coupled to commits, effects once."""

import asyncio
import secrets
from typing import Annotated
from uuid import UUID

import msgspec
import pytest
from loguru import logger
from psycopg import sql

from cliffracer import (
    App,
    Conflict,
    Database,
    Event,
    Internal,
    InvalidInput,
    Model,
    NotFound,
    Rejected,
    Repository,
    ServiceError,
    SetupError,
    Transaction,
    Unique,
)
from cliffracer.testing import running
from cliffracer.wire.headers import encode_headers
from tests.support.waiting import eventually

pytestmark = pytest.mark.both_transports


class User(Model):
    __tablename__ = "users"
    name: Annotated[str, msgspec.Meta(min_length=1)]
    email: Annotated[str, Unique()]


ROW = UUID("0198f3b4-6d2a-7c31-9c77-2d2f4f0e6a11")


class Mailer:
    """What a provider makes."""


def make() -> App:
    app = App("users")

    @app.rpc
    @app.post("/users", status=201)
    async def create(name: str, email: str, *, users: Repository[User]) -> User:
        return await users.create(User(name=name, email=email))

    @app.rpc
    async def create_and_tell(name: str, fail: bool = False, *, tx: Transaction, users: Repository[User]) -> int:
        await users.create(User(name=name, email=name))
        await app.emit("user.created", {"name": name})
        if fail:
            raise Conflict("changed my mind")
        return await tx.fetch_value(int, "select count(*)::int from users") or 0

    @app.get("/users/{user_id}")
    async def get(user_id: UUID, *, users: Repository[User]) -> User:
        return await users.get(user_id)

    @app.rpc
    async def count(*, db: Database) -> int:
        return await db.fetch_value(int, "select count(*)::int from users") or 0

    return app


async def test_a_service_stores_and_finds():
    """What RPC creates, HTTP reads; a missing row is a 404, a taken name a 409."""
    async with running(make()) as t:
        user = await t.call("create", name="Ada", email="a@x")
        assert (await t.http.get(f"/users/{user['id']}")).json() == user
        assert (await t.http.get("/users/0190e3f0-0000-7000-8000-000000000000")).status_code == 404
        taken = await t.http.post("/users", json={"name": "Eve", "email": "a@x"})
        assert (taken.status_code, taken.json()["field"]) == (409, "email")
        with pytest.raises(Conflict, match="email"):
            await t.call("create", name="Eve", email="a@x")
        assert (await t.http.get("/health/detailed")).json()["database"] == "connected"


async def test_an_event_is_emitted_if_and_only_if_its_transaction_commits():
    """A rolled back handler emits nothing and stores nothing."""
    async with running(make()) as t:
        assert await t.call("create_and_tell", name="Ada") == 1
        with pytest.raises(Conflict):
            await t.call("create_and_tell", name="Bob", fail=True)
        assert await t.call("count") == 1
        await t.settled()
        assert [event.data["name"] for event in t.emitted("user.created")] == ["Ada"]


async def test_what_is_not_kept_is_sent_at_once_in_a_transaction_too():
    """It is part of nothing that could be rolled back: who listens now has it."""
    app = App("s")

    @app.rpc
    async def go(*, tx: Transaction) -> None:
        await app.emit("kept", 1)
        await app.emit("said", 2, durable=False)
        raise Conflict("rolled back")

    async with running(app) as t:
        with pytest.raises(Conflict):
            await t.call("go")
        await t.settled()
        assert [(event.subject, event.data) for event in t.emitted()] == [("said", 2)]


async def test_a_delayed_event_of_a_transaction_can_be_taken_back_after_the_commit():
    """Before, nobody knows of it; a moment after, the relay has put it off, and it can be taken back by its id."""
    app, within = App("s"), []

    @app.rpc
    async def later(*, tx: Transaction) -> str:
        event_id = await app.emit("reminder", 1, delay="1h")
        within.append(await app.cancel(event_id))
        return event_id

    async with running(app) as t:
        event_id = await t.call("later")
        async with asyncio.timeout(20):
            while not await app.cancel(event_id):  # noqa: ASYNC110 - it is the relay's to say, in no words
                await asyncio.sleep(0.02)
        assert await app.cancel(event_id) is False
    assert within == [False]


async def test_the_effect_of_an_event_is_had_once_with_once():
    """A redelivered event whose handler had committed is not handled again."""
    app = App("s")

    @app.on("paid", once=True, retry=[0, 0])
    async def book(amount: int, *, users: Repository[User], event: Event) -> None:
        await users.create(User(name=str(amount), email=f"{event.id} {event.attempt}"))
        if event.attempt == 1:
            raise NotFound("after the row was written: it is rolled back")

    @app.rpc
    async def names(*, users: Repository[User]) -> list[str]:
        return [user.email for user in await users.find()]

    async with running(app) as t:
        await t.emit("paid", 5, id="one")
        await t.settled()
        assert await t.call("names") == ["one 2"]


async def test_the_effect_of_each_event_of_a_batch_is_had_once_with_once():
    """A batch that fails leaves nothing, one that rejects some leaves the others, and what was handled before is not among them."""
    app, batches = App("s"), []

    @app.on("paid", once=True, batch=4, within=0.5, retry=[0.1, 0.1])
    async def book(amounts: list[int], *, users: Repository[User]) -> None:
        batches.append(amounts)
        for amount in amounts:
            if amount != 3 or len(batches) > 2:
                await users.create(User(name="x", email=str(amount)))
        if len(batches) == 1:
            raise NotFound("after the rows were written: they are rolled back")
        if len(batches) == 2:
            raise Rejected({amounts.index(3): "not yet"})

    @app.rpc
    async def booked(*, users: Repository[User]) -> list[int]:
        return sorted(int(user.email) for user in await users.find())

    async with running(app) as t:
        subject = t.up.services[0].subjects.event("paid").encode()
        for amount, number in ((1, "a"), (2, "b"), (3, "c"), (1, "a")):
            t.up.bus.publish(subject, str(amount).encode(), encode_headers({"ce-id": number}))
        await t.settled()
        assert batches == [[1, 2, 3], [1, 2, 3], [3]]
        t.up.bus.publish(subject, b"2", encode_headers({"ce-id": "b"}))
        t.up.bus.publish(subject, b"5", encode_headers({"ce-id": "e"}))
        await t.settled()
        assert (batches[3:], await t.call("booked")) == ([[5]], [1, 2, 3, 5])


@pytest.mark.parametrize("batch", [None, 4])
async def test_an_event_whose_id_no_database_takes_is_handled_once_too(batch):
    """Whoever may emit writes its id: it neither parks the event, nor with it all that are in the batch."""
    app, got = App("s"), []

    async def book(amounts):
        got.extend(amounts if batch else [amounts])

    book.__annotations__["amounts"] = list[int] if batch else int
    app.on("paid", once=True, batch=batch)(book)
    long = secrets.token_hex(5000).encode()
    async with running(app) as t:
        subject = t.up.services[0].subjects.event("paid").encode()
        for events in (((1, b"a\0b"), (2, long), (3, b"fine"), (4, b"a\xff\xed\xa0\x80")), ((1, b"a\0b"), (2, long))):
            for amount, event_id in events:
                t.up.bus.publish(subject, b"%d" % amount, b"NATS/1.0\r\nce-id: %b\r\n\r\n" % event_id)
            await t.settled()
        assert (sorted(got), await t.parked()) == ([1, 2, 3, 4], [])


@pytest.mark.parametrize(
    ("size", "options", "error"),
    [
        (1, {"id": "x" * 501, "delay": 60}, "the id of an event takes 500 bytes at most, not 501"),
        (1, {"key": "é" * 251}, "the key of an event takes 500 bytes at most, not 502"),
        (1, {"id": " x"}, "no control characters, line breaks, or blanks around them"),
        (70_000, {}, "the payload takes 70002 bytes; NATS_MAX_MESSAGE is 70000"),
        (70_000, None, "the payload takes 70011 bytes; NATS_MAX_MESSAGE is 70000"),
    ],
)
async def test_what_could_never_be_sent_is_refused_before_the_transaction_ends(size, options, error):
    """Whoever relays the outbox could only park it; ``None`` is a one-way call."""
    app = App("s")

    @app.rpc
    async def tell(size: int, options: dict | None, *, tx: Transaction) -> None:
        if options is None:
            await app.service("s").send.tell(size="x" * size)
        else:
            await app.emit("a", "x" * size, **options)

    async with running(app, nats_max_message=70_000) as t:
        with pytest.raises(ServiceError, match=error):
            await t.call("tell", size, options)


async def test_an_id_and_a_key_may_be_what_prints_as_one():
    """In a transaction as outside: most have the id of a row at hand, and 0 is one."""
    app, seen = App("s"), []

    @app.rpc
    async def tell(*, db: Database) -> list[str]:
        outside = await app.emit("a", 1, id=ROW, key=0)
        async with db.transaction():
            return [outside, await app.emit("a", 2, id=7, key=ROW)]

    @app.on("a")
    async def heard(_: int, *, event: Event) -> None:
        seen.append((event.id, event.headers["ce-partitionkey"]))

    async with running(app) as t:
        assert await t.call("tell") == [str(ROW), "7"]
        await t.settled()
    assert sorted(seen) == [(str(ROW), "0"), ("7", str(ROW))]


async def test_a_repository_of_the_app_works_while_it_runs():
    """`app.repository(Model)` is for code that is not provided with one."""
    app = App("s")
    users = app.repository(User)

    @app.rpc
    async def add(name: str) -> str:
        return (await users.create(User(name=name, email=name))).name

    async with running(app) as t:
        assert await t.call("add", name="Ada") == "Ada"
        assert await users.count() == 1
    with pytest.raises(SetupError, match="is not running"):
        await users.count()


async def test_a_test_has_the_repository_of_a_model_that_a_handler_asks_for():
    """Nothing is declared by that; a model that nobody asked for before the start has no table, and is refused."""
    app = App("s")

    class Stranger(Model):
        name: str

    @app.rpc
    async def add(name: str, *, users: Repository[User]) -> None:
        await users.create(User(name=name, email=name))

    async with running(app) as t:
        await t.call("add", name="Ada")
        assert (await app.repository(User).get(name="Ada")).email == "Ada"
        assert await app.repository(User).count() == 1
        with pytest.raises(SetupError, match="nothing can be declared on it any more"):
            app.repository(Stranger)


async def test_what_is_refused_is_whole_in_the_log_and_not_at_the_caller():
    """The log has an id, the statement and the server's words, but no values, also none composed into it; the caller the id alone."""
    app, logged = App("s"), []

    @app.rpc
    async def wrong(mail: str, *, db: Database, users: Repository[User]) -> int:
        return await db.fetch_value(int, "select count(*) from users where mail = %s", mail) or 0

    @app.get("/composed")
    async def composed(*, db: Database) -> int:
        text = sql.SQL("select 1 from {} where name = {}").format(sql.Identifier("nobodys"), "private")
        return await db.fetch_value(int, text) or 0

    async with running(app) as t:
        watching = logger.add(lambda line: logged.append(line.record), level="ERROR")
        try:
            with pytest.raises(Internal) as caught:
                await t.call("wrong", mail="private")
            answer = (await t.http.get("/composed")).json()
        finally:
            logger.remove(watching)
    assert (str(caught.value), set(caught.value.details)) == ("Internal Error", {"error_id"})
    assert answer["detail"] == "Internal Error"
    first, second = logged
    assert [line["extra"]["error_id"] for line in logged] == [caught.value.error_id, answer["error_id"]]
    assert ' failed: column "mail" does not exist; see cliffracer db plan' in first["message"]
    assert first["extra"]["statement"] == "select count(*) from users where mail = %s"
    assert ' failed: relation "nobodys" does not exist; see cliffracer db plan' in second["message"]
    assert second["extra"]["statement"] == 'select 1 from "nobodys" where name = …'
    assert "private" not in f"{first['extra']} {first['message']} {second['extra']} {second['message']}"


@pytest.mark.parametrize("what", ["provider", "hook"])
async def test_a_statement_that_is_refused_at_start_is_told_with_the_servers_words(what):
    """A provider or a hook that asks for what is not there ends the start as one with any other mistake does."""
    app = App("s")

    async def broken(*, db: Database) -> Mailer:
        await db.execute("select mail from nobodys where name = %s", "private")
        return Mailer()

    app.provide(broken) if what == "provider" else app.on_startup(broken)
    with pytest.raises(SetupError) as caught:
        async with running(app):
            pass
    told = str(caught.value)
    assert ' failed at start: relation "nobodys" does not exist; see cliffracer db plan' in told
    assert "\n  select mail from nobodys where name = %s\n" in told
    assert 'await db.execute("select mail' in told


async def test_two_tests_have_databases_of_their_own():
    """What one test stores, the next does not see."""
    for _ in range(2):
        async with running(make()) as t:
            assert await t.call("count") == 0
            await t.call("create", name="Ada", email="a@x")


async def test_what_the_database_refuses_is_the_callers_fault():
    """A row that breaks a rule of its model is `InvalidInput`."""
    async with running(make()) as t:
        with pytest.raises(InvalidInput):
            await t.call("create", name="", email="a@x")


async def test_pool_and_outbox_are_seen_from_outside():
    """Health and metrics have the figures of the pool, and how far publishing is behind; when it cannot be asked, that is left out."""
    app = make()
    async with running(app, database_pool_max=7) as t:
        await t.call("create_and_tell", name="Ada")
        await t.settled()
        detailed = (await t.http.get("/health/detailed")).json()
        assert (detailed["database"], detailed["pool"]["max"], detailed["outbox"]["pending"]) == ("connected", 7, 0)
        assert detailed["pool"]["taken_total"] > 0
        figures = (await t.http.get("/metrics")).text
        assert "cliffracer_database_connections_max 7" in figures
        assert "# TYPE cliffracer_outbox_pending gauge" in figures
        assert "cliffracer_outbox_published_total 1" in figures
        (database,) = app.databases
        await database.execute("drop table cliffracer_outbox")
        t.up.health.figures.__self__._asked = 0.0
        detailed = (await t.http.get("/health/detailed")).json()
        assert "outbox" not in detailed
        assert detailed["pool"]["max"] == 7


async def test_an_event_that_no_server_can_delay_is_refused_before_the_transaction_ends():
    """Afterwards nobody would be there to be told; nothing of it is stored."""
    app = App("users")

    @app.rpc
    async def remind(*, tx: Transaction) -> None:
        await app.emit("user.reminded", 1, delay="1h")

    async with running(app) as t:
        t.up.bus.info = {**t.up.bus.info, "version": "2.11.4"}
        with pytest.raises(Internal):
            await t.call("remind")
        with pytest.raises(SetupError, match=r"delay= and at= need nats-server 2\.12.*this one is 2\.11\.4"):
            await app.emit("user.reminded", 1, delay="1h")
        await t.settled()


async def test_a_busy_database_is_no_reason_to_be_sent_no_work():
    """With every connection in use the service stays ready, as long as they come back; one that holds all of them is stuck."""
    app = make()
    async with running(app, database_pool_max=2) as t:
        (database,) = app.databases
        free, holding = asyncio.Event(), []

        async def hold() -> None:
            async with database.transaction() as transaction:
                holding.append(transaction)
                await free.wait()

        async def reasons() -> list[str]:
            return (await t.http.get("/health/ready")).json()["reasons"]

        t.up.health.within = 0.2
        holders = [asyncio.create_task(hold()) for _ in range(2)]
        await eventually(lambda: len(holding) == 2)
        database.pool._answered = asyncio.get_running_loop().time() + 60
        assert await reasons() == []
        database.pool._answered -= 600
        assert await reasons() == ["database: no answer within 0.2 s"]
        free.set()
        await asyncio.gather(*holders)
        assert await reasons() == []


async def test_a_tests_database_has_the_migrations_of_the_project(tmp_path, monkeypatch):
    """What `migrations/` makes is there, rows that it puts in included, and so are tables that no migration makes yet; each time anew."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "migrations").mkdir()
    text = "create table colours (name text primary key); insert into colours values ('red'); create table more (a int);"
    (tmp_path / "migrations" / "0001_colours.sql").write_text(text)
    app = make()

    @app.rpc
    async def colours(*, db: Database) -> list[str]:
        found = await db.fetch(str, "select name from colours")
        await db.execute("delete from colours")
        return found

    for _ in range(4):
        async with running(app) as t:
            assert await t.call("colours") == ["red"]
            assert await t.call("count") == 0
            await t.call("create", name="Ada", email="a@x")
