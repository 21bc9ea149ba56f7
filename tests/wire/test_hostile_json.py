"""JSON from strangers: whatever the bytes, a value that strict JSON has, or `InvalidInput`; never another exception."""

import json
import tracemalloc
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cliffracer.errors import InvalidInput
from cliffracer.wire.codecs import Decoder, Limits
from cliffracer.wire.strict import MOST, faults
from tests.wire.types_and_values import Tree, anything, nearly


class Item(msgspec.Struct):
    price: int
    tags: list[str] = []


class Order(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    items: list[Item]
    note: str | None = None
    extra: dict[str, Any] = {}


class Flat(msgspec.Struct, forbid_unknown_fields=True):
    number: int
    name: str
    ratio: float


KINDS: list[Any] = [
    Any,
    Order,
    Flat,
    Item,
    Tree,
    int,
    float,
    str,
    list[Item],
    dict[str, Any],
    dict[str, int],
    list[Any],
    set[Any],
    Order | None,
]
DECODERS = [Decoder(kind) for kind in KINDS]
SAMPLES = [
    b'{"name":"Ada","items":[{"price":1,"tags":["a","b"]},{"price":2}],"note":null,"extra":{"a":{"b":[1,2.5,true]}}}',
    b'{"number":7,"name":"Ada","ratio":1.5}',
    '{"name": "\u00e9\u4e2d\U0001f600\\u00e9\\ud83d\\ude00", "children": [{"name": "", "children": []}]}'.encode(),
    b'[1,-2,3.5e3,"x",null,true,false,{},[],[[]],{"a":{}}]',
    b'  {"price" : 5 ,\n"tags":[ ]\t}\r\n ',
]


class Strict:
    """What a document is to a reader that allows nothing: keys once, numbers of 64 bits, UTF-8, 64 levels."""

    def __init__(self, depth: int = 64) -> None:
        self.depth = depth

    def accepts(self, data: bytes) -> bool:
        try:
            value = json.loads(
                data.decode(), object_pairs_hook=self._once, parse_int=self._integer, parse_float=self._float, parse_constant=self._no
            )
            json.dumps(value, ensure_ascii=False).encode()
        except (ValueError, RecursionError):
            return False
        return _deep(value) <= self.depth

    @staticmethod
    def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) != len(pairs):
            raise ValueError("twice")
        return dict(pairs)

    @staticmethod
    def _integer(text: str) -> int:
        value = int(text)
        if not -(2**63) <= value < 2**64:
            raise ValueError("large")
        return value

    @staticmethod
    def _float(text: str) -> float:
        value = float(text)
        if value in (float("inf"), -float("inf")):
            raise ValueError("large")
        return value

    @staticmethod
    def _no(text: str) -> Any:
        raise ValueError(text)


def _deep(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(_deep, value.values()), default=0)
    return 1 + max(map(_deep, value), default=0) if isinstance(value, list) else 0


def attempt(decoder: Decoder[Any], data: bytes) -> tuple[bool, Any]:
    """Decode, where only `InvalidInput` may be raised, and only with reasons."""
    try:
        return True, decoder.decode(data)
    except InvalidInput as error:
        reasons = error.errors
    assert 1 <= len(reasons) <= decoder.limits.errors + 1
    return False, None


def check(data: bytes) -> None:
    """Decode bytes as every type; what is accepted must be strict JSON, and what Any refuses must not be."""
    strict = Strict().accepts(data)
    accepted = [attempt(decoder, data)[0] for decoder in DECODERS]
    assert accepted[0] == strict
    assert strict or not any(of for of, kind in zip(accepted, KINDS, strict=True) if kind is not float)


@pytest.mark.parametrize("sample", SAMPLES)
def test_a_text_cut_anywhere_is_refused_or_whole(sample: bytes) -> None:
    """Each prefix of a sample is handled as strict JSON would be."""
    for end in range(len(sample) + 1):
        check(sample[:end])


MUTATIONS = [
    b"\xef\xbb\xbf",
    b"\x00",
    b"\xff",
    b"\xed\xa0\x80",
    b"\xc0\xaf",
    b",",
    b":",
    b'"',
    b"\\",
    b"\\ud800",
    b"{",
    b"}",
    b"[",
    b"]",
    b"NaN",
    b"-",
    b"0",
    b"1e400",
]


