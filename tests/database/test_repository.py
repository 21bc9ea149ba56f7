"""Rows in and out by a repository."""

from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID, uuid4

import msgspec
import pytest
from msgspec import Meta

from cliffracer.database import Database, Model, Repository
from cliffracer.database.schema import create_missing
from cliffracer.database.table import table_of
from cliffracer.errors import Conflict, Internal, InvalidInput, NotFound, SetupError
from tests.database.models import Address, Colour, Document, Everything, Order, User, everything


@pytest.fixture
async def users(db: Database) -> Repository[User]:
    await create_missing(db, [User, Order, Everything, Document])
    return db.repository(User)


class Stop(msgspec.Struct):
    name: str
    platform: str | None = None


class Journey(Model):
    stop: Stop | None = None
    note: Any = None
    seats: Annotated[int, Meta(ge=1)] = 1


class Visits(Model):
    times: int = 1


def ada(**changes) -> User:
    return User(**{"name": "Ada", "email": "ada@x.org", **changes})


async def test_created_row_is_got_back_equal(users):
    """What was stored is what is read."""
    made = await users.create(ada(age=36))
    assert await users.get(made.id) == made


async def test_id_may_be_text(users):
    """A key that comes as text, as from a path, is read as a key."""
    made = await users.create(ada())
    assert await users.get(str(made.id)) == made
    with pytest.raises(InvalidInput):
        await users.get("not a key")


async def test_missing_row_is_not_found(users):
    """A key that nobody has is NotFound, for reading, changing and deleting."""
    for act in (users.get, users.delete, lambda key: users.update(key, name="x")):
        with pytest.raises(NotFound):
            await act(uuid4())


async def test_a_row_stands_for_its_id(users):
    """Where one is changed or deleted; what is not there is named by its id, and by nothing else of the row."""
    made = await users.create(ada())
    assert (await users.update(made, name="Augusta")).name == "Augusta"
    await users.delete(made)
    with pytest.raises(NotFound, match=f"^no User {made.id}$"):
        await users.delete(made)


async def test_an_order_in_the_words_of_sql_is_told_in_ours(users):
    """As others write it."""
    with pytest.raises(InvalidInput, match=r"'age DESC' is no field; did you mean -age\?"):
        await users.find(order_by="name, age DESC")
    with pytest.raises(InvalidInput, match=r"did you mean age\?"):
        await users.page(order_by="age asc")


async def test_a_row_is_got_by_what_is_known_of_it(users):
    """By any filters, with an id or without; several rows are no answer, and what was looked for is not told."""
    made = await users.create(ada(age=36))
    await users.create(ada(email="ada@y.org", age=37))
    assert await users.get(email="ada@x.org") == await users.get(made.id, age__lt=37) == await users.get(id=made.id) == made
    for missing in ({"email": "secret"}, {"id": made.id, "age": 37}):
        with pytest.raises(NotFound, match=f"no User with that {' and '.join(missing)}$"):
            await users.get(**missing)
    for nobody in (None, "", msgspec.UNSET):
        with pytest.raises((NotFound, InvalidInput)):
            await users.get(nobody, email="ada@x.org")
    with pytest.raises(InvalidInput):
        await users.get()
    with pytest.raises(InvalidInput, match="emial"):
        await users.get(emial="ada@x.org")
    with pytest.raises(SetupError, match=r"get\(name\) found several User rows.*first\(\.\.\.\) for one"):
        await users.get(name="Ada")


async def test_every_type_survives(db, users):
    """Each declared type comes back as the value that went in."""
    things = db.repository(Everything)
    row = everything(text="é\n'\"\\%", number=-(2**63), tags=["a", "b,c"], extra={"a": [1, {"b": None}]}, places=[Address("Rome")])
    await things.create(row)
    assert await things.get(row.id) == row


