"""`cliffracer db`: from Models to files, from files to tables."""

import asyncio
import json
import re
import textwrap
from contextlib import ExitStack

import click
import psycopg
import pytest

from cliffracer.cli import doctor, outbox
from cliffracer.cli.psql import _address
from cliffracer.cli.reach import with_servers
from cliffracer.database.clones import Clones
from cliffracer.database.owntables import OUTBOX, TABLES
from cliffracer.database.session import parsed, place_of
from cliffracer.settings import Settings
from tests.cli.terminal import Background, cliffracer, on_terminal, written
from tests.support.nats import free_port
from tests.support.postgres import postgres as postgres  # noqa: PLC0414 - a fixture, found by its name

APP = """
    from cliffracer import App, Model, Repository
    app = App("things")

    class Thing(Model):
        name: str

    @app.rpc
    async def make(name: str, *, things: Repository[Thing]) -> Thing:
        return await things.create(Thing(name=name))
"""


@pytest.fixture
def db(tmp_path):
    """Give `cliffracer db` in a folder with an app and an empty database, of servers of its own."""
    from cliffracer import embedded

    written(tmp_path, app=APP)

    def run(*arguments):
        return cliffracer("db", *arguments, cwd=tmp_path, CLIFFRACER_HOME=str(tmp_path))

    yield run
    embedded.stop(tmp_path)


def test_migrations_are_planned_applied_and_listed(db, tmp_path):
    """The first creates the tables, the next changes them, and a file that was changed afterwards is refused."""
    assert db("status").out == db("apply").out == "There are no migrations in migrations/. The first: cliffracer db plan\n"
    assert 'CREATE TABLE "thing"' in db("plan", "--dry-run").out
    assert not (tmp_path / "migrations").exists()
    planned = db("plan", "--name", "first things").out
    assert "written migrations/0001_first_things.sql" in planned
    assert "0001_first_things  pending" in db("status", "app:app").out
    again = db("plan")
    assert (again.code, (tmp_path / "migrations" / "0002_change.sql").exists()) == (1, False)
    assert again.err.startswith(
        "Error: 0001_first_things in migrations/ is not applied yet, so what is in there would be planned once more."
    )
    assert db("apply").out == "applied 0001_first_things\n"
    assert db("apply", "app:app").out == "Nothing is pending.\n"
    assert (db("apply", "nothing:app").code, db("status", "nothing:app").code) == (1, 1)
    assert db("plan").out == "The database has what the Models have: there is nothing to plan.\n"
    (tmp_path / "app.py").write_text((tmp_path / "app.py").read_text().replace("name: str\n", "name: str\n    size: int = 3\n", 1))
    (tmp_path / "app.py").read_text()
    made = json.loads(db("plan", "--json").out)
    assert made["file"] == "migrations/0002_change.sql"
    assert "ADD COLUMN" in made["statements"][0]
    assert json.loads(db("apply", "--json").out) == {"applied": ["0002_change"]}
    with (tmp_path / "migrations" / "0001_first_things.sql").open("a") as file:
        file.write("-- edited\n")
    assert (db("status").code, db("apply").code) == (1, 1)
    assert "0001_first_things.sql was changed after it was applied" in db("apply").err


def test_a_renamed_field_is_told_by_line_and_what_it_breaks_with_the_command_that_mends_it(db, tmp_path):
    """The terminal of `run --reload` has a line per warning, and of a refused statement all; its caller an id; a plan warns once."""
    home = {"CLIFFRACER_HOME": str(tmp_path), "CLIFFRACER_LOG_FORMAT": "human"}
    app = tmp_path / "app.py"
    with Background(tmp_path, "run", "app:app", "--reload", **home) as run:
        run.says("ready: things")
        assert cliffracer("call", "things.make", "name=one", cwd=tmp_path, **home).code == 0
        app.write_text(app.read_text().replace("name: str\n", "label: str\n", 1).replace("Thing(name=", "Thing(label="))
        run.says("ready in")
        warnings = [line.partition("WARNING  cliffracer.database ")[2] for line in run.text.splitlines() if "WARNING" in line]
        assert warnings[0] == "the Models and the tables differ; `cliffracer db plan app:app` writes the migration"
        assert len(warnings) > 2
        assert warnings[1].startswith("thing.label is required")
        told = cliffracer("call", "things.make", "name=two", cwd=tmp_path, **home).err
        (error_id,) = re.findall(r"^Error: Internal \(error id (\w+): see the log of the service\)$", told, re.MULTILINE)
        (line,) = [line for line in run.text.splitlines() if error_id in line]
        assert 'make (app.py:8) failed: column "label" of relation "thing" does not exist; see cliffracer db plan app:app' in line
        assert r'statement="INSERT INTO \"thing\" (\"id\", ' in line
        assert run.end() == 0
    planned = db("plan", "--dry-run")
    assert planned.out.count("thing.label is required") == 1
    assert planned.err == ""


