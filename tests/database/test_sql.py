"""SQL that a service writes itself."""

import asyncio
import enum
import logging
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import msgspec
import psycopg
import pytest

from cliffracer.database import create_missing
from cliffracer.errors import Internal, InvalidInput, SetupError
from tests.database.models import Colour, User, everything
from tests.database.support import Eye
from tests.support.waiting import eventually


class Point(msgspec.Struct):
    x: int
    y: float = 0.0
    tags: list[str] = msgspec.field(default_factory=list)


async def test_rows_as_structs_dicts_tuples_and_values(db):
    """The type asked for is the type had; columns are matched by name, in any order."""
    query = "select 2.5::numeric as y, 1 as x, '[\"a\"]'::jsonb as tags, 'unused' as other"
    assert await db.fetch(Point, query) == [Point(1, 2.5, ["a"])]
    assert await db.fetch(dict, query) == [{"y": Decimal("2.5"), "x": 1, "tags": ["a"], "other": "unused"}]
    assert await db.fetch(tuple, query) == [(Decimal("2.5"), 1, ["a"], "unused")]
    assert await db.fetch(query) == await db.fetch(dict, query)
    assert await db.fetch(float, query) == [2.5]
    assert await db.fetch_value("select '{\"a\": 1}'::json") == {"a": 1}
    assert await db.fetch_value(list[str], "select array['a', 'b']") == ["a", "b"]
    assert await db.fetch_one(int, "select 1 where false") is None


async def test_model_by_select_star(db):
    """A Model is read from its own columns."""
    await create_missing(db, [User])
    made = await db.repository(User).create(User(name="Ada", email="a@x"))
    assert await db.fetch(User, "select * from users where name = %s", "Ada") == [made]
    assert await db.fetch_one(User, "select * from users where name = %(name)s", name="Ada") == made


async def test_missing_column_is_named(db):
    """A query that does not give what the Struct needs is refused with the names."""
    with pytest.raises(SetupError, match="gives no x"):
        await db.fetch(Point, "select 1 as z")


async def test_parameters_of_many_types(db):
    """Dicts and Structs go as documents, everything else as what it is."""
    key = uuid4()
    assert await db.fetch_value(dict, "select %s", {"a": [1]}) == {"a": [1]}
    assert await db.fetch_value(Point, "select %s", Point(3)) == Point(3)
    assert await db.fetch_value(UUID, "select %s", key) == key
    assert await db.fetch_value(int, "select count(*) from unnest(%s::uuid[])", [key, key]) == 2
    assert await db.fetch_value(str, "select %s::text", "100% %s 'quoted'") == "100% %s 'quoted'"


async def test_a_member_of_an_enum_is_sent_as_what_a_model_keeps_of_it(db):
    """Its value, alone and in lists, of text and of numbers; it is never known by its name."""
    number = enum.Enum("number", {"SEVEN": 7}).SEVEN
    assert await db.fetch_value(bool, "select 'red' = %s and 'blue' = any(%s)", Colour.RED, [Colour.RED, Colour.BLUE])
    assert await db.fetch_value(int, "select %s::bigint + 1", number) == 8


async def test_unknown_types_come_as_text(db):
    """A type that we know nothing of is text, not bytes."""
    await db.execute("create type mood as enum ('sad', 'ok')")
    assert await db.fetch_value("select 'ok'::mood") == "ok"
    assert await db.fetch_value(enum.Enum("Mood", {"OK": "ok"}), "select 'ok'::mood")


async def test_execute_counts_rows(db):
    """The number of rows touched is returned."""
    await db.execute("create table t (a int)")
    assert await db.execute("insert into t select generate_series(1, 7)") == 7
    assert await db.execute("delete from t where a > %s", 5) == 2


async def test_two_statements_in_one_are_refused(db):
    """What an injection would append is not run, even where a service built its query by hand."""
    await db.execute("create table t (a int)")
    with pytest.raises(Internal):
        await db.execute("select 1; drop table t")
    with pytest.raises(Internal):
        await db.fetch("select %s; drop table t", 1)
    assert await db.fetch("select * from t") == []


async def test_composed_queries_are_taken(db):
    """psycopg.sql builds what no parameter can be."""
    from psycopg import sql

    query = sql.SQL("select {} from (select 5 as {}) s").format(sql.Identifier('a"b'), sql.Identifier('a"b'))
    assert await db.fetch_value(int, query) == 5


