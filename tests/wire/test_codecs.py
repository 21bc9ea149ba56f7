"""What a decoder says about a wrong input, word for word; what an encoder does with what cannot be written."""

import dataclasses
import datetime as dt
import decimal
import enum
import json
import threading
import tracemalloc
import uuid
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypedDict, TypeVar

import msgspec
import pytest
from msgspec import Meta

from cliffracer.errors import InvalidInput
from cliffracer.wire.codecs import Decoder, Limits, Unencodable, encode, encode_msgpack
from tests.wire.types_and_values import Cat, Circle, Dog, Pair, Place, Point, Row, Span, Square, Tree

T = TypeVar("T")


class Status(enum.Enum):
    ACTIVE = "active"
    GONE = "gone"


class Item(msgspec.Struct):
    price: Annotated[decimal.Decimal, Meta(description="in euros")]
    count: Annotated[int, Meta(ge=1, le=99)] = 1


class Order(msgspec.Struct, forbid_unknown_fields=True):
    email: Annotated[str, Meta(pattern="@", min_length=3)]
    items: Annotated[list[Item], Meta(min_length=1)]
    status: Status = Status.ACTIVE
    when: Annotated[dt.datetime, Meta(tz=True)] | None = None
    labels: dict[str, int] = {}


class Page(msgspec.Struct, Generic[T]):
    rows: list[T]


def reasons(kind: Any, data: bytes) -> dict[str, str]:
    """Return path and message of each error; two at one path would be an error of the test."""
    with pytest.raises(InvalidInput) as caught:
        Decoder(kind).decode(data)
    found = [(error["path"], error["message"]) for error in caught.value.errors]
    assert len(dict(found)) == len(found)
    return dict(found)


def test_a_right_input_is_decoded_whole() -> None:
    """The value is what msgspec makes of it."""
    order = Decoder(Order).decode(b'{"email":"a@x","items":[{"price":1.10,"count":2},{"price":"7"}],"when":"2026-01-31T10:20:30Z"}')
    assert order.items == [Item(decimal.Decimal("1.10"), 2), Item(decimal.Decimal(7))]
    assert order.when == dt.datetime(2026, 1, 31, 10, 20, 30, tzinfo=dt.UTC)


def test_all_errors_are_listed_with_their_paths() -> None:
    """One answer tells everything that is wrong, wherever it is."""
    items = b'"items":[{"price":1},{"price":true,"count":0},7]'
    labels = b'"labels":{"a":"b","c d":1.5}'
    assert reasons(Order, b'{"emial":"x",%s,"status":"left","when":"2026-01-31T10:20:30",%s}' % (items, labels)) == {
        "email": "is required",
        "emial": "unknown field (did you mean email?)",
        "items[1].price": "expected a decimal number, got a boolean",
        "items[1].count": "must be at least 1",
        "items[2]": "expected an object, got an integer",
        "status": 'expected one of "active", "gone"',
        "when": "must have a time zone",
        "labels.a": "expected an integer, got a string",
        'labels["c d"]': "expected an integer, got a number",
    }


def test_a_value_that_breaks_two_constraints_gets_two_reasons() -> None:
    """Both are told, at the same path."""
    with pytest.raises(InvalidInput) as caught:
        Decoder(Order).decode(b'{"email":"x","items":[]}')
    assert caught.value.errors == [
        {"path": "email", "message": "must have at least 3 characters"},
        {"path": "email", "message": "must match pattern @"},
        {"path": "items", "message": "must have at least 1 item"},
    ]


def test_no_refused_value_is_repeated() -> None:
    """It may be a password in the wrong field."""
    for data in (b'{"email":"hunter2","items":"hunter2","status":"hunter2"}', b'{"email":"a@hunter2","items":[{"price":"hunter2"}]}'):
        assert not any("hunter2" in message for message in reasons(list[Order], b"[" + data + b"]").values() if "email" not in message)
        assert "hunter2" not in str(reasons(list[Order], b"[" + data + b"]"))