async def test_update_changes_only_what_is_named(users):
    """Other fields stay, updated_at moves."""
    made = await users.create(ada(age=36))
    changed = await users.update(made.id, name="Augusta")
    assert (changed.name, changed.age, changed.created_at) == ("Augusta", 36, made.created_at)
    assert changed.updated_at > made.updated_at


async def test_delete_removes_the_row(users):
    """A deleted row is gone."""
    made = await users.create(ada())
    await users.delete(made.id)
    assert await users.count() == 0


async def test_duplicate_is_a_conflict_that_names_the_field(users):
    """The second row with a unique value is refused, and the error says which field it was."""
    await users.create(ada())
    with pytest.raises(Conflict) as caught:
        await users.create(ada(name="Other"))
    assert caught.value.details["field"] == "email"
    assert "ada@x.org" not in str(caught.value)


async def test_find_by_operators(users):
    """Filters compare in every declared way."""
    for number in range(6):
        status = "active" if number % 2 else "off"
        await users.create(User(name=f"user {number}", email=f"u{number}@x.org", age=number * 10, status=status))
    expected = {
        "age": 1, "age__gte": 3, "age__lt": 3, "age__in": 2, "age__between": 3, "email__ilike": 6, "name__endswith": 1,
        "status__ne": 3, "age__is_null": 0, "name__contains": 6, "age__not_in": 4,
    }  # fmt: skip
    given = {
        "age": 10, "age__gte": 30, "age__lt": 30, "age__in": [0, 50], "age__between": (10, 30), "email__ilike": "%@X.org",
        "name__endswith": "5", "status__ne": "off", "age__is_null": True, "name__contains": "ser ", "age__not_in": [0, 50],
    }  # fmt: skip
    for name, value in given.items():
        assert len(await users.find(**{name: value})) == expected[name], name
    assert [user.age for user in await users.find(status="active", order_by="-age", limit=2)] == [50, 30]
    assert (await users.first(order_by="age")).age == 0
    assert await users.exists(age=50)
    assert not await users.exists(age=51)
    assert await users.count(age__gte=30) == 3


async def test_rows_without_a_value_meet_not_in_and_in_as_they_meet_ne_and_eq(users):
    """None is one of the values: `in` finds what any `eq` would, `not_in` what all `ne` do."""
    for age in (10, 20, None):
        await users.create(ada(email=f"{age}@x.org", age=age))
    for given, among, others in (([10], 1, 2), ([10, None], 2, 1), ([None], 1, 2), ([], 0, 3)):
        assert await users.count(age__in=given) == among
        assert await users.count(age__not_in=iter(given)) == others
    for name in ("gt", "gte", "lt", "lte", "between"):
        with pytest.raises(InvalidInput, match=r"age: (between|..e?) takes"):
            await users.count(**{f"age__{name}": (None, 3) if name == "between" else None})


async def test_what_stands_in_documents_is_compared_by_every_operator(db):
    """An operator after a path of keys is one, and no key that no document has."""
    await create_missing(db, [Everything])
    things = db.repository(Everything)
    await things.create(everything(extra={"n": 5, "name": "Ada 100%", "none": None}, tags=["a"], places=[]))
    await things.create(everything(extra={"n": 6}, tags=["b"], address=Address("Rome")))
    given = {
        "extra__n__in": [5, 7], "extra__n__not_in": [5], "extra__n__between": (4, 5), "extra__name__startswith": "Ada", "tags__in": [["a"]],
        "extra__name__endswith": "%", "extra__name__icontains": "ADA", "address__city__in": ("Rome",), "extra__name__not_in": [None],
        "places__not_in": [[]], "extra__name__in": [None],
    }  # fmt: skip
    for name, value in given.items():
        assert await things.count(**{name: value}) == 1, name
    with pytest.raises(InvalidInput, match="expected a list"):
        await things.count(extra__n__in=5)