async def test_mistakes_are_told(db):
    """No query, and both kinds of parameters, are set-up errors."""
    for act in (lambda: db.fetch(int), lambda: db.fetch(int, 5), lambda: db.fetch("select %s", 1, name=2)):
        with pytest.raises(SetupError):
            await act()


async def test_error_tells_the_caller_nothing(db):
    """Neither the statement nor a value is in what the caller reads; the log has both."""
    for query, params, kind in (
        ("select * from nosuch where a = %s", ["secret"], Internal),
        ("select %s::int", ["secret"], InvalidInput),
        ("select 'secret'::int", [], InvalidInput),
        ("selec secret", [], Internal),
    ):
        with pytest.raises(kind) as caught:
            await db.fetch(query, *params)
        assert "secret" not in caught.value.message + str(caught.value.details)
        assert isinstance(caught.value.__cause__, psycopg.Error)


async def test_missing_table_has_a_cure(db):
    """The note says which command helps."""
    with pytest.raises(Internal) as caught:
        await db.fetch("select * from nosuch")
    assert "cliffracer db apply" in caught.value.__notes__[0]


async def test_stream_is_complete_and_in_order(db):
    """Rows come in order over several fetches, inside a transaction and outside of one."""
    query = "select g from generate_series(1, %s) g"
    assert [row async for row in db.stream(int, query, 1234, size=100)] == list(range(1, 1235))
    async with db.transaction() as transaction:
        assert [row async for row in transaction.stream(int, query, 5, size=5)] == [1, 2, 3, 4, 5]
        assert [row async for row in db.stream(int, query, 3)] == [1, 2, 3]


async def test_stream_makes_what_fetch_makes(db):
    """Structs, dicts, tuples and values come row by row as they come all at once, from composed queries too."""
    from psycopg import sql

    for kind in (Point, dict, tuple, int):
        query = "select g as x, 0.5 as y, '[]'::jsonb as tags from generate_series(1, %s) g"
        assert [row async for row in db.stream(kind, query, 7, size=3)] == await db.fetch(kind, query, 7)
    assert [row async for row in db.stream("select 1 as a, %(b)s as b", b=2, size=1)] == [{"a": 1, "b": 2}]
    composed = sql.SQL("select {} from (select 5 as {}) s").format(sql.Identifier("x"), sql.Identifier("x"))
    assert [row async for row in db.stream(Point, composed)] == [Point(5)]
    with pytest.raises(SetupError, match="gives no x"):
        assert [row async for row in db.stream(Point, "select 1 as z")]


async def test_stream_left_early_gives_its_connection_back(db, url):
    """A break closes the cursor and its transaction."""
    async for row in db.stream(int, "select g from generate_series(1, 100000) g", size=10):
        if row == 15:
            break
    await eventually(lambda: db.statistics()["used"] == 0)
    assert await Eye(url).in_transaction() == 0


async def test_stream_has_flat_memory(db):
    """Streaming two hundred thousand wide rows never holds many of them."""
    import tracemalloc

    tracemalloc.start()
    try:
        count = 0
        async for _ in db.stream(str, "select repeat('x', 1000) from generate_series(1, 30000)", size=200):
            count += 1
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 30_000
    assert peak < 3_000_000


@pytest.mark.parametrize(
    "text", ["begin", " -- now\n COMMIT;", "rollback to savepoint x", "/* x */savepoint x", "END", "start  transaction", "; -- \rcommit"]
)
async def test_statements_that_end_a_transaction_are_refused(db, text):
    """Half of a block would be kept that raises, or the next statement be one of another connection."""
    await db.execute("create table kept (x int)")

    async def half() -> None:
        async with db.transaction():
            await db.execute("insert into kept values (1)")
            await db.execute(text)

    with pytest.raises(SetupError, match=r"async with db\.transaction"):
        await half()
    assert await db.fetch_value(int, "select count(*) from kept") == 0
    assert await db.fetch_value(str, "select 'begin'") == "begin"


async def test_copy_in_and_out(db):
    """Text goes in by chunks and comes out by chunks; with types, rows go in as they are."""
    await db.execute("create table t (a int, b text)")
    assert await db.copy_in("copy t from stdin", [b"1\tx\n2\t", b"y\n"]) == 2
    assert await db.copy_in("copy t from stdin (format binary)", [(3, "z"), (4, None)], types=["int4", "text"]) == 2
    out = b"".join([chunk async for chunk in db.copy_out("copy (select * from t order by a) to stdout")])
    assert out == b"1\tx\n2\ty\n3\tz\n4\t\\N\n"