@given(
    st.sampled_from(SAMPLES),
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 3), st.sampled_from(MUTATIONS) | st.binary(max_size=3))),
)
@settings(max_examples=600, deadline=None)
def test_a_mangled_text_is_refused_or_strict(sample: bytes, changes: list[tuple[int, int, bytes]]) -> None:
    """Bytes put in, taken out and replaced never lead to anything but a strict value or `InvalidInput`."""
    for at, removed, added in changes[:3]:
        sample = sample[:at] + added + sample[at + removed :]
    check(sample)


@given(st.binary(max_size=40))
@settings(max_examples=400, deadline=None)
def test_random_bytes_are_refused_or_strict(data: bytes) -> None:
    """Noise is no reason to fail otherwise."""
    check(data)


@given(anything)
@settings(max_examples=300, deadline=None)
def test_good_json_goes_through(value: Any) -> None:
    """What is strict JSON decodes to itself, however it is spaced and escaped."""
    for text in (
        json.dumps(value),
        json.dumps(value, indent=1),
        json.dumps(value, ensure_ascii=False),
        json.dumps(value, separators=(" ,", " : ")),
    ):
        assert Decoder(Any).decode(text.encode()) == value


@st.composite
def doubled(draw: st.DrawFn) -> tuple[bytes, bool]:
    """Draw an object text whose keys may stand twice, and whether one does."""
    pairs = draw(st.lists(st.tuples(st.sampled_from(["a", "b", "name", "c:d", 'e":', ""]), anything), max_size=6))
    escape = draw(st.booleans())
    space = draw(st.sampled_from(["", " ", "\n\t"]))
    written = [
        ("".join(f"\\u{ord(c):04x}" for c in name) if escape and i % 2 else json.dumps(name)[1:-1], value)
        for i, (name, value) in enumerate(pairs)
    ]
    text = ",".join(f'{space}"{name}"{space}:{json.dumps(value)}' for name, value in written)
    twice = len({name for name, _ in pairs}) != len(pairs)
    return draw(st.sampled_from(["{%s}", '[{"x":{%s}}]', '{"extra":{%s},"name":"","items":[]}'])).replace("%s", text).encode(), twice


@given(doubled())
@settings(max_examples=600, deadline=None)
def test_a_key_that_stands_twice_is_always_found(case: tuple[bytes, bool]) -> None:
    """At any level, escaped or spaced, and for any type that would take the document."""
    data, twice = case
    for decoder in DECODERS:
        if attempt(decoder, data)[0]:
            assert not twice
    assert attempt(DECODERS[0], data)[0] == (not twice)


@given(st.data())
@settings(max_examples=400, deadline=None)
def test_a_doubled_field_of_a_struct_is_always_found(data: st.DataObject) -> None:
    """A valid document to which one of its own keys is added again, with any value, is refused with that path."""
    kind = data.draw(st.sampled_from([Order, Flat, Item, Tree]))
    info = msgspec.inspect.type_info(kind)
    value = data.draw(nearly(info).filter(lambda found: isinstance(found, dict) and found))
    name = data.draw(st.sampled_from(sorted(value)))
    text = json.dumps(value)[:-1] + f",{json.dumps(name)}:{json.dumps(data.draw(anything))}}}"
    with pytest.raises(InvalidInput) as caught:
        Decoder(kind).decode(text.encode())
    assert any("stands here twice" in error["message"] for error in caught.value.errors)


@pytest.mark.parametrize("depth", [63, 64, 65, 100, 500, 1_000, 100_000])
@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}"), (b'[{"a":', b"}]")])
def test_nesting_beyond_the_limit_is_refused(depth: int, opening: bytes, closing: bytes) -> None:
    """64 levels decode, one more does not, and 100,000 are refused like 65."""
    levels = depth if opening != b'[{"a":' else depth // 2
    data = opening * levels + b"1" + closing * levels
    expected = levels * (opening.count(b"[") + opening.count(b"{")) <= 64
    assert attempt(Decoder(Any), data)[0] == expected
    unknown = b'{"price":1,"unknown":' + data + b"}"
    assert attempt(Decoder(Item), unknown)[0] == (_deep(json.loads(unknown)) <= 64 if depth < 500 else False)
    assert not attempt(Decoder(Any), data[:-1])[0]


