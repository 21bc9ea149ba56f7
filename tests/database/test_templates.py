"""Fresh databases for tests."""

import contextlib
from urllib.parse import urlsplit

import psycopg
import pytest

from cliffracer.database import Database
from cliffracer.database.clones import Clones
from cliffracer.database.templates import cloned, with_database
from cliffracer.errors import SetupError, Unavailable
from tests.support.postgres import server
from tests.support.waiting import eventually


def copies(url: str) -> set[str]:
    """Return the names of the copies of a database."""
    name = urlsplit(url).path.lstrip("/")
    with psycopg.connect(with_database(url, "postgres"), autocommit=True) as connection:
        return {found for (found,) in connection.execute("select datname from pg_database").fetchall() if found.startswith(f"{name}_")}


async def test_copy_has_what_the_template_has_and_leaves_no_trace(url):
    """Tables and rows are there, changes stay in the copy, and the copy is gone afterwards."""
    async with Database.open(url) as db:
        await db.execute("create table t as select 1 as a")
    async with cloned(url) as copy, Database.open(copy) as db:
        assert await db.execute("insert into t values (2)") == 1
    assert copies(url) == set()
    async with Database.open(url) as db:
        assert await db.fetch(int, "select a from t") == [1]


async def test_each_clone_is_a_copy_of_its_own(url):
    """Each is its own; at the end all of them are gone, given back or not."""
    with Clones(url, ahead=2) as clones:
        taken = [clones.take() for _ in range(3)]
        assert len(set(taken)) == 3
        clones.give(taken[0])
        async with Database.open(taken[1]) as db:
            assert await db.fetch_value(int, "select 1") == 1
    assert copies(url) == set()


async def test_purpose_that_comes_again_has_its_databases_prepared(url):
    """What three tests want is prepared once, in the background, and copied from then on."""
    prepared: list[str] = []

    def prepare(place: str) -> None:
        prepared.append(place)
        with psycopg.connect(place, autocommit=True) as connection:
            connection.execute("create table t as select 7 as a")

    async def has_table(place: str) -> bool:
        async with Database.open(place) as db:
            return await db.fetch_value(bool, "select to_regclass('t') is not null")

    with Clones(url) as clones:
        for _ in range(2):
            assert not await has_table(clones.take("p", prepare))
        await eventually(lambda: len(clones._ready["p"]) == 2)
        for _ in range(3):
            await eventually(lambda: clones._ready["p"])
            assert await has_table(clones.take("p", prepare))
        assert not await has_table(clones.take())
        assert len(prepared) == 1
    assert copies(url) == set()


def prepared_things(place: str) -> None:
    with psycopg.connect(place, autocommit=True) as connection:
        connection.execute("create table things (id bigint generated always as identity primary key, name text unique)")
        connection.execute("create table parts (thing bigint references things)")


def counted(place: str) -> tuple[int, int, int]:
    """Return how many things and parts there are, and the id of a new thing, which is there then."""
    with psycopg.connect(place, autocommit=True) as connection:
        counts = connection.execute("select (select count(*) from things), (select count(*) from parts)").fetchone()
        (number,) = connection.execute("insert into things (name) values ('x') returning id").fetchone()
        connection.execute("insert into parts values (%s)", [number])
        return (*counts, number)


CHANGES = """
    alter table things add other int; create index on things (name); create schema other; create view v as select 1;
    create function f() returns int language sql as 'select 1'; alter table things alter name set default 'x';
    alter table things enable row level security; comment on table things is 'x'; revoke usage on schema public from public
"""


@pytest.mark.parametrize("change", ["", *(change.strip() for change in CHANGES.split(";"))])
async def test_database_is_given_out_again_only_as_it_was(postgres, change):
    """Rows and counters that a test left are gone; a database of which anything else was changed is not used again."""
    with Clones(postgres.url(), template="template1", prefix="again") as clones:
        for _ in range(2):
            clones.give(clones.take("p", prepared_things))
        await eventually(lambda: len(clones._ready["p"]) == 2)
        first = clones.take("p", prepared_things)
        assert counted(first) == (0, 0, 1)
        if change:
            with psycopg.connect(first, autocommit=True) as connection:
                connection.execute(change)
        clones.give(first)
        name = urlsplit(first).path[1:]
        await eventually(lambda: name in clones._ready["p"] or name not in clones._made)
        assert (name not in clones._made) is bool(change)
        if not change:
            again = [clones.take("p", prepared_things) for _ in range(2)]
            assert first in again
            assert {counted(each) for each in again} == {(0, 0, 1)}


async def test_plain_database_is_given_out_again_as_an_empty_one(postgres):
    """Whatever was made in the schema public is gone; with anything elsewhere the database is dropped."""
    with Clones(postgres.url(), template="template1", prefix="plain") as clones:
        await eventually(lambda: len(clones._ready[""]) == 2)
        first, second = clones.take(), clones.take()
        with psycopg.connect(second, autocommit=True) as connection:
            fresh = connection.execute("select nspacl, nspowner::regrole from pg_namespace where nspname = 'public'").fetchall()
            connection.execute("create schema other")
        with psycopg.connect(first, autocommit=True) as connection:
            connection.execute("create table t (a int); create type mood as enum ('sad'); create extension vector; create sequence s")
            connection.execute("create function f() returns int language sql as 'select 1'")
        clones.give(first)
        clones.give(second)
        await eventually(lambda: urlsplit(first).path[1:] in clones._ready[""])
        await eventually(lambda: urlsplit(second).path[1:] not in clones._made)
        with psycopg.connect(first, autocommit=True) as connection:
            assert connection.execute("select nspacl, nspowner::regrole from pg_namespace where nspname = 'public'").fetchall() == fresh
            assert connection.execute("select to_regclass('t'), to_regtype('mood'), to_regproc('f')").fetchone() == (None, None, None)
            assert connection.execute("select count(*) from pg_extension where extname = 'vector'").fetchone() == (0,)