WORDS: list[tuple[Any, bytes, str]] = [
    (int, b'"x"', "expected an integer, got a string"),
    (int, b"1.5", "expected an integer, got a number"),
    (int, b"true", "expected an integer, got a boolean"),
    (bool, b"1", "expected a boolean, got an integer"),
    (str, b"null", "expected a string, got null"),
    (None, b"0", "expected null, got an integer"),
    (float, b"[]", "expected a number, got an array"),
    (float, b"1e400", "is out of range"),
    (bytes, b'"?"', "expected binary data, base64 in JSON"),
    (dt.date, b'"31.1.2026"', "expected a date as in RFC 3339"),
    (dt.time, b'"noon"', "expected a time as in RFC 3339"),
    (dt.datetime, b'"now"', "expected a date and time as in RFC 3339"),
    (Annotated[dt.datetime, Meta(tz=False)], b'"2026-01-31T10:20:30Z"', "must not have a time zone"),
    (dt.timedelta, b'"1 hour"', "expected a duration as in ISO 8601"),
    (uuid.UUID, b'"1234"', "expected a UUID"),
    (decimal.Decimal, b'"one"', "expected a decimal number"),
    (decimal.Decimal, b'"NaN"', "must be a finite number"),
    (decimal.Decimal, b'"-sNaN12"', "must be a finite number"),
    (decimal.Decimal, b'"\\u0049nfinity"', "must be a finite number"),
    (Status, b'"x"', 'expected one of "active", "gone"'),
    (Status, b"1", 'expected one of "active", "gone", got an integer'),
    (Literal["a", 1] | None, b'"b"', 'expected one of 1, "a"'),
    (Literal["a"], b'"b"', 'expected "a"'),
    (int | None, b'"x"', "expected an integer or null, got a string"),
    (int | list[int] | None, b'"x"', "expected an integer, an array or null, got a string"),
    (Annotated[int, Meta(gt=0)], b"0", "must be greater than 0"),
    (Annotated[int, Meta(lt=0)], b"0", "must be less than 0"),
    (Annotated[int, Meta(le=5)], b"6", "must be at most 5"),
    (Annotated[int, Meta(multiple_of=5)], b"6", "must be a multiple of 5"),
    (Annotated[float, Meta(ge=0.5)], b"0", "must be at least 0.5"),
    (Annotated[str, Meta(max_length=1)], b'"ab"', "must have at most 1 character"),
    (Annotated[bytes, Meta(min_length=2)], b'"YQ=="', "must have at least 2 bytes"),
    (Annotated[list[int], Meta(max_length=2)], b"[1,2,3]", "must have at most 2 items"),
    (Annotated[dict[str, int], Meta(min_length=1)], b"{}", "must have at least 1 item"),
    (Annotated[int, Meta(ge=1)] | None, b"0", "must be at least 1"),
    (tuple[int, int], b"[1]", "must have 2 items"),
    (set[int], b"{}", "expected an array, got an object"),
    (Order, b"[1]", "expected an object, got an array"),
    (Row, b"{}", "expected an array, got an object"),
    (Span, b'{"firstDay":2,"lastDay":1}', "firstDay must not be after lastDay"),
]


@pytest.mark.parametrize(("kind", "data", "message"), WORDS)
def test_each_kind_of_error_has_its_words(kind: Any, data: bytes, message: str) -> None:
    """What was expected, and what came if that is of another kind."""
    assert reasons(kind, data) == {"": message}
    assert reasons(list[kind], b"[" + data + b"]") == {"[0]": message}


