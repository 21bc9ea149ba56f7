"""`cliffracer db`: from Models to files, from files to tables."""

import json

import pytest

from cliffracer.cli.psql import _address
from cliffracer.database.session import parsed
from tests.cli.terminal import cliffracer, written
from tests.support.nats import free_port

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
    assert db("status").out == "There are no migrations in migrations/. The first: cliffracer db plan\n"
    assert 'CREATE TABLE "thing"' in db("plan", "--dry-run").out
    assert not (tmp_path / "migrations").exists()
    planned = db("plan", "--name", "first things").out
    assert "written migrations/0001_first_things.sql" in planned
    assert "0001_first_things  pending" in db("status").out
    assert db("apply").out == "applied 0001_first_things\n"
    assert db("apply").out == "Nothing is pending.\n"
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


def test_psql_opens_on_the_same_database(db, tmp_path):
    """Its arguments and standard input are passed on, its exit code is ours, and a password is in no command line."""
    assert db("psql", "-Atc", "select 6 * 7").out == "42\n"
    assert db("psql", "-c", "select nosuch").code == 1
    assert db("psql", "--shard", "2").err.endswith("Error: --shard 2: the settings name 1 database, counted from 0\n")
    options, environment = _address(parsed("postgresql://ada:pw@h:5/shop?sslmode=require&keepalives_idle=7"))
    assert (options, environment["PGPASSWORD"], environment["PGSSLMODE"]) == (["--dbname", "keepalives_idle=7"], "pw", "require")
    assert (environment["PGUSER"], environment["PGHOST"], environment["PGPORT"], environment["PGDATABASE"]) == ("ada", "h", "5", "shop")


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
    assert db("outbox", "--release").out.startswith("released 1: running services publish them\n1 wait to be published, the oldest for ")


def test_a_database_that_is_not_there_is_named(tmp_path):
    """At once, with where, and without a traceback."""
    port = free_port()
    done = cliffracer("db", "status", cwd=tmp_path, DATABASE_URL=f"postgresql://127.0.0.1:{port}/shop")
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert done.err.startswith(f"Error: Cannot reach PostgreSQL at 127.0.0.1:{port}/shop (")


def test_production_wants_a_url(tmp_path):
    """Migrations never start an embedded server there."""
    done = cliffracer("db", "apply", cwd=tmp_path, CLIFFRACER_ENV="production")
    assert done.err.startswith("Error: DATABASE_URL is not set, and CLIFFRACER_ENV is production")