async def test_copy_out_is_whole_and_may_be_left(db):
    """Every byte arrives, in large chunks; one that is left early or fails costs no connection."""
    query = "copy (select g, repeat('x', 100) from generate_series(1, 20000) g) to stdout"
    chunks = [chunk async for chunk in db.copy_out(query)]
    assert b"".join(chunks) == b"".join(b"%d\t%s\n" % (number, b"x" * 100) for number in range(1, 20_001))
    assert len(chunks) < 50
    assert [chunk async for chunk in db.copy_out("copy (select 1 where false) to stdout")] == []
    async for _ in db.copy_out(query):
        break
    for wrong in ("copy nosuch to stdout", "select 1"):
        with pytest.raises(Internal):
            assert [chunk async for chunk in db.copy_out(wrong)]
    async with db.transaction():
        with pytest.raises(Internal):
            async with db.transaction():
                assert [chunk async for chunk in db.copy_out("copy nosuch to stdout")]
        assert len([chunk async for chunk in db.copy_out("copy (select 1) to stdout")]) == 1
    await eventually(lambda: db.statistics()["used"] == 0)


async def test_copy_out_that_is_left_costs_no_connection(db):
    """Whoever closes a download in the middle: its connection is free again at once, not held for seconds and then lost."""
    for _ in range(5):
        async for _ in db.copy_out("copy (select generate_series(1, 200000)) to stdout"):
            break
    await eventually(lambda: db.statistics()["used"] == 0)
    assert db.statistics()["lost_total"] == 0


async def test_cancelled_copy_leaves_nothing(db):
    """A COPY whose task is cancelled stores nothing and costs no connection."""
    await db.execute("create table t (a int)")

    def rows() -> Any:
        yield b"1\n"
        task.cancel()
        for _ in range(100_000):
            yield b"2\n" * 100

    task = asyncio.create_task(db.copy_in("copy t from stdin", rows()))
    with pytest.raises(asyncio.CancelledError):
        await task
    await eventually(lambda: db.statistics()["used"] == 0)
    assert db.statistics()["lost_total"] == 0
    assert await db.fetch_value(int, "select count(*) from t") == 0


async def test_listen_hears_what_others_tell(db, url):
    """Notifications arrive, also after the connection for them was lost."""
    heard: list[str] = []

    async def listen() -> None:
        async for payload in db.listen("odd channel"):
            heard.append(payload)  # noqa: PERF401 - it never ends

    task = asyncio.create_task(listen())
    eye = Eye(url)

    async def told(word: str) -> bool:
        await eye.ask("select pg_notify('odd channel', %s)", word)
        return word in heard

    try:
        await eventually(lambda: told("one"))
        await eye.ask("select pg_terminate_backend(pid) from pg_stat_activity where query like 'LISTEN%'")
        await eventually(lambda: told("two"))
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_listening_says_once_that_the_server_is_away(db, url, monkeypatch, caplog):
    """However often it is tried, until it is there again."""
    connect, tries = db.pool.connect, 0

    async def failing():
        nonlocal tries
        tries += 1
        if tries in {1, 2, 3, 5}:
            raise OSError("nobody there")
        return await connect()

    monkeypatch.setattr(db.pool, "connect", failing)

    async def listen() -> None:
        async for _ in db.listen("news"):
            pass

    caplog.set_level(logging.INFO, "cliffracer")
    task, eye = asyncio.create_task(listen()), Eye(url)
    try:
        for times in (4, 6):
            await eventually(lambda times=times: tries == times)
            await eventually(lambda: eye.ask("select pg_terminate_backend(pid) from pg_stat_activity where query like 'LISTEN%'"))
        await eventually(lambda: tries == 7)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    said = [line for line in caplog.messages if "listening on news is interrupted" in line]
    assert len(said) == 3  # at first, and at each loss; not for each try
    assert said[0].endswith("nobody there")
    assert caplog.messages.count("listening on news goes on") >= 2  # after each of them, unless the test ends before


async def test_create_many_of_any_size(db):
    """None, one, a few and many rows are stored whole."""
    from tests.database.models import Everything

    await create_missing(db, [Everything])
    things = db.repository(Everything)
    total = 0
    for size in (0, 1, 7, 8, 500):
        rows = [everything(number=number, extra={"n": [number]}, nothing="x" if number % 2 else None) for number in range(size)]
        assert await things.create_many(rows) == rows
        total += size
        assert await things.find(id__in=[row.id for row in rows], order_by="number") == rows
    assert await things.count() == total