def test_nesting_of_a_type_that_holds_itself_is_limited() -> None:
    """A tree of 65 levels of objects and arrays is refused."""
    for levels, expected in ((32, True), (33, False), (5_000, False)):
        data = b'{"name":"","children":[' * levels + b"]}" * levels
        assert attempt(Decoder(Tree), data)[0] == expected


def test_brackets_in_strings_and_beside_each_other_do_not_count() -> None:
    """Only how deep brackets nest is limited, not how many there are."""
    Decoder(Any).decode(json.dumps(["[{" * 100, *[[]] * 1000, {"a": '"[[[[' * 100}]).encode())


NUMBERS = [
    "0",
    "-0",
    "2147483648",
    "-2147483649",
    "9007199254740993",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "-9223372036854775808",
]


@pytest.mark.parametrize("text", NUMBERS)
def test_integers_of_64_bits_are_exact(text: str) -> None:
    """Up to 2**64 - 1 and down to -2**63, as MessagePack has them."""
    assert Decoder(int).decode(text.encode()) == int(text)
    assert Decoder(Flat).decode(b'{"number":%s,"name":"","ratio":0}' % text.encode()).number == int(text)
    assert Decoder(dict[str, Any]).decode(b'{"a":[%s]}' % text.encode()) == {"a": [int(text)]}


@pytest.mark.parametrize(
    "text", ["18446744073709551616", "-9223372036854775809", "1" * 25, "1" * 4_300, "-" + "9" * 5_000, "1" * 10_000, "1" * 1_000_000]
)
def test_larger_integers_are_refused_with_their_place(text: str) -> None:
    """For int, and where no type is asked for; at once, however many digits."""
    number = text.encode()
    for kind, data, path in (
        (int, number, ""),
        (Any, b'{"a":[0,%s]}' % number, "a[1]"),
        (Flat, b'{"number":%s,"name":"","ratio":0}' % number, "number"),
        (list[Item], b'[{"price":%s}]' % number, "[0].price"),
        (int | None, number, ""),
        (dict[str, int | str], b'{"a":%s}' % number, "a"),
    ):
        with pytest.raises(InvalidInput) as caught:
            Decoder(kind).decode(data)
        assert caught.value.errors == [{"path": path, "message": "is out of range: 64 bits at most"}]


def test_larger_integers_are_refused_as_keys() -> None:
    """A key that stands for an integer has the same range."""
    assert not attempt(Decoder(dict[int, int]), b'{"18446744073709551616":1}')[0]
    assert Decoder(dict[int, int]).decode(b'{"18446744073709551615":1}') == {2**64 - 1: 1}


def test_a_float_takes_large_integers_as_json_does() -> None:
    """The range of 64 bits is that of integers; a float has its own."""
    assert Decoder(float).decode(b"1" + b"0" * 30) == 1e30
    assert not attempt(Decoder(float), b"1" + b"0" * 400)[0]


@pytest.mark.parametrize(
    "text", [b"NaN", b"Infinity", b"-Infinity", b"1e400", b"-1e400", b"nan", b"+1", b"01", b"1.", b".5", b"0x1", b"1_0"]
)
def test_what_is_no_json_number_is_refused(text: bytes) -> None:
    """Not a number, infinities and numbers written as other languages do."""
    for kind in (Any, float, int, list[float], dict[str, float]):
        for data in (text, b"[%s]" % text, b'{"a":%s}' % text):
            assert not attempt(Decoder(kind), data)[0]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b" ",
        b"\n\t",
        b"\xef\xbb\xbf1",
        '"a"'.encode("utf-16"),
        '"a"'.encode("utf-16-le"),
        '{"a":1}'.encode("utf-32"),
        b"1 2",
        b"{}{}",
        b"[1]x",
        b"\x00",
        b"nul",
        b"'a'",
    ],
)
def test_what_is_no_json_text_is_refused(data: bytes) -> None:
    """Empty bodies, byte order marks, other encodings, more than one value."""
    for decoder in DECODERS:
        assert not attempt(decoder, data)[0]


