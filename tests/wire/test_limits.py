"""Limits of decimals: `Meta` on a `Decimal`, which msgspec leaves to us."""

from decimal import Decimal
from typing import Annotated, Any, NewType

import msgspec
import pytest
from msgspec import Meta

from cliffracer.database import Model
from cliffracer.errors import InvalidInput, SetupError
from cliffracer.signature import read
from cliffracer.wire.codecs import Decoder, encode_msgpack
from cliffracer.wire.limits import limits_in, translated
from cliffracer.wire.text import TextDecoder

Money = NewType("Money", Annotated[Decimal, Meta(ge=0, lt=1000)])


class Priced(Model):
    price: Annotated[Decimal, Meta(ge=0, le=99.5, multiple_of=0.05, description="in euros")]
    rebate: Annotated[Decimal | None, Meta(gt=0)] = None
    tax: "Annotated[Decimal, Meta(lt=1)] | None" = None


class Cheaper(Priced, rename="camel"):
    rebate: Decimal | None = None
    old_price: Money = Money(Decimal(1))


class Basket(msgspec.Struct):
    rows: list[Priced]
    by_name: dict[str, Priced] = {}


def refused(decode: Any, data: Any) -> list[tuple[str, str]]:
    with pytest.raises(InvalidInput) as caught:
        decode(data)
    return [(error["path"], error["message"]) for error in caught.value.errors]


@pytest.mark.parametrize(
    ("text", "errors"),
    [
        ('{"price": -0.05}', [("price", "must be at least 0")]),
        ('{"price": "99.55"}', [("price", "must be at most 99.5")]),
        ('{"price": "0.07", "rebate": 0}', [("price", "must be a multiple of 0.05"), ("rebate", "must be greater than 0")]),
        ('{"price": 1, "tax": "1.0"}', [("tax", "must be less than 1")]),
        (
            '{"price": -1, "tax": 5, "id": "x"}',
            [("id", "expected a UUID"), ("price", "must be at least 0"), ("tax", "must be less than 1")],
        ),
        ('{"price": "1E+5000", "tax": "NaN"}', None),
    ],
)
def test_limits_of_a_decimal_hold_in_json_and_msgpack(text, errors):
    """A decimal beyond its limits is refused by the name of its field, with every other reason."""
    decoder = Decoder(Priced)
    for decode, data in ((decoder.decode, text.encode()), (decoder.decode_msgpack, encode_msgpack(msgspec.json.decode(text)))):
        found = refused(decode, data)
        assert found == errors or (errors is None and {path for path, _ in found} >= {"tax"})


def test_what_is_within_its_limits_is_taken():
    """Numbers and texts, to the last digit: 0.1 is the decimal, not the nearest float."""
    decode = Decoder(Priced).decode
    for price in ("0", "0.05", '"99.5"', '"0.10"', "1E+1"):
        assert decode(f'{{"price": {price}, "rebate": null, "tax": "0.99"}}'.encode()).price == Decimal(price.strip('"'))


def test_limits_hold_at_any_depth_and_in_subclasses():
    """The path leads to the value; a field that is declared anew has its own limits only."""
    data = b'{"rows": [{"price": 1}, {"price": -5}], "by_name": {"a": {"price": 100}}}'
    assert refused(Decoder(Basket).decode, data) == [("rows[1].price", "must be at least 0"), ("by_name.a.price", "must be at most 99.5")]
    decode = Decoder(Cheaper).decode
    assert decode(b'{"price": 1, "rebate": -1}').rebate == -1
    assert refused(decode, b'{"price": -1, "oldPrice": "1000"}') == [
        ("price", "must be at least 0"),
        ("oldPrice", "must be less than 1000"),
    ]


def test_limits_of_parameters():
    """A handler's own parameters have them too, by name, by position, as text and as a whole payload."""

    def pay(amount: Annotated[Decimal, Meta(gt=0)], tip: Money = Money(Decimal(0))) -> None: ...

    signature = read(pay)
    assert refused(Decoder(signature.arguments()).decode, b'{"amount": 0, "tip": -1}') == [
        ("amount", "must be greater than 0"),
        ("tip", "must be at least 0"),
    ]
    assert refused(Decoder(signature.arguments(array=True)).decode, b"[1, -1]") == [("tip", "must be at least 0")]
    assert refused(TextDecoder(signature.arguments()).decode, {"amount": "-0.5"}) == [("amount", "must be greater than 0")]
    whole = Decoder(signature.accepts[0].annotation)
    assert whole.decode(b"1.5") == Decimal("1.5")
    assert refused(whole.decode, b"-1.5") == [("", "must be greater than 0")]


def test_annotations_without_limits_stay_the_same():
    """Nothing is made anew that needs no translation; words of a Meta stay with msgspec."""
    for annotation in (Decimal, int | None, Annotated[int, Meta(ge=0)], Annotated[Decimal, Meta(title="x")], list[int], Any):
        assert translated(annotation) is annotation
    made = translated(Annotated[Decimal, Meta(ge=0, description="d")])
    assert [limits.meta for limits in limits_in(made)] == [Meta(ge=0)]
    assert msgspec.json.schema(Priced)["$defs"]["Priced"]["properties"]["price"]["description"] == "in euros"
    assert msgspec.json.decode(b'{"price": 1}', type=Priced).price == 1


class Plain(msgspec.Struct):
    inner: list[Annotated[Decimal, Meta(ge=0)]]


def test_limits_where_nobody_checks_them_are_told():
    """Elsewhere a Decimal with limits is a set-up error that names the place and the cure, not msgspec's riddle."""
    with pytest.raises(SetupError, match=r"Plain\.inner: limits on a Decimal.*check the value"):
        Decoder(dict[str, Plain])
    with pytest.raises(SetupError, match="numeric type"):
        Decoder(Annotated[str, Meta(ge=0)])
