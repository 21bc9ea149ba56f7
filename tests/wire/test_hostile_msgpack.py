"""MessagePack from strangers: whatever the bytes, a value or `InvalidInput`, soon, and in little memory."""

import datetime as dt
import decimal
import random
import resource
import struct
import uuid
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cliffracer.errors import InvalidInput
from cliffracer.wire.codecs import Decoder
from tests.wire.test_hostile_json import Flat, Item, Order, attempt
from tests.wire.types_and_values import Tree

KINDS: list[Any] = [
    Any,
    Order,
    Flat,
    Item,
    Tree,
    int,
    float,
    str,
    bytes,
    dt.datetime,
    uuid.UUID,
    decimal.Decimal,
    list[Item],
    dict[str, Any],
    set[Any],
]
DECODERS = [Decoder(kind) for kind in KINDS]
encode = msgspec.msgpack.encode


def refused(decoder: Decoder[Any], data: bytes) -> bool:
    """Say whether a decoder refuses; only `InvalidInput` may be raised, and only with reasons."""
    try:
        decoder.decode_msgpack(data)
    except InvalidInput as error:
        reasons = error.errors
    else:
        return False
    assert reasons
    return True


SAMPLES = [
    encode(
        {"name": "Ada", "items": [{"price": 1, "tags": ["a", "b"]}, {"price": 300}], "note": None, "extra": {"a": {"b": [1, 2.5, True]}}}
    ),
    encode({"number": 7, "name": "x" * 40, "ratio": 1.5}),
    encode([1, -2, 70_000, 2**40, -(2**40), 3.5, "x", b"y" * 300, None, True, {}, [], {"a": {1: 2}}, list(range(20))]),
    encode(
        [dt.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=dt.UTC), msgspec.msgpack.Ext(5, b"12345"), uuid.UUID(int=1), decimal.Decimal("1.5")]
    ),
]


@pytest.mark.parametrize("sample", SAMPLES)
def test_a_document_cut_anywhere_is_refused(sample: bytes) -> None:
    """No prefix of a document is a document, for any type; nor is a document with a byte after it."""
    for end in range(len(sample)):
        assert all(refused(decoder, sample[:end]) for decoder in DECODERS)
    assert all(refused(decoder, sample + b"\xc0") for decoder in DECODERS)
    assert not refused(DECODERS[0], sample)


@given(st.binary(max_size=60))
@settings(max_examples=2_500, deadline=None)
def test_random_bytes_are_decoded_or_refused(data: bytes) -> None:
    """Noise leads to a value or to `InvalidInput`; what is taken for anything is what msgspec takes it for."""
    for decoder in DECODERS:
        refused(decoder, data)
    if not refused(DECODERS[0], data):
        assert msgspec.msgpack.encode(Decoder(Any).decode_msgpack(data)) == msgspec.msgpack.encode(msgspec.msgpack.decode(data))


@given(st.sampled_from(SAMPLES), st.lists(st.tuples(st.integers(0, 120), st.integers(0, 3), st.binary(max_size=3)), max_size=3))
@settings(max_examples=1_000, deadline=None)
def test_a_mangled_document_is_decoded_or_refused(sample: bytes, changes: list[tuple[int, int, bytes]]) -> None:
    """Bytes put in, taken out and replaced never lead to anything else."""
    for at, removed, added in changes:
        sample = sample[:at] + added + sample[at + removed :]
    for decoder in DECODERS:
        refused(decoder, sample)


HEADS = {"array": b"\xdd", "map": b"\xdf", "str": b"\xdb", "bin": b"\xc6", "ext": b"\xc9"}
SHORT = {"array": b"\xdc", "map": b"\xde", "str": b"\xda", "bin": b"\xc5", "ext": b"\xc8"}


def test_documents_that_promise_more_than_they_hold_cost_nothing() -> None:
    """5,000 length bombs, alone, nested and in fields, for every type, grow the process by less than 8 MiB."""
    bombs = [
        head + struct.pack(">I", 2**power - less)
        for head in HEADS.values()
        for power in range(8, 33)
        for less in (0, 1)
        if 2**power - less < 2**32
    ]
    bombs += [head + struct.pack(">H", 2**power - 1) for head in SHORT.values() for power in range(8, 17)]
    inside = [b"%s", b"\x91%s", b"\x81\xa5items%s", b"\x82\xa4name%s", b"\x81%s\x01", b"\x91" * 60 + b"%s"]
    documents = [form.replace(b"%s", bomb + filler) for bomb in bombs for form in inside for filler in (b"", b"\xc0", b"\xc0" * 64)]
    assert len(documents) > 5_000
    for data in documents[::40]:  # what is made once, is made before the measuring
        refused(DECODERS[0], data)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number, data in enumerate(documents):
        assert refused(DECODERS[0], data)
        refused(DECODERS[number % len(DECODERS)], data)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 8 * 1024


