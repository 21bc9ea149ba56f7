"""Models as tables."""

import logging
from typing import Annotated, Any
from uuid import UUID

import msgspec
import pytest
from msgspec import Meta

from cliffracer.database import Database, Index, Model, References, Search, Unique, create_missing
from cliffracer.database.difference import plan
from cliffracer.database.model import tablename_of
from cliffracer.database.schema import define
from cliffracer.database.table import LONGEST_NAME, short, table_of
from cliffracer.errors import Conflict, InvalidInput, SetupError
from tests.database.models import Document, Everything, Order, User


async def columns(db: Database, table: str) -> dict[str, tuple[str, bool]]:
    """Return the type of each column, and whether it may be empty."""
    query = "select column_name, data_type, is_nullable = 'YES' from information_schema.columns where table_name = %s"
    return {name: (kind, nullable) for name, kind, nullable in await db.fetch(tuple, query, table)}


async def test_columns_follow_the_annotations(db):
    """Each type has its column, required unless None is in the annotation."""
    assert await create_missing(db, [Everything]) == ["cliffracer_outbox", "cliffracer_inbox", "everything"]
    found = await columns(db, "everything")
    assert found["number"] == ("bigint", False)
    assert found["amount"] == ("numeric", False)
    assert found["moment"] == ("timestamp with time zone", False)
    assert found["address"] == ("jsonb", False)
    assert found["tags"] == ("jsonb", False)
    assert found["places"] == ("jsonb", True)
    assert found["nothing"] == ("text", True)
    assert found["id"] == ("uuid", False)


async def test_referenced_models_come_along(db):
    """A model brings those that it refers to, with keys, indexes and their rules."""
    assert set(await create_missing(db, [Order])) >= {"users", "orders"}
    indexes = await db.fetch(str, "select indexname from pg_indexes where tablename = 'orders'")
    assert set(indexes) == {"orders_pkey", "orders_user_id_number_key", "orders_user_id_created_at_idx", "orders_user_id_idx"}
    user = await db.repository(User).create(User(name="x", email="a@x"))
    await db.repository(Order).create(Order(user_id=user.id, number=1))
    await db.repository(User).delete(user.id)
    assert await db.repository(Order).count() == 0


async def test_nothing_that_exists_is_changed(db):
    """A table that is there stays as it is, whatever the model says."""
    await db.execute("create table users (other int)")
    assert "users" not in await create_missing(db, [User])
    assert set(await columns(db, "users")) == {"other"}


async def test_choices_and_constraints_are_checks(db):
    """Literal, Enum and Meta hold in the database too, for whoever writes."""
    await create_missing(db, [User, Everything])
    for query in (
        "insert into users (id, name, email, status) values (gen_random_uuid(), '', 'a@x', 'x')",
        "insert into users (id, name, email, status) values (gen_random_uuid(), 'x', 'nobody', 'x')",
        "insert into users (id, name, email, status, age) values (gen_random_uuid(), 'x', 'a@x', 'x', 151)",
    ):
        db.linting = False
        with pytest.raises(InvalidInput):
            await db.execute(query)
    await db.execute("insert into users (id, name, email) values (gen_random_uuid(), 'x', 'a@x')")
    assert await db.fetch_value(str, "select status from users") == "active"
    checks = " ".join(await db.fetch(str, "select pg_get_constraintdef(oid) from pg_constraint where conrelid = 'everything'::regclass"))
    assert "'red'" in checks
    assert "'m'" in checks


async def test_descriptions_are_comments(db):
    """Meta(description=) and the docstring are readable in the database."""
    await create_missing(db, [User])
    assert await db.fetch_value(str, "select obj_description('users'::regclass)") == "Somebody."
    assert await db.fetch_value(str, "select col_description('users'::regclass, 4)") == "full name"


async def test_partial_unique_key(db):
    """A key with a condition holds where the condition does."""

    class Slot(Model):
        __tablename__ = "slots"
        __indexes__ = (Unique("name", where="active"), Index("name", where="not active"))
        name: str
        active: bool = True

    await create_missing(db, [Slot])
    slots = db.repository(Slot)
    await slots.create(Slot(name="a"))
    await slots.create(Slot(name="a", active=False))
    with pytest.raises(Conflict):
        await slots.create(Slot(name="a"))


