"""Migrations: planned from the models, applied once, never edited."""

import asyncio
import contextlib
import json
import logging
import os
import subprocess
import sys
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import psycopg
import pytest
from msgspec import Meta

from cliffracer.database import Database, Index, Model, Search, Unique, create_missing, difference
from cliffracer.database.development import prepare
from cliffracer.database.difference import plan, write
from cliffracer.database.migrations import apply, read, remind, status
from cliffracer.database.owntables import LOCK
from cliffracer.database.splitting import statements
from cliffracer.errors import Internal, SetupError
from tests.database.models import Document, Everything, Order, User
from tests.database.support import Eye
from tests.support.waiting import eventually


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


@pytest.mark.parametrize("alone", [False, True])
async def test_a_migration_whose_connection_is_lost_is_named(db, folder, url, alone):
    """And what was kept of it, not only that a connection was lost; the next try goes on there."""
    put(folder, "1_good", "create table t (a int);")
    put(folder, "2_slow", f"{'-- cliffracer: no-transaction' * alone}\ncreate table u (a int);\nselect pg_sleep(60);")
    applying, eye = asyncio.create_task(apply(db, folder)), Eye(url)
    await eventually(
        lambda: eye.ask(
            "select pg_terminate_backend(pid) from pg_stat_activity where query like '%pg_sleep(60)%' and pid <> pg_backend_pid()"
        )
    )
    kept = "its first 1 of 2 statements were kept" if alone else "nothing of it was kept"
    with pytest.raises(SetupError, match=rf"2_slow\.sql failed, and {kept}.*terminating connection"):
        await applying
    assert [entry.state for entry in await status(db, folder)] == ["applied", "pending"]
    put(folder, "2_slow", "create table if not exists u (a int);")
    assert await apply(db, folder) == ["2_slow"]


async def test_a_cancelled_apply_is_cancelled(db, folder, url):
    """It says nothing else, keeps nothing of the migration that it was at, and the next one gets its turn."""
    put(folder, "1_slow", "create table t (a int);\nselect pg_sleep(60);")
    applying, eye = asyncio.create_task(apply(db, folder)), Eye(url)
    await eventually(lambda: eye.running("pg_sleep(60)"))
    applying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await applying
    put(folder, "1_slow", "create table t (a int);")
    async with Database.open(url) as other:
        assert await apply(other, folder) == ["1_slow"]


@pytest.mark.parametrize("alone", [False, True])
async def test_what_a_killed_apply_had_begun_is_ended(db, folder, url, alone):
    """The server notices, as it would not by itself: tables stayed locked until the statement was over. The next one gets its turn."""
    await db.execute("create table t (a int)")
    put(folder, "1_slow", f"{'-- cliffracer: no-transaction' * alone}\nalter table t add b int; select pg_sleep(600);")
    eye, program = Eye(url), [sys.executable, "-m", "cliffracer", "db", "apply"]
    process = await asyncio.create_subprocess_exec(*program, cwd=folder.parent, env={**os.environ, "DATABASE_URL": url})
    await eventually(lambda: eye.running("pg_sleep(600)"))
    process.kill()
    await process.wait()
    put(folder, "1_slow", "alter table t add if not exists b int;")
    assert await apply(db, folder) == ["1_slow"]
    assert await eye.running("pg_sleep(600)") == 0


async def test_who_waits_for_another_apply_says_for_whom(db, folder, url):
    """It may be one that hangs, or a connection that nobody knows of: what ends it is said, too."""
    put(folder, "1_a", "create table t (a int);")
    said: list[str] = []
    async with await psycopg.AsyncConnection.connect(url, autocommit=True, application_name="stuck") as other:
        await other.execute("select pg_advisory_lock(%s)", [LOCK])
        applying = asyncio.create_task(apply(db, folder, say=said.append))
        await eventually(lambda: said)
        assert said == [f"waiting: stuck changes the schema (to end it: select pg_terminate_backend({other.info.backend_pid}))"]
    assert await applying == ["1_a"]