def test_a_model_that_no_handler_keeps_is_named(db, tmp_path):
    """It gets no table, and whoever plans is told; what is inherited from or referred to, or another app's, is none."""
    others = """
    class Named(Model):
        name: str

    class Part(Named):
        thing: Annotated[UUID, References(Thing)]

    class Lost(Model):
        name: str

    @app.rpc
    async def parts(*, parts: Repository[Part]) -> int:
        return await parts.count()
"""
    imports = "from lazy import settings\nfrom typing import Annotated\nfrom uuid import UUID\nfrom cliffracer import References\n"
    written(tmp_path, lazy="class Lazy:\n    @property\n    def __class__(self): raise RuntimeError\nsettings = Lazy()\n")  # as Django's
    written(tmp_path, app=imports + textwrap.dedent(APP + others))
    planned = db("plan", "--dry-run")
    assert planned.err == "Lost has no table: no handler is given a Repository[Lost].\n"
    assert re.findall('CREATE TABLE "(.*)"', planned.out) == ["thing", "part"]
    written(tmp_path, beside=imports + textwrap.dedent(APP + others) + "second = App('second')\n")
    assert db("plan", "beside:app", "--dry-run").err == ""


def test_the_first_migration_of_tables_that_run_made(db, tmp_path):
    """What leads to it is said by `status`, as it can be typed, and again by `plan`; and it does."""
    (tmp_path / "app.py").rename(tmp_path / "kept.py")
    none = "There are no migrations in migrations/. "
    assert db("status").out == f"{none}The first: cliffracer db plan kept:app\n"
    with Background(tmp_path, "run", "kept:app", CLIFFRACER_HOME=str(tmp_path)) as run:
        run.says("ready: ")
        run.end()
    begin = "`run` made the tables that are there. To have migrations make them, plan against an empty database: "
    path = "cliffracer servers reset, then cliffracer db plan kept:app\n"
    assert db("status").out == none + begin + path
    assert db("plan", "kept:app").out == f"The database has what the Models have: there is nothing to plan.\n{begin}{path}"
    assert cliffracer("servers", "reset", "-y", cwd=tmp_path, CLIFFRACER_HOME=str(tmp_path)).code == 0
    assert "written migrations/0001_" in db("plan", "kept:app").out


def test_psql_opens_on_the_same_database(db, tmp_path):
    """Its arguments and standard input are passed on, its exit code is ours, and a password is in no command line."""
    assert db("psql", "-Atc", "select 6 * 7").out == "42\n"
    assert db("psql", "-c", "select nosuch").code == 1
    infinite = json.loads(db("psql", "--json", "-c", "select 'infinity'::timestamp").out)
    assert infinite["error"]["message"].startswith("Its answer cannot be told as JSON: timestamp too large")
    assert db("psql", "--shard", "2").err.endswith("Error: --shard 2: the settings name 1 database, counted from 0\n")
    options, environment = _address(parsed("postgresql://ada:pw@h:5/shop?sslmode=require&keepalives_idle=7"))
    assert (options, environment["PGPASSWORD"], environment["PGSSLMODE"]) == (["--dbname", "keepalives_idle=7"], "pw", "require")
    assert (environment["PGUSER"], environment["PGHOST"], environment["PGPORT"], environment["PGDATABASE"]) == ("ada", "h", "5", "shop")


def test_psql_does_not_wait_for_ever_for_a_server_that_hangs(monkeypatch):
    """As it does where nobody says for how long: neither the address nor the environment."""
    monkeypatch.delenv("PGCONNECT_TIMEOUT", raising=False)
    assert _address(parsed("postgresql://h/shop"))[1]["PGCONNECT_TIMEOUT"] == "10"
    assert _address(parsed("postgresql://h/shop?connect_timeout=3"))[1]["PGCONNECT_TIMEOUT"] == "3"
    monkeypatch.setenv("PGCONNECT_TIMEOUT", "60")
    assert _address(parsed("postgresql://h/shop"))[1]["PGCONNECT_TIMEOUT"] == "60"