async def test_what_is_null_in_a_document_is_found_like_what_is_not_there(db):
    """An optional field of a Struct that is None stands in its document as null."""
    await create_missing(db, [Journey])
    journeys = db.repository(Journey)
    await journeys.create_many([Journey(), Journey(stop=Stop("x")), Journey(stop=Stop("y", "z"), note=5)])
    assert await journeys.count(stop__platform=None) == await journeys.count(stop__platform__is_null=True) == 2
    assert await journeys.count(stop__platform__ne=None) == await journeys.count(stop__platform__is_null=False) == 1
    assert await journeys.count(note=None) == await journeys.count(note__is_null=True) == 2


async def test_what_may_be_anything_may_be_none(db):
    """In a change as in a new row, and it is not what is said to be wrong with one."""
    await create_missing(db, [Journey])
    journeys = db.repository(Journey)
    made = await journeys.create(Journey(note=5))
    assert (await journeys.update(made.id, note=None)).note is None
    with pytest.raises(InvalidInput) as caught:
        await journeys.create(Journey(seats=0))
    assert caught.value.errors == [{"path": "seats", "message": "must be at least 1"}]


async def test_a_column_of_another_type_than_its_field_is_no_mistake_of_the_caller(db):
    """As where a migration is not applied yet: he would hear that his input is wrong, and an event would be parked for good."""
    await create_missing(db, [Visits])
    await db.execute("alter table visits alter times drop default, alter times type boolean using true")
    visits, made = db.repository(Visits), Visits()
    for act in (
        lambda: visits.create(made), lambda: visits.create_many([made]), lambda: visits.upsert(made),
        lambda: visits.update(made.id, times=2), lambda: visits.update_many({"times": 2}, id=made.id),
    ):  # fmt: skip
        with pytest.raises(Internal) as caught:
            await act()
        assert "cliffracer db plan" in caught.value.__notes__[0]


async def test_unknown_names_are_refused_before_any_sql(users):
    """A field, operator or order that is not declared is InvalidInput with a hint."""
    for act in (
        lambda: users.find(nmae="x"), lambda: users.find(age__foo=1), lambda: users.find(order_by="agee"),
        lambda: users.update(uuid4(), nmae="x"), lambda: users.find(age__ilike="x"),
    ):  # fmt: skip
        with pytest.raises(InvalidInput) as caught:
            await act()
        assert caught.value.errors
        assert str(caught.value) == caught.value.message


async def test_document_filters(db, users):
    """Documents are compared whole, by what they contain, and under a path of keys."""
    things = db.repository(Everything)
    for city in ("Paris", "Rome"):
        await things.create(everything(address=Address(city), extra={"n": len(city), "a'b": {"c": city}}))
    assert len(await things.find(address__city="Rome")) == 1
    assert len(await things.find(extra__n__gt=4)) == 1
    assert len(await things.find(**{"extra__a'b__c": "Rome"})) == 1
    assert len(await things.find(extra__contains={"n": 5})) == 1
    assert len(await things.find(address__city__ilike="%R%")) == 2
    with pytest.raises(InvalidInput):
        await things.find(address__town="Rome")


async def test_pages_have_no_gaps(users):
    """Walking by cursor meets every row once although rows are added and removed meanwhile."""
    made = [(await users.create(User(name="x", email=f"u{number}@x.org", age=number % 3))).id for number in range(25)]
    seen, gone, cursor = [], set(), None
    while True:
        page = await users.page(after=cursor, limit=4, order_by="name,-created_at")
        seen += [user.id for user in page.items]
        cursor = page.next
        if cursor is None:
            break
        await users.create(User(name="x", email=f"new{len(seen)}@x.org"))
        gone |= {seen[-1], next(row for row in made if row not in {*seen, *gone})}  # where the next page begins, and one to come
        for row in gone:
            if await users.exists(id=row):
                await users.delete(row)
    assert len(seen) == len(set(seen))
    assert set(made) - gone <= set(seen) <= set(made)