INVALID = [b"\x80", b"\xbf", b"\xc0\x80", b"\xc1\xbf", b"\xc2", b"\xc2\x00", b"\xe0\x80\x80", b"\xe0\xa0", b"\xed\xa0\x80", b"\xed\xbf\xbf"]
INVALID += [
    b"\xef\xbf",
    b"\xf0\x80\x80\x80",
    b"\xf0\x9f\x98",
    b"\xf4\x90\x80\x80",
    b"\xf5\x80\x80\x80",
    b"\xf8\x88\x80\x80\x80",
    b"\xfc",
    b"\xfe",
    b"\xff",
]


@pytest.mark.parametrize("invalid", INVALID)
def test_bytes_that_are_not_utf_8_are_refused_everywhere(invalid: bytes) -> None:
    """In values, in keys, and in fields that nobody asked for."""
    for kind, data in (
        (str, b'"%s"'),
        (Any, b'{"%s":1}'),
        (Item, b'{"price":1,"unknown":"%s"}'),
        (Item, b'{"price":1,"%s":1}'),
        (Flat, b'{"number":1,"ratio":1,"name":"%s"}'),
    ):
        assert not attempt(Decoder(kind), data % invalid)[0]


@pytest.mark.parametrize("escape", [b"\\ud800", b"\\udfff", b"\\ud800\\u0041", b"\\ude00\\ud83d"])
def test_half_a_surrogate_pair_is_refused(escape: bytes) -> None:
    """It stands for no character, and cannot be written as UTF-8 later."""
    for kind, data in ((str, b'"%s"'), (Any, b'{"%s":1}'), (Item, b'{"price":1,"unknown":"%s"}')):
        assert not attempt(Decoder(kind), data % escape)[0]


@pytest.mark.parametrize("text", ["\x00", "\x1b[31m", "\u202e", "\u2028", "e\u0301", "\u00e9", "\U0001f600", "x" * 1_000_000])
def test_every_other_character_goes_through_unchanged(text: str) -> None:
    """NUL, escape sequences and both forms of an accent are the caller's business, byte for byte."""
    assert Decoder(str).decode(json.dumps(text).encode()) == text


def test_errors_are_counted_but_not_without_end() -> None:
    """A list of 100,000 wrong items gets a hundred reasons and one that there are more."""
    with pytest.raises(InvalidInput) as caught:
        Decoder(list[int]).decode(json.dumps(["x"] * 100_000).encode())
    assert len(caught.value.errors) == 101
    assert caught.value.errors[99]["path"] == "[99]"
    assert "only the first 100" in caught.value.errors[100]["message"]


HALF = "\ud800"


@pytest.mark.parametrize(
    "value",
    [[HALF] * 3000, {f"{n}": HALF for n in range(3000)}, {f"{HALF}{n}": 1 for n in range(3000)}, [{HALF: 1}] * 3000],
    ids=["items", "values", "keys", "keys of many"],
)
def test_faults_are_looked_for_until_there_are_enough(value: Any) -> None:
    """To find all of them, and the way to each, would take a stranger's message of a megabyte some seconds."""
    assert len(faults(value, {})) == MOST
    assert [fault.path for fault in faults({"a": [HALF, "b", {HALF: HALF}]}, {})] == ["a[0]", *['a[2]["\\ud800"]'] * 2]


@pytest.mark.parametrize("kept", [b'"\\ud800"', b"[" * 65 + b"]" * 65, b'{"a":1,"a":2}'])
def test_what_is_kept_as_text_is_looked_at_too(kept: bytes) -> None:
    """A part of any kind, which msgspec only skips, holds nothing that is refused elsewhere."""
    decoder = Decoder(msgspec.defstruct("Kept", [("raw", msgspec.Raw)]))
    assert bytes(decoder.decode(b'{"raw":[1]}').raw) == b"[1]"
    with pytest.raises(InvalidInput):
        decoder.decode(b'{"raw":%b}' % kept)


def test_the_limits_can_be_set() -> None:
    """Depth and number of listed errors belong to the decoder."""
    decoder: Decoder[Any] = Decoder(list[Any], Limits(depth=2, errors=3))
    assert decoder.decode(b"[[1]]") == [[1]]
    assert not attempt(decoder, b"[[[1]]]")[0]


def test_refusing_takes_little_memory() -> None:
    """Refusing a document of 1 MiB takes a small multiple of its size."""
    data = b"[" + b'{"price":"x"},' * 74_000 + b"1]"
    tracemalloc.start()
    assert not attempt(Decoder(list[Item]), data)[0]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 64 * len(data)
