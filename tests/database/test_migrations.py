"""Migrations: planned from the models, applied once, never edited."""

import asyncio
from datetime import datetime
from pathlib import Path
from typing import Annotated

import pytest
from msgspec import Meta

from cliffracer.database import Database, Index, Model, Search, Unique, create_missing
from cliffracer.database.difference import plan, write
from cliffracer.database.migrations import apply, read, status
from cliffracer.database.splitting import statements
from cliffracer.errors import SetupError
from tests.database.models import Document, Everything, Order, User


def put(folder: Path, name: str, text: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.sql").write_text(text)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "migrations"


async def test_files_are_applied_in_order_and_once(db, folder):
    """Numbers order them, not letters; a second run finds nothing to do."""
    put(folder, "10_third", "insert into t select count(*) from t;")
    put(folder, "2_second", "insert into t values (7);\ninsert into t values (8);")
    put(folder, "1_first", "create table t (a int);")
    assert await apply(db, folder) == ["1_first", "2_second", "10_third"]
    assert await db.fetch(int, "select a from t order by a") == [2, 7, 8]
    assert await apply(db, folder) == []
    entries = await status(db, folder)
    assert [entry.name for entry in entries] == ["1_first", "2_second", "10_third"]
    assert {entry.state for entry in entries} == {"applied"}
    assert all(isinstance(entry.applied_at, datetime) for entry in entries)


async def test_replicas_that_start_together_apply_once(db, folder, url):
    """Each migration is run by one of them."""
    put(folder, "1_a", "create table t (a int); insert into t select 1 from pg_sleep(0.05);")
    put(folder, "2_b", "insert into t values (2);")
    put(folder, "3_c", "-- cliffracer: no-transaction\ncreate index concurrently t_a on t (a);")
    async with Database.open(url) as second, Database.open(url) as third:
        done = await asyncio.gather(*(apply(each, folder) for each in (db, second, third)))
    assert sorted(len(names) for names in done) == [0, 0, 3]
    assert await db.fetch(int, "select a from t order by a") == [1, 2]


async def test_a_failed_migration_leaves_nothing(db, folder):
    """What a person reads names file, line and reason; the ones before it stay applied."""
    put(folder, "1_good", "create table t (a int);")
    put(folder, "2_bad", "create table u (a int);\n\nselect nosuch;")
    with pytest.raises(SetupError, match=r"2_bad\.sql failed in line 3.*nosuch"):
        await apply(db, folder)
    assert [entry.state for entry in await status(db, folder)] == ["applied", "pending"]
    assert await db.fetch_value(bool, "select to_regclass('u') is null")
    put(folder, "2_bad", "create table u (a int);")
    assert await apply(db, folder) == ["2_bad"]


async def test_history_is_not_edited(db, folder):
    """A changed, a vanished and a late file are refused with what to do."""
    put(folder, "2_a", "create table t (a int);")
    await apply(db, folder)
    put(folder, "2_a", "create table t (b int);")
    with pytest.raises(SetupError, match="restore it"):
        await apply(db, folder)
    assert (await status(db, folder))[0].state == "edited"
    (folder / "2_a.sql").unlink()
    with pytest.raises(SetupError, match="is gone"):
        await apply(db, folder)
    put(folder, "2_a", "create table t (a int);")
    put(folder, "1_late", "select 1;")
    with pytest.raises(SetupError, match="higher number"):
        await apply(db, folder)


async def test_line_ends_do_not_count(db, folder):
    """A checkout with other line ends is the same history."""
    put(folder, "1_a", "create table t (a int);\n-- end\n")
    await apply(db, folder)
    (folder / "1_a.sql").write_bytes(b"create table t (a int);\r\n-- end\r\n")
    assert await apply(db, folder) == []


async def test_without_transaction(db, folder):
    """What cannot run in a transaction does; a failure says how much was kept."""
    put(folder, "1_t", "create table t (a int);")
    index = "-- cliffracer: no-transaction\ncreate index concurrently if not exists t_a on t (a); -- ;\nvacuum t;"
    put(folder, "2_i", f"{index} select nosuch;")
    with pytest.raises(SetupError, match="first 2 of 3 statements were kept"):
        await apply(db, folder)
    put(folder, "2_i", index)
    assert await apply(db, folder) == ["2_i"]


async def test_transaction_is_not_ended_by_a_file(db, folder):
    """A COMMIT inside a file would leave half of it; it is refused."""
    put(folder, "1_t", "create table t (a int); commit;")
    with pytest.raises(SetupError, match="COMMIT"):
        await apply(db, folder)


def test_names_are_checked(folder):
    """A file without number and a number that is there twice are refused."""
    put(folder, "first", "select 1;")
    with pytest.raises(SetupError, match="has no number"):
        read(folder)
    (folder / "first.sql").unlink()
    put(folder, "1_a", "select 1;")
    put(folder, "01_b", "select 1;")
    with pytest.raises(SetupError, match="same number"):
        read(folder)


async def test_plan_from_nothing_makes_what_create_missing_makes(db, folder, url):
    """The first migration and development's tables are the same, and nothing is left to plan."""
    models = [User, Order, Everything, Document]
    path = write(folder, await plan(db, models), "create tables")
    assert path.name == "0001_create_tables.sql"
    assert await apply(db, folder) == ["0001_create_tables"]
    assert (await plan(db, models)).statements == []
    assert await create_missing(db, models) == []


async def test_plan_after_create_missing_is_empty(db):
    """What development made is what the models say."""
    models = [User, Order, Everything, Document]
    await create_missing(db, models)
    made = await plan(db, models)
    assert made.statements == []
    assert await db.fetch_value(bool, "select to_regnamespace('cliffracer_shadow') is null")


def before() -> type[Model]:
    class Thing(Model):
        """Old words."""

        __tablename__ = "things"
        __indexes__ = (Index("name", "age"),)
        name: str
        age: int
        old: str = ""
        size: Annotated[int, Meta(ge=0)] = 0
        note: str | None = None
        code: Annotated[str, Unique()] = "x"

    return Thing


async def test_plan_of_every_kind_of_change(db, folder):
    """Columns, types, emptiness, defaults, checks, keys, indexes and comments: applied, nothing is left, rows survive."""
    old = before()
    await create_missing(db, [old])
    await db.repository(old).create(old(name="a", age=5, size=3, note="n"))
    await db.execute("create index somebodys on things (created_at)")

    class Thing(Model):
        """New words."""

        __tablename__ = "things"
        __indexes__ = (Index("age"),)
        name: Annotated[str, Meta(min_length=1, description="what it is called"), Unique(), Search()]
        age: str
        size: Annotated[int, Meta(ge=1)] = 1
        note: str
        fresh: str = "new"
        code: str = "x"

    made = await plan(db, [Thing])
    warned = "\n".join(made.warnings)
    assert "things.old is dropped" in warned
    assert "RENAME COLUMN" in warned
    assert "things.age changes from bigint to text" in warned
    assert "things.note becomes required" in warned
    write(folder, made)
    await apply(db, folder)
    assert (await plan(db, [Thing])).statements == []
    (row,) = await db.repository(Thing).find()
    assert (row.name, row.age, row.size, row.note, row.fresh) == ("a", "5", 3, "n", "new")
    assert await db.fetch_value(bool, "select to_regclass('somebodys') is not null")
    assert "WARNING" in (folder / "0001_change.sql").read_text()


async def test_development_leaves_tables_to_migrations(db, folder, caplog):
    """Where migrations are in use, a new model's table waits for its migration."""
    write(folder, await plan(db, [User]))
    await apply(db, folder)
    assert await create_missing(db, [Document]) == []
    assert "cliffracer db plan" in caplog.text


def test_texts_are_cut_like_postgres_does():
    """Semicolons in quotes, dollar quotes and comments end nothing."""
    text = """
    select ';', "a;b", E'\\';', $$ ; $$, $x$ $$ ; $x$; -- one; two
    /* ; /* nested ; */ ; */ select 2;
    ; -- nothing
    do $body$ begin perform 1; end $body$
    """
    found = statements(text)
    assert len(found) == 3
    assert found[0].startswith("select ';'")
    assert "do $body$ begin perform 1; end $body$" in found[2]
    assert statements("-- only\n/* comments */") == []
    assert statements("select 'open") == ["select 'open"]