def test_the_outbox_is_shown_and_released(db):
    """What waits is counted, what cannot be published is listed with its error, and can be tried again."""
    nothing = "0 wait to be published; 0 cannot be published as they are\n"
    assert db("outbox").out == nothing
    db("plan"), db("apply")
    row = "insert into cliffracer_outbox (message_id, subject, headers, payload, parked_at, attempts, error) values"
    assert db("psql", "-c", f"{row} ('a', 'user.made', '{{}}', '', now(), 3, 'InvalidInput: too large')").code == 0
    shown = db("outbox").out
    assert "0 wait to be published; 1 cannot" in shown
    assert "user.made" in shown
    assert "InvalidInput: too large" in shown
    assert json.loads(db("outbox", "--json").out)["parked"][0]["id"] == "a"
    told = "released 1 event (number 1): running services publish them\n1 wait to be published, the oldest for "
    assert db("outbox", "--release").out.startswith(told)


PARK = """
    insert into cliffracer_outbox (message_id, subject, headers, payload, parked_at, attempts, error)
    select 'm' || n, 'user.made', '{{}}', '', now(), 3, 'InvalidInput: too large' from generate_series(1, {count}) n
"""


@pytest.fixture
def stock(postgres):
    """Empty databases on the tests' server."""
    with Clones(postgres.url(), template="template1", prefix="cli") as made:
        yield made


def test_what_cannot_be_published_is_discarded(tmp_path, stock):
    """By number or all at once, first on trial; a number that is not parked is told, and the others go."""
    url = stock.take()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(TABLES[OUTBOX])
        connection.execute(PARK.format(count=3))

    def db(*arguments):
        return cliffracer("db", *arguments, cwd=tmp_path, DATABASE_URL=url)

    told = "would be discarded: 3 events (numbers 1, 2, 3)\n0 wait to be published; 3 cannot"
    assert db("outbox", "--discard", "--all", "--dry-run").out.startswith(told)
    done = db("outbox", "--discard", "1", "999")
    assert (done.code, done.out.startswith("discarded 1 event (number 1)\n0 wait")) == (1, True)
    assert done.err == "number 999 was not discarded: no event is parked under this number\n"
    done = json.loads(db("outbox", "--discard", "--json", "2", "999").out)
    assert (done["discarded"], done["failed"], len(done["parked"])) == ([2], {"999": "no event is parked under this number"}, 1)
    asked = on_terminal("db", "outbox", "--discard", "--all", cwd=tmp_path, typed="n\n", NO_COLOR="1", DATABASE_URL=url)
    assert "Discard for good all events that cannot be published? [y/N]: " in asked
    assert asked.endswith("Error: Aborted: nothing was discarded.\n")
    assert db("outbox", "--release", "3").out.startswith("released 1 event (number 3): running services publish them\n1 wait")
    assert json.loads(db("outbox", "--discard", "--all", "--json").out)["discarded"] == []


NOTHING = {
    "numbers": (),
    "release": False,
    "discard": False,
    "everything": False,
    "shard": None,
    "dry_run": False,
    "yes": False,
    "as_json": False,
}


@pytest.mark.parametrize(
    "given",
    [
        {"numbers": (5,)},
        {"dry_run": True},
        {"everything": True},
        {"discard": True},
        {"discard": True, "numbers": (5,), "everything": True},
        {"release": True, "numbers": (5,), "everything": True},
        {"release": True, "discard": True, "everything": True},
    ],
)
def test_what_is_meant_for_the_outbox_is_said_whole(given):
    """Nothing is removed or released by an order that is half one."""
    with pytest.raises(click.UsageError):
        outbox.outbox(**{**NOTHING, **given})


@pytest.fixture
def shards(tmp_path, stock):
    """Give `cliffracer db` with two databases in its settings, and their addresses."""
    written(tmp_path, app=APP)
    urls = [stock.take(), stock.take()]
    several = {"DATABASE_URLS": ",".join(urls), "CLIFFRACER_ENV": "production"}
    return lambda *arguments: cliffracer("db", *arguments, cwd=tmp_path, **several), urls


