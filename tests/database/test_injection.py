"""What comes from outside is a value, whatever it looks like."""

import logging
import time
from typing import Any

import pytest
from psycopg import sql

from cliffracer.database import Database, create_missing
from cliffracer.database.lint import check_call
from cliffracer.database.suspicion import kind_of
from cliffracer.errors import InvalidInput, SetupError
from tests.database.models import Address, Document, Everything, User, everything
from tests.database.payloads import STATEMENTS, TAUTOLOGIES, UNIONS, payloads, public

OURS, PUBLIC = payloads(), public()
ALL = [*OURS, *PUBLIC]
TABLE = "users"
TEXT = "'x'"


@pytest.fixture
async def quiet(url):
    """A database that does not report suspicious values."""
    async with Database.open(url) as opened:
        opened.suspicious = "off"
        await create_missing(opened, [User, Everything, Document])
        yield opened


def test_the_corpus_is_large():
    """More than five hundred different payloads of a public list, and as many of our own."""
    assert len(OURS) > 500
    assert len(PUBLIC) > 900
    assert len(set(ALL)) == len(ALL)


async def test_values_are_stored_and_found_unchanged(quiet):
    """Every payload as a value: stored, read back, found by each comparison; nothing else happens."""
    users = quiet.repository(User)
    rows = [User(name=payload or "-", email=f"{number}@x", status=payload) for number, payload in enumerate(ALL)]
    for row in rows[::7]:
        await users.create(row)
    await users.create_many([row for number, row in enumerate(rows) if number % 7])
    assert await users.find(order_by="id") == sorted(rows, key=lambda row: row.id)
    for payload in ALL:
        assert {row.status for row in await users.find(status=payload)} == {payload}
        assert payload in {row.status for row in await users.find(status__in=[payload, "other"])}
        assert all(payload in row.status for row in await users.find(status__contains=payload, limit=3))
    for row in rows[::11]:
        assert (await users.update(row.id, name="changed", status=row.status)).status == row.status
    assert await users.count() == len(rows)


async def test_names_are_refused_before_any_sql(quiet):
    """Every payload as a field, operator or order is InvalidInput, and no statement reaches the server."""
    users = quiet.repository(User)
    sent = quiet.statistics()["taken_total"]
    for payload in ALL:
        for act in (
            lambda p=payload: users.find(**{p: 1}),
            lambda p=payload: users.find(**{f"name__{p}": "x"}),
            lambda p=payload: users.update_many({p: "x"}, name="a"),
            lambda p=payload: users.count(**{f"{p}__eq": 1}),
        ):
            with pytest.raises(InvalidInput):
                await act()
        if payload not in {" name", "name ", "name\n"}:  # spaces around a name in a list of names are nothing
            with pytest.raises(InvalidInput):
                await users.find(order_by=[payload])
        with pytest.raises(InvalidInput):
            await users.page(after=payload)
    assert quiet.statistics()["taken_total"] == sent


async def test_document_paths_are_values_too(quiet):
    """Every payload as a key inside a document finds what is under that very key."""
    things = quiet.repository(Everything)
    keys = [payload for payload in ALL if "__" not in payload and not payload.endswith("_")]
    await things.create(everything(extra=dict.fromkeys(keys, "here")))
    for key in keys:
        if key not in {"eq", "contains"}:
            assert await things.count(**{f"extra__{key}": "here"}) == 1, key
            assert await things.count(**{f"extra__{key}": "gone"}) == 0
        with pytest.raises(InvalidInput):
            await things.find(**{f"address__{key}": "x"})


async def test_words_to_search_for_are_values(quiet):
    """Every payload is searched for as words."""
    documents = quiet.repository(Document)
    for payload in ALL[::3]:
        assert await documents.find(search=payload) == []


async def test_values_that_postgres_cannot_hold_are_named(quiet):
    """NUL and lone surrogates are InvalidInput that names the field, one by one and in bulk."""
    users = quiet.repository(User)
    for text in ("a\0b", "\ud800"):
        with pytest.raises(InvalidInput) as caught:
            await users.create(User(name=text, email="a@x"))
        assert caught.value.errors[0]["path"] == "name"
        with pytest.raises(InvalidInput):
            await users.find(name=text)
        with pytest.raises(InvalidInput):
            await users.create_many([User(name="x", email=f"{n}@x") for n in range(20)] + [User(name=text, email="a@x")])
    assert await users.count() == 0