@pytest.mark.parametrize("depth", [63, 64, 65, 100, 1_000, 1_000_000])
@pytest.mark.parametrize("opening", [b"\x91", b"\x81\xa1a", b"\xdc\x00\x01", b"\xdf\x00\x00\x00\x01\x01"])
def test_nesting_beyond_the_limit_is_refused(depth: int, opening: bytes) -> None:
    """64 levels decode, one more does not, whether the document is whole or cut."""
    data = opening * depth + b"\x01"
    assert refused(Decoder(Any), data) == (depth > 64)
    assert refused(Decoder(Item), b"\x82\xa5price\x01\xa7unknown" + data) == (depth > 63)
    assert refused(Decoder(Any), data[:-1])


def test_many_small_containers_are_not_deep() -> None:
    """Only how deep containers nest is limited, not how many there are."""
    assert Decoder(Any).decode_msgpack(encode([[]] * 1000 + [{}] * 1000)) == [[]] * 1000 + [{}] * 1000


class Written:
    """Writes MessagePack with pairs as they come and widths by chance, so that the test knows what is in it."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance

    def text(self, value: str) -> bytes:
        data = value.encode()
        forms = [
            bytes([0xA0 | len(data)]),
            b"\xd9" + bytes([len(data)]),
            b"\xda" + struct.pack(">H", len(data)),
            b"\xdb" + struct.pack(">I", len(data)),
        ]
        return self._chance.choice(forms) + data

    def integer(self, value: int) -> bytes:
        forms = [bytes([value]), b"\xcc" + bytes([value]), b"\xd1" + struct.pack(">h", value), b"\xcf" + struct.pack(">Q", value)]
        return self._chance.choice(forms)

    def head(self, count: int, fixed: int, short: bytes, long: bytes) -> bytes:
        return self._chance.choice([bytes([fixed | count]), short + struct.pack(">H", count), long + struct.pack(">I", count)])

    def value(self, value: Any) -> bytes:
        if isinstance(value, tuple):  # pairs
            return self.head(len(value), 0x80, b"\xde", b"\xdf") + b"".join(self.value(part) for pair in value for part in pair)
        if isinstance(value, list):
            return self.head(len(value), 0x90, b"\xdc", b"\xdd") + b"".join(map(self.value, value))
        return self.text(value) if isinstance(value, str) else self.integer(value)


def _twice(value: Any) -> bool:
    if isinstance(value, tuple):
        return len({name for name, _ in value}) != len(value) or any(_twice(below) for _, below in value)
    return isinstance(value, list) and any(map(_twice, value))


trees = st.recursive(
    st.integers(0, 100) | st.sampled_from(["", "a", "b"]),
    lambda below: st.lists(below, max_size=3) | st.lists(st.tuples(st.sampled_from(["a", "b", "c", 1, 2]), below), max_size=4).map(tuple),
    max_leaves=12,
)


@given(trees, st.randoms(use_true_random=False))
@settings(max_examples=1_500, deadline=None)
def test_a_key_that_stands_twice_is_always_found(tree: Any, chance: random.Random) -> None:
    """At any level, however wide it is written; and a document without one is never refused for it."""
    data = Written(chance).value(tree)
    assert refused(Decoder(Any), data) == _twice(tree)


def test_doubled_keys_are_named() -> None:
    """The path of each is in the errors."""
    data = b"\x82\xa1a\x92\x01\x82\x01\xc0\xcc\x01\xc0\xa1a\x02"
    with pytest.raises(InvalidInput) as caught:
        Decoder(Any).decode_msgpack(data)
    assert caught.value.errors == [{"path": "a[1][1]", "message": "stands here twice"}, {"path": "a", "message": "stands here twice"}]


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_a_doubled_field_of_a_struct_is_always_found(data: st.DataObject) -> None:
    """In flat and nested types, with the map's size saying so or the key standing in for a missing one."""
    kind, value = data.draw(
        st.sampled_from([(Flat, {"number": 1, "name": "a", "ratio": 2.0}), (Item, {"price": 1, "tags": ["a"]}), (Item, {"price": 1})])
    )
    chosen = data.draw(st.sampled_from(sorted(value)))
    pairs = [*value.items(), (chosen, value[chosen])]
    document = bytes([0x80 | len(pairs)]) + b"".join(encode(name) + encode(part) for name, part in pairs)
    assert not refused(Decoder(kind), encode(value))
    assert refused(Decoder(kind), document)


