"""Models that the tests share."""

import enum
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID, uuid4

import msgspec
from msgspec import Meta

from cliffracer.database import Index, Model, References, Search, Unique


class User(Model):
    """Somebody."""

    __tablename__ = "users"
    name: Annotated[str, Meta(min_length=1, description="full name")]
    email: Annotated[str, Meta(pattern="@"), Unique()]
    status: str = "active"
    age: Annotated[int, Meta(ge=0, le=150)] | None = None


class Address(msgspec.Struct):
    city: str
    zip: str = ""


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Everything(Model):
    __tablename__ = "everything"
    text: str
    number: int
    real: float
    flag: bool
    raw: bytes
    amount: Decimal
    day: date
    moment: datetime
    span: timedelta
    other: UUID
    colour: Colour
    size: Literal["s", "m", "l"]
    address: Address
    tags: list[str] = msgspec.field(default_factory=list)
    extra: dict[str, Any] = msgspec.field(default_factory=dict)
    places: list[Address] | None = None
    nothing: str | None = None


class Order(Model):
    __tablename__ = "orders"
    __indexes__ = (Index("user_id", "created_at"), Unique("user_id", "number"))
    user_id: Annotated[UUID, References(User, on_delete="cascade")]
    number: int
    total: Decimal = Decimal(0)


class Document(Model):
    __tablename__ = "documents"
    title: Annotated[str, Search(weight="A")]
    body: Annotated[str, Search()]
    version: int = 1
    deleted_at: datetime | None = None


def everything(**changes: Any) -> Everything:
    """Return a row that has a value in every column."""
    values: dict[str, Any] = {
        "text": "x", "number": 1, "real": 1.5e300, "flag": True, "raw": b"\0\xff", "amount": Decimal("12345678901234567890.12345"),
        "day": date(2024, 2, 29), "moment": datetime(2024, 2, 29, 12, 30, 1, 999999, tzinfo=UTC), "span": timedelta(days=3, microseconds=5),
        "other": uuid4(), "colour": Colour.BLUE, "size": "m", "address": Address("Paris", "75"),
    }  # fmt: skip
    return Everything(**{**values, **changes})
