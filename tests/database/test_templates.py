"""Fresh databases for tests."""

from urllib.parse import urlsplit

import psycopg
import pytest

from cliffracer.database import Database
from cliffracer.database.templates import Stock, cloned, with_database
from cliffracer.errors import SetupError


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


async def test_stock_hands_out_a_different_copy_each_time(url):
    """Each is its own; at the end all of them are gone, given back or not."""
    with Stock(url, ahead=2) as stock:
        taken = [stock.take() for _ in range(3)]
        assert len(set(taken)) == 3
        stock.give(taken[0])
        async with Database.open(taken[1]) as db:
            assert await db.fetch_value(int, "select 1") == 1
    assert copies(url) == set()


def test_what_cannot_be_copied_is_told(url):
    """A template that is not there, or has no name that can be one, is a set-up error."""
    with Stock(url, template="nosuch") as stock, pytest.raises(SetupError, match="nosuch"):
        stock.take()
    with pytest.raises(SetupError, match="template"):
        Stock(url, template="a b")


def test_addresses():
    """The name is replaced in addresses with and without host and options."""
    assert with_database("postgresql://u:p@h:1/a?x=1", "b") == "postgresql://u:p@h:1/b?x=1"
    assert with_database("postgresql://u@/a?host=/tmp", "b") == "postgresql://u@/b?host=/tmp"
    assert with_database("postgresql://h", "b") == "postgresql://h/b"