DEEPER: list[tuple[Any, bytes, dict[str, str]]] = [
    (Tree, b'{"name":"a","children":[{"name":"b"},{"name":1}]}', {"children[1].name": "expected a string, got an integer"}),
    (Page[Item], b'{"rows":[{"price":"x"}]}', {"rows[0].price": "expected a decimal number"}),
    (Cat | Dog, b"{}", {"type": "is required"}),
    (Cat | Dog, b'{"type":"cow"}', {"type": 'expected one of "cat", "dog"'}),
    (Cat | Dog, b'{"type":"dog","nam":"x"}', {"name": "is required", "nam": "unknown field (did you mean name?)"}),
    (Cat, b'{"type":"dog","lives":9}', {"type": 'expected "cat"'}),
    (Circle | Square, b'["Square","x"]', {"side": "expected an integer, got a string"}),
    (Circle | Square, b"[7]", {"[0]": 'expected one of "Circle", "Square"'}),
    (Circle | Square, b"[]", {"[0]": "is required"}),
    (Square, b'["Square",1,"a",2]', {"": "must have at most 2 items"}),
    (Row, b"[]", {"key": "is required"}),
    (Point, b'["a"]', {"x": "expected an integer, got a string"}),
    (Point, b"[1,2,3]", {"": "must have at most 2 items"}),
    (Place, b'{"code":"x"}', {"city": "is required", "code": "expected an integer, got a string"}),
    (Pair, b'{"left":-1,"right":2}', {"left": "must be at least 0", "right": "expected a string, got an integer"}),
    (dict[int, str], b'{"one":"a","2":3}', {"one": "the key: expected an integer", '["2"]': "expected a string, got an integer"}),
    (dict[Annotated[str, Meta(max_length=1)], int], b'{"ab":1}', {"ab": "the key: must have at most 1 character"}),
    (tuple[int, str], b'["a",1]', {"[0]": "expected an integer, got a string", "[1]": "expected a string, got an integer"}),
    (list[list[int]], b'[[1],[2,"x"]]', {"[1][1]": "expected an integer, got a string"}),
    (Any, b'{"a":1,"a":2,"b":[{"c":1,"c":1}]}', {"a": "stands here twice", "b[0].c": "stands here twice"}),
    (Item, b'{"price":1,"unknown":{"x":1,"x":2}}', {"unknown.x": "stands here twice"}),
    (Order, b'{"email":"x","email":"a@x"}', {"email": "stands here twice", "items": "is required"}),
    (list[str], b'["\\ud800"]', {"[0]": "has half of a surrogate pair, which is no character"}),
    (Item, b'{"price":1e400,"count":"x"}', {"count": "expected an integer, got a string"}),
    (Item, b'{"price":' + b"7" * 30 + b',"count":0}', {"count": "must be at least 1"}),
    (list[float], b"[NaN,1]", {"[0]": "must be a finite number"}),
]


@pytest.mark.parametrize(("kind", "data", "errors"), DEEPER)
def test_errors_deeper_down_have_their_paths(kind: Any, data: bytes, errors: dict[str, str]) -> None:
    """Names of fields as the caller writes them, indexes, keys."""
    assert reasons(kind, data) == errors


TEXTS = [
    (b"", "is empty; expected JSON"),
    (b"\n ", "is empty; expected JSON"),
    (b"\xef\xbb\xbf{}", "starts with a byte order mark; send UTF-8 without one"),
    ('{"a":1}'.encode("utf-16"), "is not UTF-8 (UTF-16 or UTF-32, it seems)"),
    (b'"abc\xff"', "is not UTF-8: invalid at byte 4"),
    (b'{"a":1', "is not JSON: it ends too early"),
    (b'{"a":\n  x}', "is not JSON: malformed at line 2, column 3"),
    (b"{} {}", "has text after the end of the JSON value, at line 1, column 4"),
    (b"[" * 65 + b"]" * 65, "is nested deeper than 64 levels"),
    (b'{"a":"' + b"[" * 100, "is not JSON: it ends too early"),
]


@pytest.mark.parametrize(("data", "message"), TEXTS)
def test_what_is_no_json_is_told_with_its_place(data: bytes, message: str) -> None:
    """Line and column, or the byte, of what is malformed."""
    assert reasons(Any, data) == {"": message}


