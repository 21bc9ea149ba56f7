"""Texts of paths, queries, headers and forms become what the type says, or every reason why not."""

import datetime as dt
import decimal
import enum
import uuid
from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Meta

from cliffracer.errors import InvalidInput
from cliffracer.wire.text import TextDecoder
from tests.wire.types_and_values import kinds


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Colour(enum.Enum):
    RED = "red"


class Search(msgspec.Struct, forbid_unknown_fields=True, rename="kebab"):
    user_id: uuid.UUID
    limit: Annotated[int, Meta(ge=1, le=100)] = 10
    tags: list[str] = []
    exact: bool = False


def one(kind: Any, text: Any) -> Any:
    """Return what one text becomes for a type."""
    return TextDecoder(dict[str, kind]).decode({"x": text})["x"]


def why(kind: Any, text: Any) -> list[str]:
    """Return the reasons why a text is refused for a type; all at its path."""
    with pytest.raises(InvalidInput) as caught:
        one(kind, text)
    assert all(error["path"].startswith("x") for error in caught.value.errors)
    return [error["message"] for error in caught.value.errors]


GOOD: list[tuple[Any, Any, Any]] = [
    (int, "5", 5),
    (int, "-0", 0),
    (int, "+7", 7),
    (int, "007", 7),
    (int, str(2**64 - 1), 2**64 - 1),
    (int, str(-(2**63)), -(2**63)),
    (float, "5", 5.0),
    (float, "-1.5e3", -1500.0),
    (str, "5", "5"),
    (str, "", ""),
    (str, "null", "null"),
    (str, "\x00é\u2028", "\x00é\u2028"),
    (str | None, "null", "null"),
    (str | None, "", ""),
    (int | None, "null", None),
    (int | None, "NULL", None),
    (int | None, "", None),
    (uuid.UUID | None, "", None),
    (int | str, "5", 5),
    (int | str, "5x", "5x"),
    (int | float, "5", 5),
    (int | float, "5.5", 5.5),
    (bool | int, "1", 1),
    (bool | int, "yes", True),
    (dt.date, "2026-01-31", dt.date(2026, 1, 31)),
    (dt.datetime, "2026-01-31T10:20:30Z", dt.datetime(2026, 1, 31, 10, 20, 30, tzinfo=dt.UTC)),
    (dt.timedelta, "PT1H", dt.timedelta(hours=1)),
    (decimal.Decimal, "1.10", decimal.Decimal("1.10")),
    (uuid.UUID, "00000000-0000-0000-0000-000000000007", uuid.UUID(int=7)),
    (bytes, "YQ==", b"a"),
    (Level, "2", Level.HIGH),
    (Colour, "red", Colour.RED),
    (Literal[1, "a"], "1", 1),
    (Literal[1, "a"], "a", "a"),
    (Any, "5", "5"),
    (list[int], "5", [5]),
    (list[int], ["5", "6"], [5, 6]),
    (list[int] | None, ["5"], [5]),
    (set[int], ["5", "5"], {5}),
    (tuple[int, ...], ["5", "6"], (5, 6)),
    (tuple[int, str], ["5", "6"], (5, "6")),
    (list[bool], ["on", "0"], [True, False]),
    (int, ["5"], 5),
    (str, ["a"], "a"),
]


@pytest.mark.parametrize(("kind", "text", "value"), GOOD)
def test_a_text_is_read_as_its_type_says(kind: Any, text: Any, value: Any) -> None:
    """The same text is a number here and a string there."""
    found = one(kind, text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "value"), [*((t, True) for t in ("true", "1", "yes", "on")), *((t, False) for t in ("false", "0", "no", "off"))]
)
def test_booleans_are_written_in_many_ways(text: str, value: bool) -> None:
    """In any case."""
    assert one(bool, text) is one(bool, text.upper()) is one(bool, text.title()) is value


