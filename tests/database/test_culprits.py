"""Which of many rows was refused."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any
from uuid import uuid4

import pytest
from msgspec import Meta

from cliffracer.database import Database, Model, Unique, create_missing
from cliffracer.errors import Conflict, InvalidInput, ServiceError
from tests.database.models import Colour, Order, User

SIZES = (4, 20)
"""Of one INSERT and of a COPY."""
START = datetime(2024, 1, 1, 12, tzinfo=UTC)


class Reading(Model):
    __tablename__ = "readings"
    __indexes__ = (Unique("sensor", "at"), Unique("amount", "place"), Unique("raw", "span", "day", "real", "flag"))
    sensor: str
    at: datetime
    amount: Decimal
    place: str
    raw: bytes
    span: timedelta
    day: date
    real: float
    flag: bool = True


class Paint(Model):
    __tablename__ = "paints"
    colour: Annotated[Colour, Unique()]


class Route(Model):
    __tablename__ = "routes"
    stops: Annotated[list[str], Unique()]


class Seat(Model):
    __tablename__ = "seats"
    __indexes__ = (Unique("number", where="NOT given_up"),)
    number: int
    given_up: bool = False


class Sum(Model):
    __tablename__ = "sums"
    amount: Annotated[Decimal, Meta(ge=0, lt=10, multiple_of=0.01)]
    optional: Annotated[Decimal, Meta(ge=0)] | None = None


@pytest.fixture
async def made(db: Database) -> Database:
    await create_missing(db, [User, Order, Reading, Paint, Route, Seat, Sum])
    return db


async def refused(repository: Any, rows: list[Any]) -> int | None:
    """Store rows that are refused, and return which of them was said to be the reason."""
    with pytest.raises(ServiceError) as caught:
        await repository.create_many(rows)
    assert await repository.count() == 0
    index: int | None = caught.value.details.get("index")
    return index


def reading(number: int) -> Reading:
    """Return a reading that shares no key with one of another number."""
    return Reading(
        sensor=f"s, {number}), (x", at=START + timedelta(hours=number, microseconds=1), amount=Decimal(number) / 4, place=f"a, {number}",
        raw=bytes([number]), span=timedelta(days=-number, seconds=number), day=date(2024, 1, 1 + number), real=number / 3,
    )  # fmt: skip


@pytest.mark.parametrize("size", SIZES)
async def test_row_that_refers_to_nobody_is_named(made, size):
    """The first row whose foreign row is missing is named, however the rows are sent."""
    user = await made.repository(User).create(User(name="a", email="a@x"))
    rows = [Order(user_id=user.id, number=number) for number in range(size)]
    rows[2].user_id = uuid4()
    rows[3].user_id = rows[2].user_id
    assert await refused(made.repository(Order), rows) == 2


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("fields", [("sensor", "at"), ("amount", "place"), ("raw", "span", "day", "real")])
async def test_row_whose_key_is_taken_is_named_whatever_its_types(made, size, fields):
    """Times, numbers, bytes, and texts with commas and brackets in them are told apart."""
    rows = [reading(number) for number in range(size)]
    for field in fields:
        setattr(rows[2], field, getattr(rows[1], field))
    assert await refused(made.repository(Reading), rows) == 2


async def test_row_whose_choice_is_taken_is_named(made):
    """An Enum is compared by what is stored of it."""
    assert await refused(made.repository(Paint), [Paint(colour=colour) for colour in (Colour.RED, Colour.BLUE, Colour.RED)]) == 2


async def test_row_whose_document_is_taken_is_named_in_a_transaction(made):
    """A document is compared by what it says; an open transaction takes no other question after the refusal."""
    with pytest.raises(Conflict) as caught:
        async with made.transaction():
            await made.repository(Route).create_many([Route(stops=stops) for stops in (["a", "b"], ["a, b"], ["a", "b"])])
    assert caught.value.details["index"] == 2


@pytest.mark.parametrize("size", SIZES)
async def test_row_that_need_not_differ_is_not_named(made, size):
    """Of rows with one key those that do not meet its condition contradict nobody; where only the server can tell, none is named."""
    seats = [Seat(number=number, given_up=number < 2) for number in range(size)]
    for place in (1, 2, 3):
        seats[place].number = 0
    assert await refused(made.repository(Seat), seats) == 3
    with pytest.raises(Conflict) as caught:
        async with made.transaction():
            await made.repository(Seat).create_many(seats[:4])
    assert "index" not in caught.value.details


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("wrong", [Decimal(-1), Decimal(10)])
async def test_row_with_an_amount_beyond_its_limits_is_named(made, size, wrong):
    """What only the table's check refuses is found too."""
    rows = [Sum(amount=Decimal(1)) for _ in range(size)]
    rows[2].amount = wrong
    assert await refused(made.repository(Sum), rows) == 2


@pytest.mark.parametrize("wrong", [Decimal(-1), Decimal(10), Decimal("0.005"), Decimal("Infinity")])
async def test_row_with_an_amount_beyond_its_limits_is_named_in_a_transaction(made, wrong):
    """There the rows cannot be tried one by one: ours is the same rule as that of the check, for an infinite amount too."""
    rows = [Sum(amount=Decimal(1), optional=Decimal("Infinity")) for _ in range(4)]
    rows[2].amount = wrong
    with pytest.raises(InvalidInput) as caught:
        async with made.transaction():
            await made.repository(Sum).create_many(rows)
    assert caught.value.details["index"] == 2


@pytest.mark.parametrize("size", SIZES)
async def test_no_number_is_within_no_limits(made, size):
    """NaN, which PostgreSQL takes for greater than all numbers, does not pass for an amount of at least 0."""
    sums = made.repository(Sum)
    rows = [Sum(amount=Decimal(1)) for _ in range(size)]
    rows[2].optional = Decimal("NaN")
    assert await refused(sums, rows) == 2
    kept = await sums.create(rows[0])
    for act in (lambda: sums.create(rows[2]), lambda: sums.update(kept.id, optional="NaN"), lambda: sums.upsert(rows[2])):
        with pytest.raises(InvalidInput) as caught:
            await act()
        assert caught.value.errors == [{"path": "optional", "message": "must be a number"}]
    assert (await sums.update(kept.id, optional=Decimal("Infinity"))).optional == Decimal("Infinity")