async def test_numbers_out_of_range_are_refused(quiet):
    """What no bigint holds is InvalidInput, as a value and as a filter."""
    users = quiet.repository(User)
    for number in (2**63, -(2**63) - 1, 10**400):
        with pytest.raises(InvalidInput):
            await users.create(User(name="x", email="a@x", age=number))
        with pytest.raises(InvalidInput):
            await users.update_many({"age": number}, name="x")
    for number in (True, "x", 1.5, [1], {"a": 1}, object()):
        with pytest.raises(InvalidInput):
            await users.find(age=number)
    for limit in (-1, "1; drop table users", True, 1.5):
        with pytest.raises(InvalidInput):
            await users.find(limit=limit)


async def test_a_repository_reaches_its_own_table_only(quiet):
    """Fields of other models, and dotted names, are unknown to it."""
    users = quiet.repository(User)
    for name in ("documents.title", "title", "users.name", 'users"."name', "self", "filters", "cls", "model", "table", "_database"):
        for act in (users.find, users.first, users.exists, users.count, users.page, users.delete_many):
            with pytest.raises(InvalidInput):
                await act(**{name: "x"})


async def test_suspicious_values_are_logged_without_the_value(url, caplog):
    """By default a value that looks like an attack is stored, and its field is named in the log; the value is not."""
    async with Database.open(url) as db:
        await create_missing(db, [User])
        with caplog.at_level(logging.WARNING, "cliffracer.database"):
            await db.repository(User).create(User(name="x'; drop table users; --", email="a@x"))
            await db.repository(User).find(name="x' or 1=1 --")
        lines = [record.getMessage() for record in caplog.records]
        assert len(lines) == 2
        assert all("User.name" in line and "drop" not in line and "1=1" not in line for line in lines)
        assert await db.repository(User).count() == 1


async def test_suspicious_values_can_be_refused(url):
    """With reject, the same values are InvalidInput that names the field."""
    async with Database.open(url) as db:
        db.suspicious = "reject"
        await create_missing(db, [User])
        users = db.repository(User)
        bad = User(name="x'; drop table users; --", email="a@x")
        acts = (lambda: users.create(bad), lambda: users.create_many([bad]), lambda: users.find(name=bad.name), lambda: users.upsert(bad))
        for act in acts:
            with pytest.raises(InvalidInput) as caught:
                await act()
            assert caught.value.errors[0]["path"] == "name"
        assert await users.count() == 0


async def test_suspicious_values_in_documents_can_be_refused(url):
    """With reject, a document is looked through to its last text and key, in whatever call it comes."""
    async with Database.open(url) as db:
        db.suspicious = "reject"
        await create_missing(db, [Everything])
        rows = db.repository(Everything)
        row = await rows.create(everything())
        bad = {"a": [{"b": "1 UNION SELECT password FROM users"}]}
        acts = (
            lambda: rows.create(everything(extra=bad)),
            lambda: rows.update(row.id, extra=bad),
            lambda: rows.update(row.id, address=Address("1 UNION SELECT password FROM users")),
            lambda: rows.update_many({"extra": {"1 UNION SELECT password FROM users": 1}}, number=1),
            lambda: rows.find(extra=bad),
            lambda: rows.find(extra__contains=bad),
        )
        for act in acts:
            with pytest.raises(InvalidInput, match="looks like an attack"):
                await act()
        assert (await rows.update(row.id, extra={"a": ["harmless", {"b": None}]})).extra == {"a": ["harmless", {"b": None}]}


def test_attacks_are_recognised_and_prose_is_not():
    """The patterns see nearly every attack of the corpus, and take no ordinary text for one."""
    attacks = [p for p in OURS if any(part in p for part in (*STATEMENTS, *UNIONS, *TAUTOLOGIES)) and "'" in p]
    seen = [p for p in attacks if kind_of(p)]
    assert len(seen) / len(attacks) > 0.95
    assert sum(kind_of(p) is not None for p in PUBLIC) / len(PUBLIC) > 0.95
    for prose in (
        "O'Brien", "Select committee; update follows", "it's -- well -- fine", "union of workers", "drop me a line; insert coin", "a = b",
        "https://x.org/?q=1&r=2#top", 'He said "or else" and left', "5' 10\" tall", "C:\\dir (copy)", "rock 'n' roll and jazz", "f(x) = y",
        "1 or 2 apples", "order by phone", "#hashtag", "it's 5; we left", "{'a': 1}", "ready; set; go", "Case when it rains",
    ):  # fmt: skip
        assert kind_of(prose) is None, prose