@pytest.mark.parametrize(
    "number",
    [b"\xcb\x7f\xf8" + bytes(6), b"\xcb\x7f\xf0" + bytes(6), b"\xcb\xff\xf0" + bytes(6), b"\xca\x7f\xc0\x00\x00", b"\xca\xff\x80\x00\x00"],
)
def test_numbers_that_are_not_finite_are_refused(number: bytes) -> None:
    """MessagePack can carry them, JSON cannot: neither is taken."""
    for kind, form in (
        (float, b"%s"),
        (Any, b"\x91%s"),
        (Flat, b"\x83\xa6number\x01\xa4name\xa0\xa5ratio%s"),
        (list[float], b"\x91%s"),
        (dict[str, Any], b"\x81\xa1a%s"),
    ):
        assert refused(Decoder(kind), form.replace(b"%s", number))


def test_the_largest_floats_are_taken() -> None:
    """What only looks like an infinity in a first glance at the bytes is none."""
    assert Decoder(list[float]).decode_msgpack(encode([1.7e308, -1.7e308, 5e-324])) == [1.7e308, -1.7e308, 5e-324]


@pytest.mark.parametrize(
    "data",
    [
        b"\xc1",
        b"\xd6\xff\xff\xff\xff",
        b"\xd7\xff" + b"\xff" * 8,
        b"\xc7\x0c\xff" + b"\xff" * 12,
        b"\xc7\x0c\xff" + bytes(4) + b"\x7f" + b"\xff" * 7,
        b"\xc7\x00\xff",
        b"\xd4\xff\x00",
        b"\xa1\xff",
        b"\x81\xa1\xff\x01",
        b"\x81\x80\x01",
        b"\x81\x81\x01\x02\x03",
        b"\x82\xa5price\x01\xa1x\xc1",
        b"\x82\xa5price\x01\xa1x\xa1\xff",
    ],
)
def test_bad_timestamps_texts_and_keys_are_refused(data: bytes) -> None:
    """Timestamps out of range, text that is not UTF-8, keys that cannot be keys, codes that mean nothing; in unknown fields, too."""
    for decoder in DECODERS:
        assert refused(decoder, data)


def test_timestamps_and_binary_data_go_through() -> None:
    """What MessagePack has and JSON has not, is decoded to what its type says."""
    moment = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
    assert Decoder(dt.datetime).decode_msgpack(encode(moment)) == moment
    assert Decoder(bytes).decode_msgpack(encode(b"\x00\xff")) == b"\x00\xff"
    assert Decoder(uuid.UUID).decode_msgpack(b"\xc4\x10" + bytes(16)) == uuid.UUID(int=0)
    assert Decoder(dict[int, str]).decode_msgpack(encode({1: "a"})) == {1: "a"}


def test_json_and_msgpack_do_not_share_their_refusals() -> None:
    """One decoder serves both forms."""
    decoder: Decoder[Any] = Decoder(bytes)
    assert decoder.decode(b'"YQ=="') == b"a"
    assert refused(decoder, encode("YQ=="))
    assert not attempt(decoder, b'"?"')[0]


@pytest.mark.parametrize("fields", [1, 15, 16, 94, 95, 255])
def test_a_key_that_stands_twice_is_found_among_many(fields: int) -> None:
    """Whatever byte a map of so many begins with."""
    names = [f"f{number}" for number in range(fields)]
    decoder = Decoder(msgspec.defstruct("Wide", [(name, int) for name in names]))
    entries = [msgspec.msgpack.encode(name) + b"\x01" for name in names]
    good = msgspec.msgpack.encode(dict.fromkeys(names, 1))
    assert decoder.decode_msgpack(good).f0 == 1
    with pytest.raises(InvalidInput) as caught:
        decoder.decode_msgpack(b"\xde" + (fields + 1).to_bytes(2, "big") + b"".join([entries[0], *entries]))
    assert caught.value.errors == [{"path": "f0", "message": "stands here twice"}]
