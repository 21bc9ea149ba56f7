"""What a repository is asked by mistake, or by somebody who tries: refused in words, and the service goes on."""

import base64
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from cliffracer.database import Database, Model, create_missing
from cliffracer.database.table import table_of
from cliffracer.errors import InvalidInput, SetupError
from tests.database.models import Document, Everything, User, everything


class Measure(Model):
    __tablename__ = "measures"
    value: float
    type_: str = "a"


@pytest.fixture
async def users(db: Database):
    await create_missing(db, [User, Document, Everything, Measure])
    return db.repository(User)


def nested(depth: int) -> dict[str, Any]:
    """Return a document of so many levels."""
    made: dict[str, Any] = {}
    for _ in range(depth):
        made = {"a": made}
    return made


@pytest.mark.parametrize("order", ["value", "-value", "value,-id"])
async def test_pages_go_over_numbers_that_are_not_finite(db, users, order):
    """Infinities and NaN have their place in the order, and a page that ends at one has a next page."""
    measures = db.repository(Measure)
    for value in ("-inf", "1", "nan", "2", "inf", "3", "nan"):
        await measures.create(Measure(value=float(value)))
    seen, cursor = [], None
    for _ in range(7):
        page = await measures.page(after=cursor, limit=1, order_by=order)
        seen += [str(row.value) for row in page.items]
        cursor = page.next
    expected = ["-inf", "1.0", "2.0", "3.0", "inf", "nan", "nan"]
    assert seen == (expected[::-1] if order.startswith("-") else expected)
    assert cursor is None


@pytest.mark.parametrize("text", [b"[" * 1100, b"[null]", b'[{"a":1}]', b"[[[]]]", b"\xff", b""])
async def test_cursor_that_is_none_is_refused(users, text):
    """Whatever a client makes of a cursor is InvalidInput, however deep it is nested."""
    with pytest.raises(InvalidInput) as caught:
        await users.page(after=base64.urlsafe_b64encode(text).decode())
    assert caught.value.errors[0]["path"] == "after"


async def test_documents_that_are_nested_too_deeply_are_refused(db, users):
    """In rows, changes and filters: the field is named, and nothing is stored."""
    things = db.repository(Everything)
    kept = await things.create(everything())
    deep = nested(200_000)  # Python 3.14 bounds recursion in C by the stack, which has room for some 40,000
    rows = [everything(extra=deep if number == 5 else {}) for number in range(9)]
    for act in (
        lambda: things.create(everything(extra=deep)), lambda: things.create_many(rows), lambda: things.create_many(rows[4:6]),
        lambda: things.update(kept.id, extra=deep), lambda: things.find(extra=deep), lambda: things.find(extra__contains=deep),
    ):  # fmt: skip
        with pytest.raises(InvalidInput) as caught:
            await act()
        assert caught.value.errors == [{"path": "extra", "message": "is nested too deeply"}]
    assert await things.count() == 1


async def test_version_is_not_set_for_many(db, users):
    """It counts changes: given among them it is refused, and one that is no number as well."""
    documents = db.repository(Document)
    made = await documents.create(Document(title="a", body="b"))
    with pytest.raises(InvalidInput, match="version: counts changes and cannot be set"):
        await documents.update_many({"version": 7}, title="a")
    with pytest.raises(InvalidInput) as caught:
        await documents.update(made.id, title="c", version="abc")
    assert caught.value.errors[0]["path"] == "version"
    assert await documents.update_many({"title": "c"}, version=1) == 1
    assert (await documents.get(made.id)).version == 2


@pytest.mark.parametrize("size", [0, -1, 2.5, True])
async def test_stream_of_no_rows_at_a_time_is_refused(db, users, size):
    """It would never end."""
    with pytest.raises(InvalidInput, match="size"):
        await anext(users.stream(size=size))
    with pytest.raises(InvalidInput, match="size"):
        await anext(db.stream(User, "select * from users", size=size))


@pytest.mark.parametrize("order", [5, object(), [5], b"age", {"age": 1, 2: 3}])
async def test_order_that_is_no_name_is_refused(users, order):
    """Anything but names of fields is InvalidInput."""
    for act in (lambda: users.find(order_by=order), lambda: users.page(order_by=order), lambda: anext(users.stream(order_by=order))):
        with pytest.raises(InvalidInput) as caught:
            await act()
        assert caught.value.errors[0]["path"] == "order_by"


async def test_a_value_that_postgresql_would_make_another_of_is_refused(db, users):
    """A row is stored as it is, or not at all, alone or among few or many: nothing is rounded, cut off or written as text."""
    things = db.repository(Everything)
    wrong = {"number": 2.5, "text": {"a": 1}, "day": datetime(2024, 2, 29, 23, tzinfo=UTC), "flag": 1, "span": 5, "nothing": 7}
    for field, value in wrong.items():
        row = everything(**{field: value})
        for act in (things.create, things.upsert, lambda row: things.create_many([everything(), row])):
            with pytest.raises(InvalidInput) as caught:
                await act(row)
            assert [error["path"] for error in caught.value.errors] == [field]
    assert await things.count() == 0
    stored = await things.get((await things.create(everything(other=str(UUID(int=7)), real=2))).id)
    assert (stored.other, stored.real) == (UUID(int=7), 2.0)
    with pytest.raises(InvalidInput, match=r"^other: must be a UUID, and is a str$"):
        await things.create_many([everything(other=str(UUID(int=7))) for _ in range(9)])


@pytest.mark.parametrize("size", [0, -1, "10", 2.5])
async def test_a_size_that_is_none_is_refused(db, users, size):
    """Of a batch and of what is collected: none of them would be what was meant."""
    with pytest.raises(InvalidInput, match="size: expected a whole number of at least 1"):
        db.batch(size=size)
    with pytest.raises(InvalidInput, match="size: expected a whole number of at least 1"):
        users.collected(size=size)


async def test_a_row_of_another_model_is_told_as_such(db, users):
    """Where its id is meant: that is no row which is not there."""
    row = Measure(value=1)
    for act in (users.get, users.delete, users.restore, users.update):
        with pytest.raises(SetupError, match="A Measure was given where a User is meant"):
            await act(row)
    with pytest.raises(InvalidInput, match="an id or a filter is needed"):
        await users.get()


@pytest.mark.parametrize("name", ["limit", "offset", "search", "deleted", "order_by", "a__b"])
def test_field_that_no_filter_could_name_is_refused(name):
    """Names that find() reads otherwise are a set-up error that says what to do."""
    kind = type(Model)("Taken", (Model,), {"__annotations__": {name: int}})
    with pytest.raises(SetupError, match=f"Taken: '{name}' .*(longer name|Use one)"):
        table_of(kind)


async def test_field_that_ends_in_an_underscore_has_operators(db, users):
    """As for ``type_``, which is so called because Python has the other word."""
    measures = db.repository(Measure)
    await measures.create(Measure(value=1, type_="b"))
    assert await measures.count(type___in=["b"]) == await measures.count(type___gt="a") == 1
    with pytest.raises(InvalidInput):
        await measures.count(typ___gt="a")