async def test_search_uses_the_index(db):
    """Words are found by meaning, best first, through the declared index."""
    await create_missing(db, [Document])
    documents = db.repository(Document)
    await documents.create_many([Document(title=f"filler {number}", body="nothing to see here") for number in range(3000)])
    await documents.create(Document(title="On cats", body="they sleep"))
    await documents.create(Document(title="On sleep", body="cats and cats"))
    assert [found.title for found in await documents.find(search="cat")] == ["On cats", "On sleep"]
    assert [found.title for found in await documents.find(search='"sleeping" -cats')] == []
    assert await documents.count(search="sleeping cats") == 2
    assert await documents.find(search="cat", title__startswith="On s", limit=1) != []
    assert [found.title for found in (await documents.page(search="cat", order_by="-title", limit=1)).items] == ["On sleep"]
    assert {found.title async for found in documents.stream(search="cat")} == {"On cats", "On sleep"}
    assert await documents.exists(search="cat")
    assert not await documents.exists(search="dog")
    await db.execute("analyze documents")
    statement = documents._sql.select + documents._sql.where(documents._where({}, "cat").sql)
    db.linting = False
    lines = "\n".join(await db.fetch(str, f"explain {statement}", "cat"))
    assert "documents_search_idx" in lines


async def test_search_without_declaration_is_refused(db):
    """A model without searchable fields says how to declare one."""
    with pytest.raises(SetupError, match=r"Search\(\)"):
        await db.repository(User).find(search="x")


async def test_tables_are_left_to_migrations_in_use(db, caplog):
    """Where Alembic or dbmate keep a history, tables are theirs to make."""
    await db.execute("create table alembic_version (version_num text)")
    with caplog.at_level(logging.WARNING):
        assert await create_missing(db, [User]) == ["cliffracer_outbox", "cliffracer_inbox"]
    assert "Alembic" in caplog.text


def test_table_names():
    """The name is the given one, or the class's in snake_case; a subclass does not inherit it."""

    class HTTPUserToken(Model):
        pass

    class Child(User):
        pass

    assert tablename_of(User) == "users"
    assert tablename_of(HTTPUserToken) == "http_user_token"
    assert tablename_of(Child) == "child"


def test_models_are_keyword_only_and_plain_structs():
    """A model takes names only, and is encoded and decoded as any Struct."""
    with pytest.raises(TypeError):
        User("Ada", "a@x")
    made = User(name="Ada", email="a@x")
    assert msgspec.json.decode(msgspec.json.encode(made), type=User) == made
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"name": "", "email": "a@x"}', type=User)


def test_mistakes_in_declarations_are_told():
    """What cannot be a table is a SetupError that names the model and the cure."""

    class Bad(Model):
        thing: object

    class Mixed(Model):
        __tablename__ = "x" * 64

    class Lost(Model):
        __indexes__ = (Index("nosuch"),)

    class Twin(Model):
        __tablename__ = "users"

    class Parted(Model):
        __tablename__ = "100%"

    class Tagged(Model):
        tags: Annotated[list[str], Search()]

    class Defaulted(Model):
        name: str = Unique()

    class Spread(Model):
        __shard__ = "tenant"
        tenant: str

    class Unset(Model):
        note: str | msgspec.UnsetType = msgspec.UNSET

    class Taken(Model):
        xmin: int

    class Paired(Model):
        __indexes__ = (("a", "b"),)

    class Elsewhere(Model):
        __table_args__ = (Unique("a", "b"),)

    mistakes = (
        (Defaulted, r"Defaulted\.name: Unique\(\) stands where its default does\. Write Annotated\[\.\.\., Unique\(\)\]"),
        (Paired, r"__indexes__ has \('a', 'b'\)\. .*__indexes__ = \(Unique\('a', 'b'\), "), (Elsewhere, "__table_args__ means nothing"),
        (Spread, r"Write __shard__ = Shard\("), (Unset, r"Unset\.note: a column is never UNSET"),
        (Taken, "'xmin' is a column that PostgreSQL adds"),
        (Bad, "cannot be a column"), (Mixed, "shorter"), (Lost, "nosuch"), (int, "not a Model"), (Parted, "has a %"),
        (Tagged, r"Tagged\.tags: Search\(\) looks for words in text, and this is jsonb"),
    )  # fmt: skip
    for model, words in mistakes:
        with pytest.raises(SetupError, match=words):
            table_of(model)
    from cliffracer.database.schema import with_referenced

    with pytest.raises(SetupError, match="__tablename__"):
        with_referenced([User, Twin])