PACKED = [
    (b"", "is not MessagePack: it ends too early"),
    (b"\x92\x01", "is not MessagePack: it ends too early"),
    (b"\xc1", "is not MessagePack: invalid at byte 0"),
    (b"\x92\x01\xc1", "is not MessagePack: invalid at byte 2"),
    (b"\x01\x02", "has data after the end of the MessagePack value, at byte 1"),
    (b"\x91" * 65 + b"\x01", "is nested deeper than 64 levels"),
    (b"\xa1\xff", "is not MessagePack that can be read: a timestamp, a text or a key in it is not valid"),
    (b"\x91\xcb\x7f\xf8" + bytes(6), "must be a finite number"),
]


@pytest.mark.parametrize(("data", "message"), PACKED)
def test_what_is_no_messagepack_is_told_with_its_place(data: bytes, message: str) -> None:
    """The byte of what is malformed."""
    with pytest.raises(InvalidInput) as caught:
        Decoder(Any).decode_msgpack(data)
    assert [error["message"] for error in caught.value.errors] == [message]


def test_a_name_in_a_path_is_shortened_and_escaped() -> None:
    """What a caller chose as a name cannot fill or break the answer."""
    data = msgspec.json.encode({"x" * 1000: "a", "a\n\x1b[31mb": "a", "ok-name": "a"})
    assert set(reasons(dict[str, int], data)) == {f'["{"x" * 64}"]', '["a\\n\\u001b[31mb"]', "ok-name"}


KINDS: list[tuple[str, Any]] = [
    ("null", None),
    ("boolean", True),
    ("zero", 0),
    ("integer", -7),
    ("large", 2**63),
    ("number", 1.5),
    ("empty text", ""),
    ("text", "word"),
    ("empty array", []),
    ("array", [1]),
    ("empty object", {}),
    ("object", {"a": 1}),
]
MODELS: list[tuple[Any, dict[str, Any]]] = [
    (Order, {"email": "a@x", "items": [{"price": 1}]}),
    (Item, {"price": "1"}),
    (Span, {"firstDay": 1, "lastDay": 2}),
    (Dog, {"type": "dog", "name": "Rex", "age": 3}),
    (Cat | Dog, {"type": "cat", "lives": 9}),
    (Place, {"city": "Rome", "code": 1}),
    (Pair, {"left": 1, "right": "r"}),
    (Tree, {"name": "a", "children": []}),
    (Page[int], {"rows": [1]}),
    (Page[dict[str, Status]], {"rows": [{"a": "gone"}]}),
]


@pytest.mark.parametrize(("kind", "good"), MODELS)
@pytest.mark.parametrize(("name", "value"), KINDS)
def test_a_wrong_kind_in_any_field_is_told_for_that_field(kind: Any, good: dict[str, Any], name: str, value: Any) -> None:
    """All kinds of JSON in every field of ten models, in both forms: accepted as msgspec does, or refused naming the field."""
    decoder: Decoder[Any] = Decoder(kind)
    for field in good:
        wrong = good | {field: value}
        for decode, data, reference in (
            (decoder.decode, msgspec.json.encode(wrong), msgspec.json.Decoder(kind).decode),
            (decoder.decode_msgpack, msgspec.msgpack.encode(wrong), msgspec.msgpack.Decoder(kind).decode),
        ):
            try:
                expected = reference(data)
            except msgspec.ValidationError:
                with pytest.raises(InvalidInput) as caught:
                    decode(data)
                assert all(error["path"].startswith(field) or "must not be after" in error["message"] for error in caught.value.errors), (
                    name
                )
            else:
                assert decode(data) == expected