async def test_clean_databases_are_kept_for_the_next_run(postgres):
    """At the end some stay under other names; the next run gives them out, empty, and makes none for its first test."""

    def databases() -> dict[int, str]:
        with psycopg.connect(postgres.url(), autocommit=True) as connection:
            return dict(connection.execute("select oid, datname from pg_database where datname like 'spare%'").fetchall())

    with Clones(postgres.url(), template="template1", prefix="spare", keep=2) as clones:
        await eventually(lambda: len(clones._ready[""]) == 2)
        taken = clones.take()
        with psycopg.connect(taken, autocommit=True) as connection:
            connection.execute("create table t (a int)")
        clones.give(taken)
    kept = databases()
    assert len(kept) == 2
    assert all(name.startswith("spare_kept_") for name in kept.values())
    with Clones(postgres.url(), template="template1", prefix="spare", keep=2) as first:
        for _ in range(2):
            with psycopg.connect(first.take(), autocommit=True) as connection:
                query = "select oid, to_regclass('t') from pg_database where datname = current_database()"
                oid, table = connection.execute(query).fetchone()
                assert oid in kept
                assert table is None
    assert databases() == {}


async def test_purpose_that_cannot_be_prepared_gets_plain_copies(url):
    """The test that fails to prepare its own says why; the others go on."""

    def prepare(_: str) -> None:
        raise ZeroDivisionError

    with Clones(url) as clones:
        assert len({clones.take("p", prepare) for _ in range(6)}) == 6


async def test_what_a_killed_process_left_is_dropped(url):
    """Databases of a process that lives are left alone, those of one that died are not."""
    name = urlsplit(url).path.lstrip("/")
    with psycopg.connect(with_database(url, "postgres"), autocommit=True) as connection:
        for left in (f"{name}_00000000beef_1", f"{name}_other"):
            connection.execute(psycopg.sql.SQL("create database {}").format(psycopg.sql.Identifier(left)))
        with Clones(url) as first, Clones(url) as second:
            taken = {first.take(), second.take()}
            await eventually(lambda: f"{name}_00000000beef_1" not in copies(url))
            assert {urlsplit(each).path.lstrip("/") for each in taken} <= copies(url)
        assert copies(url) == {f"{name}_other"}
        connection.execute(psycopg.sql.SQL("drop database {}").format(psycopg.sql.Identifier(f"{name}_other")))


async def test_databases_that_were_dropped_meanwhile_are_made_anew():
    """A server that stops takes the lock of clones with it; when another one has dropped all as left behind, nothing lost is given out."""
    prepared = []

    def prepare(place: str) -> None:
        prepared.append(place)
        with psycopg.connect(place, autocommit=True) as inside:
            inside.execute("create table kept (id int)")

    with server() as own, Clones(own.url(), template="template1", prefix="lost") as first:
        for _ in range(4):
            first.take("p", prepare)
        await eventually(lambda: first._ready["p"] and not first._maker.pending)  # nothing has it look by itself
        own.stop()
        own.start()
        with Clones(own.url(), template="template1", prefix="lost") as second:
            with psycopg.connect(own.url(), autocommit=True) as connection:
                await eventually(lambda: not connection.execute("select 1 from pg_database where datname ~ %s", [first._token]).fetchall())
            first._maker.did = 0.0  # as if it had done nothing for a while
            for _ in range(6):
                async with Database.open(first.take("p", prepare)) as db:
                    assert await db.fetch_value(int, "select 1") == 1
            second.take()
        assert len(prepared) == 2


async def test_clones_outlive_a_restart_of_their_server():
    """A server that was away is used again, without anything else to do."""
    with server() as own, Clones(own.url(), template="template1") as clones:
        clones.take()
        own.stop()
        with contextlib.suppress(SetupError):
            for _ in range(5):
                clones.take(within=2.0)
        own.start()

        async def works() -> bool:
            try:
                async with Database.open(clones.take(within=2.0)) as db:
                    return await db.fetch_value(int, "select 1") == 1
            except (SetupError, Unavailable):
                return False

        await eventually(works, within=20)


def test_what_cannot_be_copied_is_told(url):
    """A template that is not there, or has no name that can be one, is a set-up error."""
    with Clones(url, template="nosuch") as clones, pytest.raises(SetupError, match="nosuch"):
        clones.take()
    with pytest.raises(SetupError, match="template"):
        Clones(url, template="a b")


def test_addresses():
    """The name is replaced in addresses with and without host and options."""
    assert with_database("postgresql://u:p@h:1/a?x=1", "b") == "postgresql://u:p@h:1/b?x=1"
    assert with_database("postgresql://u@/a?host=/tmp", "b") == "postgresql://u@/b?host=/tmp"
    assert with_database("postgresql://h", "b") == "postgresql://h/b"