@pytest.mark.parametrize("size", [5, 100])
async def test_create_many_says_which_row(db, size):
    """Whatever is wrong with one row, nothing is stored and the error has its index, by INSERT and by COPY."""
    await create_missing(db, [User])
    users = db.repository(User)
    for wrong in ({"email": "u0@x"}, {"name": ""}, {"name": None}, {"name": "a\0b"}, {"age": 2**70}):
        rows = [User(name="x", email=f"u{number}@x") for number in range(size)]
        for field, value in wrong.items():
            setattr(rows[3], field, value)
        with pytest.raises(Exception) as caught:
            await users.create_many(rows)
        assert caught.value.details["index"] == 3, wrong
        assert await users.count() == 0


@pytest.mark.parametrize(
    "text",
    [
        "set statement_timeout to 1",
        " SET application_name TO 'somebody'",
        "set role pg_monitor",
        "-- who asks\n/* and\nwhy */ set role pg_monitor",
        "do $$ begin if true then set role pg_monitor; end if; end $$",
        "create temp table left_over (a int)",
        "select set_config('application_name', 'somebody', false)",
        "select pg_advisory_lock(7)",
        "listen news",
    ],
)
async def test_what_a_call_sets_for_its_session_is_gone_for_the_next(db, text):
    """The connection comes back as new: settings, roles, temporary tables and locks are nobody else's."""
    look = """
        select current_setting('statement_timeout'), current_setting('application_name'), current_user, to_regclass('left_over')::text,
               (select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()),
               array(select pg_listening_channels()), current_setting('timezone')
    """
    db.linting = False
    before = await db.fetch_one(tuple, look)
    await db.execute(text)
    await eventually(lambda: db.statistics()["used"] == 0)
    assert await db.fetch_one(tuple, look) == before
    assert db.statistics()["lost_total"] == 0


async def test_what_a_transaction_sets_for_itself_costs_nothing(db):
    """SET LOCAL ends with its transaction, and the connection is given back as it is."""
    async with db.transaction():
        await db.execute("set local application_name to 'somebody'")
        link = db.joined().link
        assert not link._altered
    assert link.clean()
    await db.execute("create table counted (a int)")
    await db.execute("update counted set a = 1")
    assert link.clean()


async def test_value_that_cannot_be_read_is_a_defect_of_what_is_stored(db):
    """Nobody who calls has sent it, so it is no InvalidInput."""
    with pytest.raises(Internal) as caught:
        await db.fetch(datetime, "select 'infinity'::timestamptz")
    assert "a stored value does not fit its type" in str(caught.value)


async def test_query_and_parameters_that_do_not_fit_are_explained(db):
    """The note, which stays in the log, says how many there are and how a percent sign is written."""
    with pytest.raises(Internal) as caught:
        await db.fetch("select %s::int")
    assert "a %s in it got no parameter" in caught.value.__notes__[0]
    for query, given in (("select 1", (5,)), ("select 5 % 2, %s::int", (5,))):
        with pytest.raises(Internal) as caught:
            await db.fetch(query, *given)
        assert "Each %s takes one parameter; a percent sign is written %%" in " ".join(caught.value.__notes__), query


async def test_what_psycopg_tells_while_it_cleans_up_has_no_values(db, caplog):
    """Rows that cannot be made after one that the server has refused: of its refusal the log has the kind, not the key."""
    await create_missing(db, [User])
    users = db.repository(User)
    await users.create(User(name="Ada", email="ada@example.org"))

    rows = [User(name="x", email=f"u{number}@x") for number in range(50_000)]
    rows[0].email, rows[-1].age = "ada@example.org", 2**70
    with caplog.at_level(logging.DEBUG), pytest.raises(InvalidInput):
        await users.create_many(rows)
    assert "error ignored" in caplog.text
    assert "UniqueViolation 23505" in caplog.text
    assert "ada@example.org" not in caplog.text


async def test_parameters_of_the_other_kind_are_no_input_of_a_caller(db):
    """Values in one dict, as psycopg takes them, or names for ``%s``: it is the service's mistake, and says what to write."""
    for wrong in (lambda: db.fetch("select %(a)s", {"a": 1}), lambda: db.fetch("select %s", a=1)):
        with pytest.raises(Internal) as caught:
            await wrong()
        assert "fetch(query, **values); for %s, fetch(query, value)" in caught.value.__notes__[0]