def test_a_key_alone_need_not_be_put_into_a_tuple():
    """As elsewhere, where several may be given."""

    class Seat(Model):
        __indexes__ = Unique("row", "number")
        row: int
        number: int

    assert [key.fields for key in table_of(Seat).uniques] == [("row", "number")]


def test_a_marker_without_its_parentheses_is_a_marker():
    """Otherwise nobody would miss the key until there are two of one value; a marker that needs an argument says so."""

    class Book(Model):
        isbn: Annotated[str, Unique]
        author: Annotated[str, Index]
        title: Annotated[str, Search] | None = None

    markers = {column.name: [type(marker) for marker in column.markers] for column in table_of(Book).columns.values()}
    assert (markers["isbn"], markers["author"], markers["title"]) == ([Unique], [Index], [Search])

    class Loan(Model):
        book: Annotated[UUID, References]

    with pytest.raises(SetupError, match=r"Loan\.book: References .* Write Annotated\[\.\.\., References\(User\)\]"):
        table_of(Loan)


async def test_long_names_of_other_alphabets_are_cut_by_bytes(db):
    """PostgreSQL counts bytes: what a constraint is called here is what it is called there, or errors would name no field."""
    fields = {"straßenname": Annotated[str, Unique()], "größenordnung_der_anlage": Annotated[int, Meta(ge=0)]}
    names = {"__annotations__": fields, "__tablename__": "orte_" + "ü" * 20, "größenordnung_der_anlage": 0}
    place: Any = type(Model)("Place", (Model,), names)
    assert len(short("é" * 40).encode()) <= LONGEST_NAME
    await create_missing(db, [place])
    places = db.repository(place)
    await places.create(place(straßenname="a"))
    with pytest.raises(Conflict) as caught:
        await places.create(place(straßenname="a"))
    assert caught.value.details["field"] == "straßenname"
    with pytest.raises(InvalidInput) as refused:
        await places.create(place(straßenname="b", größenordnung_der_anlage=-1))
    assert refused.value.errors[0]["path"] == "größenordnung_der_anlage"
    assert (await plan(db, [place])).statements == []


async def test_reference_by_name_and_reserved_words(db):
    """Tables may be named by text, and words of SQL are names like others."""

    class Select(Model):
        __tablename__ = "select"
        order: str
        group: Annotated[UUID | None, References("select.id", on_delete="set null")] = None
        user: Annotated[str, Meta(max_length=5), Search()] = "a'b"

    assert '"order"' in define(table_of(Select)).create
    await create_missing(db, [Select])
    rows = db.repository(Select)
    first = await rows.create(Select(order="x"))
    second = await rows.create(Select(order="y", group=first.id))
    assert await rows.find(order="y", group=first.id) == [second]
    assert await rows.find(order_by="-order", search="b") == [second, first]
    await rows.delete(first.id)
    assert (await rows.get(second.id)).group is None


async def test_what_the_server_refuses_names_the_model(db):
    """A reference to a table that nobody makes, and a pattern that is none for PostgreSQL, are set-up errors."""

    class Orphan(Model):
        parent: Annotated[UUID, References("nowhere")]

    class Pattern(Model):
        word: Annotated[str, Meta(pattern="a++")] = ""

    class Gin(Model):
        word: Annotated[str, Index(method="gin")] = ""

    for model, words in (
        (Orphan, "Orphan.*nowhere.*must be a model's table"), (Pattern, "Pattern cannot be made"), (Gin, r"no default operator [^.]*\.$"),
    ):  # fmt: skip
        with pytest.raises(SetupError, match=words):
            await create_missing(db, [model])