async def test_a_page_is_its_rows_and_the_next_begins_behind_one_of_them(users):
    """A page can be read like a list, and the last row, or its id, stands for the cursor."""
    made = sorted([(await users.create(User(name="x", email=f"u{number}@x.org"))).id for number in range(5)])
    page = await users.page(limit=2)
    assert (len(page), [user.id for user in page], page[-1].id) == (2, made[:2], made[1])
    for after in (page.next, page[-1], page[-1].id, str(page[-1].id)):
        assert [user.id for user in await users.page(after=after, limit=2)] == made[2:4]
    last = (await users.page(order_by="-email", limit=2))[-1]
    assert [user.id for user in await users.page(after=last, order_by="-email")] == [*reversed(made[:3])]
    with pytest.raises(InvalidInput, match="is not a cursor of this query"):
        await users.page(after=last.id, order_by="-email")


async def test_the_next_page_begins_behind_a_row_by_whatever_it_is_sorted(db, users):
    """As it does behind the cursor: a row has values as a program has them, such as members of an Enum."""
    things = db.repository(Everything)
    for _ in range(3):
        await things.create(everything())
    for column in (column for column in table_of(Everything).columns.values() if not column.nullable and not column.json):
        for order in (column.name, f"-{column.name}"):
            first = await things.page(limit=1, order_by=order)
            behind = [[thing.id for thing in await things.page(after=after, order_by=order)] for after in (first.next, first[-1])]
            assert len(behind[0]) == 2
            assert behind[0] == behind[1], order


async def test_upsert_changes_the_row_in_its_way(users):
    """By id, or by a unique field, the second upsert changes the first one's row."""
    made = await users.create(ada())
    made.name = "Augusta"
    assert (await users.upsert(made)).name == "Augusta"
    again = await users.upsert(ada(name="Third"), on="email")
    assert (again.id, again.name, await users.count()) == (made.id, "Third", 1)


async def test_upsert_on_what_is_not_unique_says_what_to_declare(users):
    """The caller learns nothing, the log has the cure."""
    with pytest.raises(Internal) as caught:
        await users.upsert(ada(), on="name")
    assert "declare Unique()" in caught.value.__notes__[0]


async def test_missing_foreign_row_is_invalid_input(db, users):
    """A reference to nobody names the field."""
    with pytest.raises(InvalidInput) as caught:
        await db.repository(Order).create(Order(user_id=uuid4(), number=1))
    assert caught.value.errors[0]["path"] == "user_id"


async def test_check_names_the_field(users):
    """A value outside of the declared constraints is InvalidInput that names its field."""
    for field, value in (("name", ""), ("email", "nobody"), ("age", 151)):
        with pytest.raises(InvalidInput) as caught:
            await users.create(ada(**{field: value}))
        assert caught.value.errors[0]["path"] == field


async def test_stale_version_is_a_conflict(db, users):
    """A change made on an older version is refused; the version counts up."""
    documents = db.repository(Document)
    made = await documents.create(Document(title="a", body="b"))
    changed = await documents.update(made.id, title="c", version=1)
    assert changed.version == 2
    with pytest.raises(Conflict):
        await documents.update(made)
    assert (await documents.update(changed)).version == 3


async def test_soft_deleted_row_stays_and_is_not_found(db, users):
    """A model with deleted_at hides its deleted rows, and can bring them back."""
    documents = db.repository(Document)
    made = await documents.create(Document(title="a", body="b"))
    await documents.delete(made.id)
    assert await documents.find() == []
    assert len(await documents.find(deleted=True)) == 1
    with pytest.raises(NotFound):
        await documents.get(made.id)
    assert (await documents.restore(made)).deleted_at is None
    await documents.delete(made.id, forever=True)
    assert await documents.count(deleted=True) == 0


async def test_stored_value_that_fits_no_more_is_internal(db, users):
    """A document or choice that another version wrote is a defect, told without the value."""
    things = db.repository(Everything)
    row = await things.create(everything())
    await db.execute("alter table everything drop constraint everything_colour_check")
    db.linting = False
    for change in ("address = '{\"city\": 5}'", "address = '{\"city\": \"x\"}', colour = 'secret'"):
        await db.execute(f"update everything set {change}")
        with pytest.raises(Internal) as caught:
            await things.get(row.id)
        assert "secret" not in caught.value.message