BAD: list[tuple[Any, Any, str]] = [
    (int, "five", "expected an integer"),
    (int, "", "expected an integer"),
    (int, " 5", "expected an integer"),
    (int, "5\n", "expected an integer"),
    (int, "5.0", "expected an integer"),
    (int, "1e3", "expected an integer"),
    (int, "1_000", "expected an integer"),
    (int, "0x10", "expected an integer"),
    (int, "٣", "expected an integer"),
    (int, "--5", "expected an integer"),
    (int, "null", "expected an integer"),
    (int, str(2**64), "is out of range: 64 bits at most"),
    (int, str(-(2**63) - 1), "is out of range: 64 bits at most"),
    (int, "9" * 5_000, "is out of range: 64 bits at most"),
    (int | None, "9" * 30, "is out of range: 64 bits at most"),
    (int, ["5", "6"], "must be given once only"),
    (int | None, "x", "expected an integer"),
    (float, "nan", "expected a number"),
    (float, "inf", "expected a number"),
    (float, "-Infinity", "expected a number"),
    (float, "1e400", "is out of range"),
    (float, "1,5", "expected a number"),
    (decimal.Decimal, "NaN", "expected a decimal number"),
    (decimal.Decimal, " 5", "expected a decimal number"),
    (decimal.Decimal, "1e99999", "expected a decimal number"),
    (bool, "maybe", "expected a boolean"),
    (bool, "", "expected a boolean"),
    (str, ["a", "b"], "must be given once only"),
    (uuid.UUID, "7", "expected a UUID"),
    (dt.date, "today", "expected a date as in RFC 3339"),
    (Level, "3", "expected one of 1, 2"),
    (Colour, "blue", 'expected "red"'),
    (Annotated[int, Meta(ge=1)], "0", "must be at least 1"),
    (Annotated[str, Meta(pattern="^a")], "b", "must match pattern ^a"),
    (tuple[int, int], "5", "must have 2 items"),
    (Annotated[list[int], Meta(max_length=1)], ["5", "6"], "must have at most 1 item"),
    (list[int], ["5", "x"], "expected an integer"),
    (dict[str, int], "x", "expected an object"),
]


@pytest.mark.parametrize(("kind", "text", "message"), BAD)
def test_a_text_that_is_none_of_its_type_is_refused(kind: Any, text: Any, message: str) -> None:
    """With words that do not say that it is a string, which all are."""
    assert why(kind, text) == [message]


def test_all_errors_are_listed_by_the_names_of_the_caller() -> None:
    """Missing, unknown and wrong ones in one answer."""
    with pytest.raises(InvalidInput) as caught:
        TextDecoder[Search](Search).decode({"limit": "0", "exact": "perhaps", "user_id": "x"})
    assert {error["path"]: error["message"] for error in caught.value.errors} == {
        "user-id": "is required",
        "limit": "must be at least 1",
        "exact": "expected a boolean",
        "user_id": "unknown field (did you mean user-id?)",
    }


def test_what_is_not_given_is_the_default() -> None:
    """As in any Struct."""
    found = TextDecoder[Search](Search).decode({"user-id": str(uuid.UUID(int=1)), "tags": ["a", "b"]})
    assert found == Search(uuid.UUID(int=1), 10, ["a", "b"], False)


given_texts = st.dictionaries(
    st.sampled_from(["x", "alpha", "name", "type"]),
    st.text(max_size=6) | st.lists(st.sampled_from(["1", "x", "", "true", "null", "1e999"]) | st.text(max_size=4), max_size=3),
    max_size=3,
)


@given(kinds, given_texts)
@settings(max_examples=400, deadline=None)
def test_any_texts_are_converted_or_refused(kind: Any, texts: dict[str, Any]) -> None:
    """For any type of a field: a value of that type, or `InvalidInput` with reasons."""
    for whole in (dict[str, kind], msgspec.defstruct("Whole", [("x", kind)])):
        try:
            TextDecoder(whole).decode(texts)
        except InvalidInput as error:
            reasons = error.errors
        else:
            continue
        assert reasons


@given(
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
    st.decimals(allow_nan=False, allow_infinity=False, places=3),
)
def test_what_is_written_is_read_back(number: int, ratio: float, flag: bool, price: decimal.Decimal) -> None:
    """Integers and floats to the last digit."""
    kind = msgspec.defstruct("Values", [("number", int), ("ratio", float), ("flag", bool), ("price", decimal.Decimal)])
    found = TextDecoder(kind).decode({"number": str(number), "ratio": repr(ratio), "flag": str(flag), "price": str(price)})
    assert (found.number, found.ratio, found.flag, found.price) == (number, ratio, flag, price)