@pytest.mark.parametrize("extra", ["is_admin", "id", "role", "__class__", "", "email "])
def test_fields_nobody_declared_are_refused_where_the_type_forbids_them(extra: str) -> None:
    """No mass assignment: the unknown name is told, at its place."""
    data = msgspec.json.encode({"email": "a@x", "items": [{"price": 1}], extra: True})
    with pytest.raises(InvalidInput) as caught:
        Decoder(Order).decode(data)
    assert [error["message"].partition(" (")[0] for error in caught.value.errors] == ["unknown field"]


class Money:
    """A type of the user's own, written as ``12 EUR``."""

    def __init__(self, amount: int, currency: str) -> None:
        self.amount = amount
        self.currency = currency


def _money(kind: type, value: Any) -> Any:
    assert kind is Money
    amount, _, currency = value.partition(" ")
    if not amount.isdigit():
        raise ValueError("money is written as 12 EUR")
    return Money(int(amount), currency)


class Bill(msgspec.Struct):
    total: Money
    number: int
    notes: list[Any] = []


def test_types_of_the_users_own_come_through_a_hook() -> None:
    """The hook makes the value; what it raises as ValueError is what the caller is told."""
    decoder: Decoder[Bill] = Decoder(Bill, hook=_money)
    assert decoder.decode(b'{"total":"12 EUR","number":1}').total.amount == 12
    assert decoder.decode_msgpack(encode_msgpack({"total": "12 EUR", "number": 1})).total.currency == "EUR"
    for data, errors in (
        (b'{"total":"x","number":"x"}', {"total": "money is written as 12 EUR", "number": "expected an integer, got a string"}),
        (b'{"total":"1 EUR","number":18446744073709551616}', {"number": "is out of range: 64 bits at most"}),
        (b'{"total":"1 EUR","number":1,"number":1}', {"number": "stands here twice"}),
    ):
        with pytest.raises(InvalidInput) as caught:
            decoder.decode(data)
        assert {error["path"]: error["message"] for error in caught.value.errors} == errors


class Odd(msgspec.Struct):
    number: int
    other: Any = threading.RLock
    price: decimal.Decimal = decimal.Decimal(1)


def test_a_default_that_has_no_wire_form_does_not_matter() -> None:
    """Only what comes in is looked at."""
    for decode, form in ((Decoder(Odd).decode, encode), (Decoder(Odd).decode_msgpack, encode_msgpack)):
        assert decode(form({"number": 1})).other is threading.RLock
    with pytest.raises(InvalidInput):
        Decoder(Odd).decode(b'{"number":18446744073709551616}')


class Sum(msgspec.Struct):
    parts: list[int]
    extra: dict[str, int] = {}

    def __post_init__(self) -> None:
        self.parts.append(sum(self.parts))
        self.extra = {"a": 1, "b": 2}


def test_a_value_that_changes_itself_hides_no_doubled_key() -> None:
    """What `__post_init__` adds does not count as given."""
    assert Decoder(Sum).decode(b'{"parts":[1,2]}').parts == [1, 2, 3]
    assert reasons(Sum, b'{"parts":[1],"parts":[2],"x":1}') == {"parts": "stands here twice"}


class Line(msgspec.Struct):
    price: int


class Basket(msgspec.Struct):
    lines: list[Line]

    def __post_init__(self) -> None:
        self.lines += [Line(1), Line(2)]


def test_what_a_value_adds_to_its_lists_hides_no_doubled_key() -> None:
    """The two lines that it adds are as many keys as the doubled list brought."""
    assert len(Decoder(Basket).decode(b'{"lines":[{"price":7}]}').lines) == 3
    assert reasons(Basket, b'{"lines":[{"price":7}],"lines":[{"price":7}]}') == {"lines": "stands here twice"}


class Parcel(msgspec.Struct, forbid_unknown_fields=True):
    number: int
    line: Line