async def test_empty_pages_are_refused(users):
    """A page of no rows would have no next one."""
    with pytest.raises(InvalidInput):
        await users.page(limit=0)


class Priced(Model):
    price: Annotated[Decimal, Meta(ge=0)]


async def test_constraint_that_only_the_database_knows(db):
    """A price that may not be negative is looked for as text, changed, and refused by its name and limit."""
    await create_missing(db, [Priced])
    priced = db.repository(Priced)
    made = await priced.create(Priced(price=Decimal("1.10")))
    assert await priced.find(price="1.1") == [made]
    assert (await priced.update(made.id, price="2.5")).price == Decimal("2.5")
    for act in (lambda: priced.create(Priced(price=Decimal(-1))), lambda: priced.update(made.id, price=-1)):
        with pytest.raises(InvalidInput) as caught:
            await act()
        assert caught.value.errors == [{"path": "price", "message": "must be at least 0"}]


async def test_what_a_check_refuses_is_told_with_every_limit_that_was_broken(users):
    """However it was to be stored: the server names one field only, and not what that allows."""
    both = [{"path": "name", "message": "must have at least 1 character"}, {"path": "email", "message": "must match pattern @"}]
    kept = await users.create(User(name="Ada", email="ada@x"))
    wrong = User(name="", email="nope")
    for act in (
        lambda: users.create(wrong), lambda: users.upsert(wrong), lambda: users.create_many([User(name="b", email="b@x"), wrong]),
        lambda: users.update(kept.id, name="", email="nope"), lambda: users.update_many({"name": "", "email": "nope"}, name="Ada"),
    ):  # fmt: skip
        with pytest.raises(InvalidInput) as caught:
            await act()
        assert (caught.value.message, caught.value.errors) == ("the input is not valid", both)
        assert caught.value.__cause__.diag.constraint_name in {"users_name_check", "users_email_check"}
    with pytest.raises(InvalidInput) as caught:
        await users.create(User(name="b", email="nope"))
    assert str(caught.value) == caught.value.message == "email: must match pattern @"


async def test_check_that_the_model_does_not_know_is_told_by_its_field(users):
    """What somebody else has added to the table: where its name says which field, and no more."""
    await users._database.execute("alter table users add constraint users_name_check1 check (name <> 'secret')")
    with pytest.raises(InvalidInput) as caught:
        await users.create(User(name="secret", email="a@x"))
    assert str(caught.value) == "name: is outside of what is allowed"


async def test_what_is_no_row_is_a_mistake_of_the_service(users):
    """A dict or another model where a row belongs says what to write; so does a key that is to change."""
    for rows in ([{"name": "x"}], [Priced(price=Decimal(1))], [None], [User(name="x", email="a@x")] * 9 + [3]):
        with pytest.raises(SetupError, match=r"write User\(\.\.\.\)"):
            await users.create_many(rows)
    with pytest.raises(SetupError, match="A dict was given where a User is stored"):
        await users.create({"name": "x"})
    with pytest.raises(SetupError, match="needs the fields by which a row is known"):
        await users.upsert(User(name="x", email="a@x"), on=())
    for value in (range(3), object(), print, int):
        with pytest.raises(InvalidInput):
            await users.update(uuid4(), name=value)
        with pytest.raises(InvalidInput):
            await users.find(age=value)
    with pytest.raises(InvalidInput, match="id: cannot be changed"):
        await users.update(uuid4(), id=uuid4())
    assert await users.count() == 0


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
async def test_moment_that_has_no_year_in_utc_is_refused(users, moment):
    """What is stored can be read again: a row that could not would fail every query that meets it."""
    rows = users._database.repository(Everything)
    at = datetime.fromisoformat(moment)
    row = everything(moment=at)
    for act in (lambda: rows.create(row), lambda: rows.create_many([row] * 9), lambda: rows.find(moment=at)):
        with pytest.raises(InvalidInput) as caught:
            await act()
        assert caught.value.errors[0]["path"] == "moment"
    for last in (datetime(1, 1, 1, 14, tzinfo=timezone(timedelta(hours=14))), datetime.max.replace(tzinfo=UTC)):
        made = await rows.create(everything(moment=last))
        assert (await rows.get(made.id)).moment == last


