"""Queries that are put together from values: mypy takes every text for a literal one, pyright tells them apart."""

from psycopg import sql

from cliffracer import Database, Transaction

TABLE = "users"


async def handler(name: str, *, db: Database, tx: Transaction) -> None:
    await db.fetch("select * from users where name = %s", name)
    await db.fetch("select * from " + TABLE)
    await db.fetch(sql.SQL("select * from {}").format(sql.Identifier(name)))
    await db.fetch(f"select * from users where name = '{name}'")  # P: LiteralString
    await db.fetch(dict, "select * from users where name = '" + name + "'")  # P: LiteralString
    await db.fetch_one("select * from users where name = '{}'".format(name))  # noqa: UP032  # P: LiteralString
    await db.fetch_value(int, "select %s" % name)  # noqa: UP031  # P: LiteralString
    await db.execute(name)  # P: LiteralString
    await tx.execute(f"drop table {name}")  # P: LiteralString
    db.stream(dict, f"select * from {name}")  # P: LiteralString
    await db.copy_in(f"copy {name} from stdin", [])  # P: LiteralString
    db.copy_out(f"copy {name} to stdout")  # P: LiteralString