def test_every_database_is_planned_applied_and_listed(shards, tmp_path):
    """Each is named where there are several; one migration is written for all, and refused where they differ."""
    db, urls = shards
    names = [f"database {number} ({place_of(parsed(url))})" for number, url in enumerate(urls)]
    assert "written migrations/0001_change.sql" in db("plan").out
    states = db("status").out
    assert [states.count(f"{name}  0001_change  pending") for name in names] == [1, 1]
    assert db("apply").out == "".join(f"applied 0001_change  {name}\n" for name in names)
    assert db("plan").out == "All databases have what the Models have: there is nothing to plan.\n"
    assert [(entry["database"], entry["state"]) for entry in json.loads(db("status", "--json").out)] == [(0, "applied"), (1, "applied")]
    with psycopg.connect(urls[1], autocommit=True) as connection:
        connection.execute("alter table thing drop column name")
    differs = db("plan")
    assert (differs.code, list(tmp_path.glob("migrations/0002*"))) == (1, [])
    assert f"{names[0]}\n-- has what the Models have\n" in differs.out
    assert 'ALTER TABLE "thing" ADD COLUMN "name"' in differs.out.partition(names[1])[2]
    assert differs.err.startswith("The databases differ, so no migration is right for all of them: ")
    assert [len(each["statements"]) for each in json.loads(db("plan", "--json").out)["databases"]] == [0, 1]


def test_database_where_a_migration_fails_is_named(shards, tmp_path):
    """What was applied to those before it stays, and is told."""
    db, urls = shards
    db("plan"), db("apply")
    with psycopg.connect(urls[1], autocommit=True) as connection:
        connection.execute("alter table thing add column size int")
    (tmp_path / "migrations" / "0002_size.sql").write_text("alter table thing add column size int")
    failed = db("apply")
    assert failed.out == f"applied 0002_size  database 0 ({place_of(parsed(urls[0]))})\n"
    assert failed.err.startswith(f"Error: database 1 ({place_of(parsed(urls[1]))}): 0002_size.sql failed")
    assert failed.code == 1


def test_psql_and_outbox_take_which_database(shards):
    """Without a choice psql says which it opens; numbers of events belong to one database."""
    db, urls = shards
    db("plan"), db("apply")
    names = [place_of(parsed(url)).rpartition("/")[2] for url in urls]
    opened = db("psql", "-Atc", "select current_database()")
    assert opened.out == f"{names[0]}\n"
    assert opened.err == f"database 0 of 2 ({place_of(parsed(urls[0]))}); another one by --shard N\n"
    assert db("psql", "--shard", "1", "-Atc", "select current_database()").out == f"{names[1]}\n"
    with psycopg.connect(urls[1], autocommit=True) as connection:
        connection.execute(PARK.format(count=2))
    assert [event["database"] for event in json.loads(db("outbox", "--json").out)["parked"]] == [1, 1]
    assert "say whose numbers they are by --shard N" in db("outbox", "--discard", "1").err
    assert json.loads(db("outbox", "--discard", "1", "--shard", "1", "--json").out)["discarded"] == [1]
    assert json.loads(db("outbox", "--discard", "--all", "--json").out)["discarded"] == [2]


def test_a_database_that_is_not_there_is_named(tmp_path):
    """At once, with where, and without a traceback."""
    port = free_port()
    done = cliffracer("db", "status", cwd=tmp_path, DATABASE_URL=f"postgresql://127.0.0.1:{port}/shop")
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert done.err.startswith(f"Error: Cannot reach PostgreSQL at 127.0.0.1:{port}/shop (")


def test_several_databases_are_served_and_looked_at(stock):
    """Where several are set, no embedded one is started for an app, and each has its finding."""
    settings = Settings(nats_url="nats://127.0.0.1:1", database_urls=(stock.take(), stock.take()))
    with ExitStack() as stack:
        assert with_servers(settings, stack, database=True) is settings

    async def look() -> list[str]:
        return [f"{finding.about}: {finding.text[:13]}" async for finding in doctor._database(settings, [])]

    found = asyncio.run(look())
    assert [text for text in found if not text.startswith("clock: ")] == ["database 0: PostgreSQL 18", "database 1: PostgreSQL 18"]
    assert [text for text in found if text.startswith("clock: ")] == ["clock: PostgreSQL 0 ", "clock: PostgreSQL 1 "]


def test_production_wants_a_url(tmp_path):
    """Migrations never start an embedded server there."""
    done = cliffracer("db", "apply", cwd=tmp_path, CLIFFRACER_ENV="production")
    assert done.err.startswith("Error: DATABASE_URL is not set, and CLIFFRACER_ENV is production")