class Keyed(Model):
    by_id: dict[UUID, int] = msgspec.field(default_factory=dict)
    by_colour: dict[Colour, str] = msgspec.field(default_factory=dict)
    by_day: dict[date, list[int]] = msgspec.field(default_factory=dict)
    by_number: dict[int, Decimal] = msgspec.field(default_factory=dict)


@pytest.mark.parametrize("size", [1, 9])
async def test_keys_of_documents_are_of_any_type(db, size):
    """A dict whose keys are not text is stored and read as the same dict, by whatever way."""
    await create_missing(db, [Keyed])
    rows = db.repository(Keyed)
    values = {"by_id": {uuid4(): 1}, "by_colour": {Colour.RED: "x"}, "by_day": {date(2024, 2, 29): [1]}, "by_number": {7: Decimal("1.5")}}
    await rows.create_many([Keyed(**values) for _ in range(size)])
    made = await rows.create(Keyed(**values))
    assert await rows.get(made.id) == made
    assert (await rows.update(made.id, **values)).by_id == values["by_id"]
    assert await rows.count(by_id=values["by_id"]) == size + 1


async def test_document_that_could_not_be_read_again_is_refused(users):
    """A list or Struct of the wrong kind, from a program's own code, is InvalidInput that names the field."""
    rows = users._database.repository(Everything)
    for changes in ({"tags": [1, 2]}, {"address": {"zip": "1"}}, {"places": [Address(city=None)]}):
        for act in (rows.create, lambda row: rows.create_many([row] * 9)):
            with pytest.raises(InvalidInput) as caught:
                await act(everything(**changes))
            assert caught.value.errors[0]["path"] == next(iter(changes))
    assert await rows.count() == 0


class Shop(Model):
    opens: time
    prices: list[float] = msgspec.field(default_factory=list)
    state: Literal["open", "shut", None] = None  # noqa: PYI061 - as some write it


async def test_time_of_day_with_a_zone_is_refused(db):
    """A column has no place for it, and a time without its zone would be another one."""
    await create_missing(db, [Shop])
    shops = db.repository(Shop)
    with pytest.raises(InvalidInput) as caught:
        await shops.create(Shop(opens=time(9, tzinfo=UTC)))
    assert caught.value.errors[0] == {"path": "opens", "message": "must have no time zone: a time of day is kept without one"}
    with pytest.raises(InvalidInput):
        await shops.find(opens="09:00:00+05:00")
    with pytest.raises(InvalidInput):
        await shops.create(Shop(opens=time(9), prices=[float("inf")]))  # JSON has no such number
    for state in (None, "shut"):
        made = await shops.create(Shop(opens=time(9), state=state))
        assert await shops.get(made.id) == made


async def test_what_others_call_otherwise_is_told_by_its_name_here(db, users):
    """Who comes from another library guesses by the names that it has."""
    with pytest.raises(AttributeError, match=r"^'Repository' object has no attribute 'save'\. Write create\(row\), update\(row\)"):
        users.save(ada())
    with pytest.raises(AttributeError, match=r"^'Database' object has no attribute 'fetchrow'\. Write fetch_one\("):
        db.fetchrow("select 1")
    async with db.transaction() as transaction:
        with pytest.raises(AttributeError, match="committed at the end of its block"):
            transaction.commit()
    with pytest.raises(AttributeError, match=r"^'Repository' object has no attribute 'nonsense'$"):
        _ = users.nonsense