async def test_what_is_applied_is_lines_of_the_log_where_these_are_json(folder, url):
    """A deployment collects for whom it waits, what it applied, and that nothing was left to do; nothing is said in words beside."""
    put(folder, "1_a", "create table t (a int);")
    env = {**os.environ, "DATABASE_URL": url, "LOG_FORMAT": "json"}

    async def apply_it() -> asyncio.subprocess.Process:
        command = [sys.executable, "-m", "cliffracer", "db", "apply"]
        return await asyncio.create_subprocess_exec(*command, cwd=folder.parent, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    async with await psycopg.AsyncConnection.connect(url, autocommit=True, application_name="stuck") as other:
        await other.execute("select pg_advisory_lock(%s)", [LOCK])
        process = await apply_it()
        assert process.stderr is not None
        waits = json.loads(await process.stderr.readline())
    first, then = (await process.communicate())[:2], await (await apply_it()).communicate()
    assert (first[0], then[0]) == (b"", b"")
    applying, applied, nothing = map(json.loads, (first[1] + then[1]).splitlines())
    assert (waits["level"], waits["message"][:34]) == ("INFO", "waiting: stuck changes the schema ")
    assert (applying["message"], applied["message"], applied["migration"]) == ("applying 1_a", "applied 1_a", "1_a")
    assert nothing["message"] == "Nothing is pending."


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


async def test_what_a_newer_version_has_applied_stops_no_older_one(db, folder, caplog):
    """After a rollback, and where an old replica starts again, its files end before the history does: it starts, applies, and says so."""
    for number in (1, 2, 3):
        put(folder, f"{number}_a", f"create table t{number} (a int);")
    await apply(db, folder)
    (folder / "3_a.sql").unlink()
    await prepare(db, [User], "development", folder)
    await remind(db, folder)
    assert await apply(db, folder) == []
    assert [entry.state for entry in await status(db, folder)] == ["applied", "applied", "newer"]
    assert caplog.text.count("a newer version than this has applied the migrations 3_a") == 2
    assert "not applied" not in caplog.text
    assert "differ" not in caplog.text  # as the newer version wants it
    (folder / "1_a.sql").unlink()
    with pytest.raises(SetupError, match=r"1_a\.sql was applied and is gone"):
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


async def test_an_index_that_was_not_finished_is_not_taken_for_there(db, folder):
    """One that failed, or whose apply was killed, is left invalid: it is named, and IF NOT EXISTS does not hide it from the next try."""
    await db.execute("create table t (a int)")
    await db.execute("insert into t values (1), (1)")
    put(folder, "1_i", "-- cliffracer: no-transaction\ncreate unique index concurrently if not exists T_a on t (a);")
    with pytest.raises(SetupError, match=r'and run DROP INDEX "t_a", since what is left there is invalid, before the next try: could not'):
        await apply(db, folder)
    with pytest.raises(SetupError, match=r'an index of it is invalid.* Run DROP INDEX "t_a", then apply again'):
        await apply(db, folder)
    assert [entry.state for entry in await status(db, folder)] == ["pending"]
    await db.execute('drop index "t_a"')
    await db.execute("delete from t")
    assert await apply(db, folder) == ["1_i"]


async def test_transactions_in_a_file_without_one(db, folder):
    """It may have its own; one that fails, or is not ended, is undone and told, and the file is not taken for applied."""
    mark = "-- cliffracer: no-transaction\ncreate table if not exists a (a int); begin; create table b (a int);"
    for rest, words in (("select 1/0; commit;", r"before its last BEGIN were kept; .*division by zero"), ("", "does not end it")):
        put(folder, "1_t", f"{mark} {rest}")
        with pytest.raises(SetupError, match=words):
            await apply(db, folder)
        assert [entry.state for entry in await status(db, folder)] == ["pending"]
        assert await db.fetch_one(tuple, "select to_regclass('a') is null, to_regclass('b') is null") == (False, True)
    put(folder, "1_t", f"{mark} commit;")
    assert await apply(db, folder) == ["1_t"]


async def test_migrations_leave_their_connection_usable_each_time(url, folder):
    """What had been prepared on it is prepared anew after each of them, although psycopg overlooks the second DISCARD ALL."""
    put(folder, "1_t", "select 1/0")
    async with Database.open(url, largest=1) as db:
        for _ in range(3):
            with pytest.raises(SetupError, match="division by zero"):
                await apply(db, folder)
            assert await db.fetch_value(int, "select 1") == 1
        assert db.statistics()["lost_total"] == 0


async def test_transaction_is_not_ended_by_a_file(db, folder):
    """A COMMIT inside a file would leave half of it; it is refused."""
    put(folder, "1_t", "create table t (a int); commit;")
    with pytest.raises(SetupError, match="what stands before its COMMIT was kept"):
        await apply(db, folder)
    put(folder, "1_t", "create table u (a int); commit; begin; create table v (a int);")
    with pytest.raises(SetupError, match="what stands before its COMMIT was kept"):
        await apply(db, folder)
    put(folder, "1_t", "create table w (a int); commit; begin; create table x (a int); select 1/0;")
    with pytest.raises(SetupError, match=r"failed, and what stands before its COMMIT was kept.*division by zero"):
        await apply(db, folder)
    put(folder, "1_t", "create table y (a int); rollback; begin; select 1/0;")
    with pytest.raises(SetupError, match="nothing of it was kept"):
        await apply(db, folder)
    there = "select array(select tablename from pg_tables where schemaname = 'public' order by 1)"
    assert await db.fetch_value(list[str], there) == ["cliffracer_migrations", "t", "u", "w"]
    put(folder, "1_t", "create table z (a int);")
    assert await apply(db, folder) == ["1_t"]


@pytest.mark.parametrize("mark", ["", "-- cliffracer: no-transaction\n"])
async def test_what_a_migration_sets_is_gone_after_it(url, folder, mark):
    """The search path of a pg_dump, a role and time-outs hold for the file that sets them: not for our history, nor for who comes next."""
    text = f"""{mark}
        create schema tenant; create role "{url.rpartition("/")[2]}";
        grant create on schema public to public;
        set lock_timeout to 0; set application_name to 'left'; set role "{url.rpartition("/")[2]}";
        select pg_catalog.set_config('search_path', '', false);
        create table public.dumped (a int); create temporary table passing (a int);
    """
    put(folder, "1_dump", text)
    put(folder, "2_next", "create table next as select current_setting('search_path') as a, current_setting('lock_timeout') as b;")
    try:
        async with Database.open(url, smallest=1, largest=1) as db:
            assert await apply(db, folder, lock_timeout=7.0) == ["1_dump", "2_next"]
            path = '"$user", public'
            assert await db.fetch_one(tuple, "select a, b, to_regclass('public.dumped') is null from next") == (path, "7s", False)
            query = "select current_setting('search_path'), current_setting('lock_timeout'), current_user = session_user"
            assert await db.fetch_one(tuple, query) == (path, "0", True)
            assert await db.fetch_value("select to_regclass('passing')") is None
            assert await db.fetch_value(str, "show application_name") != "left"
            assert await db.fetch_value(str, "show timezone") == "UTC"
    finally:
        async with Database.open(url) as db:
            db.linting = False
            await db.execute("drop table if exists public.dumped")
            await db.execute(f'drop owned by "{url.rpartition("/")[2]}"')
            await db.execute(f'drop role "{url.rpartition("/")[2]}"')


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


async def test_a_comment_stays_where_python_leaves_docstrings_out(db, monkeypatch):
    """As `python -OO` does: it was taken from the table by a start, and put back by the next one without."""
    await create_missing(db, [small()])
    await db.execute("comment on table smalls is 'What is small.'")
    assert (await plan(db, [small()])).statements == ['COMMENT ON TABLE "smalls" IS NULL']
    monkeypatch.setattr(difference, "DOCSTRINGS", False)
    assert (await plan(db, [small()])).statements == []


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


def grown(*, more: bool) -> type[Model]:
    """Return a model before or after it got fields of many types, each with a default."""
    values: dict[str, Any] = {
        "day": date(2024, 2, 29), "key": UUID(int=1), "span": timedelta(days=-1, microseconds=5), "raw": b"\0'\\", "opens": time(9, 30),
        "moment": datetime(2024, 2, 29, 12, tzinfo=UTC),
    }  # fmt: skip
    fields = {name: (type(value), value) for name, value in values.items()} if more else {}
    kinds = {name: kind for name, (kind, _) in fields.items()}
    defaults = {name: value for name, (_, value) in fields.items()}
    return type(Model)("Grown", (Model,), {"__annotations__": {"name": str, **kinds}, "__module__": __name__, **defaults})


async def test_new_fields_with_defaults_fit_a_table_that_has_rows(db):
    """A default of any scalar type is the column's, so that rows that are there get it."""
    old, new = grown(more=False), grown(more=True)
    await create_missing(db, [old])
    row = await db.repository(old).create(old(name="x"))
    made = await plan(db, [new])
    assert made.warnings == []
    db.linting = False
    for statement in made.statements:
        await db.execute(statement)
    found = await db.repository(new).get(row.id)
    assert found == new(name="x", id=row.id, created_at=row.created_at, updated_at=row.updated_at)
    assert (await plan(db, [new])).statements == []


async def test_a_plan_says_what_fails_while_two_versions_run(db):
    """A column that goes and one that must be given: which replicas fail by it, and what lets them be replaced one by one."""

    class Thing(Model):
        __tablename__ = "things"
        size: int

    await create_missing(db, [before()])
    warnings = (await plan(db, [Thing])).warnings
    (name,) = [each for each in warnings if each.startswith("things.name")]
    assert "replicas that still have it fail: apply this when they are gone, and before the first without it starts: ALTER TABLE" in name
    assert name.endswith('ALTER COLUMN "name" DROP NOT NULL.')
    assert any(each.endswith("fail: apply this when they are gone.") for each in warnings if each.startswith("things.note"))
    await db.execute("alter table things drop column size")
    (size,) = [each for each in (await plan(db, [Thing])).warnings if each.startswith("things.size")]
    assert "replicas without it can insert none" in size


async def test_a_plan_says_which_keys_replicas_of_the_other_version_fail_by(db):
    """One that goes is what they upsert by; one that is new, of some rows only as well, refuses what they store."""

    class Thing(Model):
        __tablename__ = "things"
        name: Annotated[str, Unique()]
        code: str = ""

    class Marked(Model):
        __tablename__ = "things"
        name: Annotated[str, Unique(where="code = ''")]
        code: Annotated[str, Unique()] = ""

    old, new = Thing, Marked
    await create_missing(db, [old])
    await db.repository(old).upsert(old(name="a"), on="name")
    forth = await plan(db, [new])
    fails = "things_name_key is dropped, and replicas that upsert by it fail: apply this when they are gone."
    checked = "is checked against every row of things that is there, and against what replicas without it store."
    assert {fails, f"things_code_key {checked}", f"things_name_key {checked}"} == set(forth.warnings)
    for statement in forth.statements:
        await db.execute(statement)
    with pytest.raises(Internal):
        await db.repository(old).upsert(old(name="a"), on="name")
    assert fails.replace("name", "code") in (await plan(db, [old])).warnings


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


def small(*, size: bool = False, age: bool = True, required: bool = False) -> type[Model]:
    fields = {"size": (int, 3)} if size else {}
    fields |= {"age": (int, 0)} if age else {}
    namespace = {"__tablename__": "smalls", **{name: default for name, (_, default) in fields.items()}}
    annotations = {name: kind for name, (kind, _) in fields.items()}
    return type(Model)("Small", (Model,), {**namespace, "__annotations__": {**annotations, **({"must": str} if required else {})}})


async def test_development_changes_tables_where_nothing_is_lost(db, folder, caplog):
    """A new field has its column at the next start, a field that is gone keeps its own until somebody says so."""
    with caplog.at_level(logging.INFO):
        await prepare(db, [small()], "embedded", folder)
        await db.execute("insert into smalls (id, age) values (gen_random_uuid(), 5)")
        await prepare(db, [small(size=True)], "embedded", folder)
        assert await db.fetch_value(int, "select size from smalls") == 3
        assert 'ADD COLUMN "size"' in caplog.text
        await prepare(db, [small(size=True, age=False)], "embedded", folder)
        assert await db.fetch_value(int, "select age from smalls") == 5
        assert "cliffracer db plan" in caplog.text
        await prepare(db, [small(size=True, required=True)], "embedded", folder)
    assert "cannot be changed to what their Models say" in caplog.text
    assert "Give the field a default" in caplog.text
    assert await db.fetch_value(bool, "select to_regnamespace('cliffracer_shadow') is null")


async def test_a_database_that_others_may_use_is_not_changed_by_a_start(db, folder, caplog):
    """In development a difference is told where the database is not the embedded one; missing tables are made, and migrations applied."""
    await prepare(db, [small()], "development", folder)
    put(folder, "0001_other", "create table other (a int);")
    before = await catalogue(db)
    await prepare(db, [small(size=True)], "development", folder)
    assert "`cliffracer db plan` writes the migration" in caplog.text
    made = [row for row in await catalogue(db) if row not in before]
    assert {name for name, *_ in made} == {"other", "cliffracer_migrations"}


async def test_production_is_reminded_of_what_is_pending(db, folder, caplog):
    """Nothing is applied; what is pending or was changed is said."""
    await remind(db, folder)
    assert caplog.text == ""
    put(folder, "0001_other", "create table other (a int);")
    await remind(db, folder)
    assert "not applied as they are here: the migrations 0001_other; see cliffracer db status" in caplog.text
    assert await catalogue(db) == []
    await apply(db, folder)
    caplog.clear()
    await remind(db, folder)
    assert caplog.text == ""
    await db.execute("create role cliffracer_nobody nologin")
    with contextlib.suppress(Internal):  # in the test's one transaction the refused statement undoes all
        async with db.transaction():
            await db.execute("set local role cliffracer_nobody")
            await remind(db, folder)
    assert "cannot be told" in caplog.text
    await db.execute("drop role cliffracer_nobody")


async def test_development_applies_migrations_at_start_and_changes_nothing_besides(db, folder, caplog):
    """What is pending is applied; what no migration does yet is told. A test's own database gets the tables anyway."""
    write(folder, await plan(db, [small()]))
    await prepare(db, [small(size=True), User], "embedded", folder)
    assert [entry.state for entry in await status(db, folder)] == ["applied"]
    assert await db.fetch_value(bool, "select to_regclass('users') is null")
    assert "users" in caplog.text
    assert "the Models and the tables differ" in caplog.text
    await prepare(db, [small(), User], "test", folder)
    assert await db.fetch_value(bool, "select to_regclass('users') is not null")


@pytest.mark.parametrize(
    ("table", "file"), [("alembic_version (version_num text)", "env"), ("schema_migrations (version text)", "20240101_x")]
)
async def test_another_tools_migrations_are_left_alone(db, folder, table, file):
    """With Alembic's or dbmate's history in the database nothing is applied, made, changed or planned that they keep."""
    db.linting = False
    await db.execute(f"create table {table}")
    await db.execute(f"insert into {table.split()[0]} values ('1')")
    await db.execute("create table smalls (id uuid primary key, kept text)")
    before = await catalogue(db)
    put(folder, file, "create table dropped_by_hand (a int);")
    for purpose in ("embedded", "development", "test"):
        await prepare(db, [small(), User], purpose, folder)
    after = await catalogue(db)
    assert [row for row in after if not row[0].startswith("cliffracer_")] == before
    assert await db.fetch(str, f"select * from {table.split()[0]}") == ["1"]
    made = await plan(db, [User])
    assert not any(table.split()[0] in statement for statement in made.statements)


async def catalogue(db: Database) -> list[tuple[str, str, str]]:
    query = "select table_name, column_name, data_type from information_schema.columns where table_schema = 'public' order by 1, 2"
    return await db.fetch(tuple, query)


async def test_files_that_are_not_named_as_ours_are_not_run(db, folder):
    """A folder of another tool's files stops no start, and none of them is run by itself."""
    put(folder, "0001_create.up", "create table up (a int);")
    put(folder, "0002_mine", "create table mine (a int);")
    await prepare(db, [User], "embedded", folder)
    assert await db.fetch(str, "select table_name from information_schema.tables where table_name in ('up', 'mine')") == []


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