@pytest.mark.parametrize(
    "part",
    ["case when =", "(select ", "/*", "sleep(", "' or ", "or 'a", "union ", "'; select ", "x' and (", "' having ", "('||", "\" -- '", "--"],
)
def test_no_text_is_slow_to_look_at(part):
    """Whoever sends a text that is made for it does not keep the service busy: some ms of CPU, whatever is repeated."""
    began = time.process_time()
    for text in (part * 20_000, part * 700, f"{part * 700}="):
        kind_of(text)
    assert time.process_time() - began < 1.0


async def test_query_put_together_from_values_is_refused(db):
    """Outside of production an f-string, %, + or .format with a value in it is a set-up error that names the line."""
    name: Any = "x' or 1=1 --"
    built = f"select * from users where name = '{name}'"
    calls = (
        lambda: db.fetch(f"select * from users where name = '{name}'"),
        lambda: db.fetch(dict, "select '%s'" % name),  # noqa: UP031 - that is the mistake
        lambda: db.fetch_one("select '" + name + "'"),
        lambda: db.fetch_value("select '{}'".format(name)),  # noqa: UP032 - that is the mistake
        lambda: db.execute(f"drop table {name}"),
        lambda: db.stream(dict, f"select {name}"),
        lambda: db.copy_in(f"copy {name} from stdin", []),
        lambda: db.copy_out(f"copy {name} to stdout"),
    )
    for call in calls:
        with pytest.raises(SetupError, match=r"test_injection\.py:\d+: .*psycopg\.sql"):
            call()
    with pytest.raises(SetupError):
        db.fetch(built)
    longer = "select * from users"
    longer += f" where name = '{name}'"
    with pytest.raises(SetupError):
        db.fetch(longer)
    with pytest.raises(SetupError, match="name in CAPITALS"):
        db.fetch("select * from users where name = " + ("'x'" if built else name))
    parts: list[str] = ["select", name]
    for query in (lambda: db.fetch(" ".join(parts)), lambda: db.fetch("select * from t".replace("t", name))):
        with pytest.raises(SetupError):
            query()
    mended: str = "select {}".replace("{}", name) + " limit 1"
    with pytest.raises(SetupError):
        db.fetch(mended)
    async with db.transaction() as transaction:
        with pytest.raises(SetupError):
            transaction.execute(f"select '{name}'")


async def test_query_of_constants_is_taken(db):
    """Text split over lines, constants by name and composed queries are no mistake; nor is anything in production."""
    assert await db.fetch_value(int, "select 1 " + "+ 1") == 2
    assert await db.fetch_value(str, f"select '{TABLE}'") == "users"
    assert await db.fetch_value(int, f"select {1}") == 1
    number = 5
    assert await db.fetch_value(int, "select %s + 1", number) == 6
    assert await db.fetch_value("select %s", f"{number}:{number}") == "5:5"
    assert await db.execute("select %s", f"{number}") == 1
    assert await db.fetch_one(str, *("select 'x'",)) == "x"
    query = "select 3"
    query += " + %s"
    assert await db.fetch_value(int, query, number) == 8
    assert await db.fetch_value(str, " ".join(["select", TEXT])) == "x"  # noqa: FLY002 - as some write it
    assert await db.fetch_value(int, "select 1 where 1 in (" + ", ".join(["%s"] * 2) + ")", 1, 2) == 1
    assert await db.fetch_value(int, "select T".replace("T", "9")) == 9
    assert await db.fetch_value(int, "select 7 order by 1 " + ("desc" if number else "asc")) == 7
    assert await db.fetch_value(int, f"select 7 order by 1 {'desc' if number else 'asc'}") == 7
    composed = sql.SQL("select {}").format(sql.Literal(number))
    composed += sql.SQL(" + 1")
    assert await db.fetch_value(int, composed) == 6
    assert await db.fetch_value(int, sql.SQL(" + ").join([sql.SQL("select 1"), sql.Literal(number)])) == 6
    db.linting = False
    assert await db.fetch_value(int, f"select {number}") == 5


def test_call_without_source_is_let_pass():
    """Where there is no source to read, nothing is said."""
    scope: dict[str, Any] = {"check": check_call}
    exec("import sys\ndef call(): check(sys._getframe(), 0)\ncall()", scope)
    check_call(None, 0)