def test_a_doubled_key_of_a_nested_struct_is_found_in_both_forms() -> None:
    """Also where the whole has just as many keys as it should."""
    assert reasons(Parcel, b'{"number":1,"line":{"price":1,"price":2}}') == {"line.price": "stands here twice"}
    inner, outer = b"\x82\xa6number\x01\xa4line\x82\xa5price\x01\xa5price\x02", b"\x83\xa6number\x01\xa6number\x02\xa4line\x81\xa5price\x01"
    for data in (inner, outer):
        with pytest.raises(InvalidInput):
            Decoder(Parcel).decode_msgpack(data)


def test_a_type_that_nests_deeper_than_the_limit_does_not_lift_it() -> None:
    """The limit is that of the document."""
    decoder: Decoder[Any] = Decoder(list[list[list[list[int]]]], Limits(depth=3))
    assert decoder.decode(b"[[[]]]") == decoder.decode_msgpack(b"\x91\x91\x90") == [[[]]]
    for decode, data in ((decoder.decode, b"[[[[]]]]"), (decoder.decode_msgpack, b"\x91\x91\x91\x90")):
        with pytest.raises(InvalidInput):
            decode(data)


def test_raw_parts_are_kept_as_they_came_but_checked() -> None:
    """A part that is decoded later obeys the same rules now."""

    class Envelope(msgspec.Struct):
        body: msgspec.Raw

    assert bytes(Decoder(Envelope).decode(b'{"body":{"a" : 1}}').body) == b'{"a" : 1}'
    assert reasons(Envelope, b'{"body":{"a":1,"a":2}}') == {"body.a": "stands here twice"}
    assert reasons(Envelope, b'{"body":' + b"[" * 64 + b"]" * 64 + b"}") == {"": "is nested deeper than 64 levels"}


class Colour(NamedTuple):
    red: int


class Car(TypedDict):
    seats: int


@dataclasses.dataclass
class Wheel:
    size: float


@pytest.mark.parametrize(
    "value",
    [
        None,
        1,
        "é",
        [1, {"a": (2,)}],
        {1: 2},
        {"x"},
        Item(decimal.Decimal("1.5")),
        Colour(1),
        Car(seats=4),
        Wheel(1.5),
        Status.GONE,
        uuid.UUID(int=7),
        dt.datetime(2026, 1, 2, tzinfo=dt.UTC),
        dt.timedelta(hours=1),
        b"\x00",
        decimal.Decimal("1.10"),
    ],
)
def test_what_handlers_return_is_encoded(value: Any) -> None:
    """All that msgspec knows, in both forms, decodes again."""
    assert Decoder(Any).decode(encode(value)) == json.loads(json.dumps(msgspec.to_builtins(value, str_keys=True)))
    Decoder(Any).decode_msgpack(encode_msgpack(value))


def _own() -> list[Any]:
    found: list[Any] = []
    found.append(found)
    return found


@pytest.mark.parametrize("value", [object(), threading.Lock(), {"a": [object()]}, _own(), "\ud800", {(1, 2): 3}, {"a": 1, object(): 2}])
def test_what_cannot_be_encoded_is_one_error(value: Any) -> None:
    """Whatever msgspec raises for it, the kernel sees `Unencodable`, with the cause."""
    with pytest.raises(Unencodable) as caught:
        encode(value)
    assert caught.value.__cause__ is not None
    if not isinstance(value, dict) or (1, 2) not in value:
        with pytest.raises(Unencodable):
            encode_msgpack(value)


def test_a_huge_integer_cannot_be_sent_as_messagepack() -> None:
    """It has 64 bits there; JSON has no limit, but we take none back."""
    with pytest.raises(Unencodable):
        encode_msgpack(2**64)


def test_a_large_document_leaves_no_room_taken() -> None:
    """What it took to look at the integers of one is given back."""
    decode = Decoder(dict[str, int | str]).decode
    document = b'{"a": 1234567890123456789, "b": "' + b"x" * 2_000_000 + b'"}'
    tracemalloc.start()
    try:
        assert decode(document)["a"] == 1234567890123456789
        assert tracemalloc.get_traced_memory()[0] < 1_000_000
    finally:
        tracemalloc.stop()
