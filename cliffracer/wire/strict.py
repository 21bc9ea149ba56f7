"""Strict parsing of documents, for the slow path: where they are malformed, which keys are duplicate, what no type may hold.

msgspec keeps the last of two equal keys, skips unknown fields without checking them, and lets `RecursionError` and
`UnicodeDecodeError` escape. What it has accepted is only parsed here when a cheap probe leaves a doubt.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from itertools import accumulate, islice
from typing import Any, NamedTuple

from cliffracer.errors import FieldError
from cliffracer.wire.wording import Number, item, member

_STRINGS = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)', re.DOTALL)  # always matches, without backtracking: linear for any text
_STRING = re.compile(r'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_ZEROS = bytes.maketrans(b"123456789", b"0" * 9)
_DIGITS = b"0" * 19  # as many as the shortest integer beyond 64 bits has
_EXPONENT = re.compile(rb"[0-9][eE]")
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_BRACKETS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
_OTHERS = bytes(set(range(256)) - set(b"[]{}"))
_BLANK = " \t\n\r"
_LOW, _HIGH = -(2**63), 2**64 - 1
TWICE = "stands here twice"
MOST = 1000  # faults of one document that are reported
TOO_LARGE = "is out of range: 64 bits at most"


class Malformed(ValueError):
    """A document that cannot be read; the text says where and why."""


class Document(NamedTuple):
    """A document as builtin values, and its faults that are independent of the type."""

    value: Any
    errors: list[FieldError]
    unusual: bool
    """Whether there is a `Number` in it."""


Step = tuple[int, Any, Any]
"""A container on the way down: (index of its parent, name in the parent, the container)."""


def nesting(data: bytes) -> int:
    """Return how deep the brackets of a JSON text nest, outside strings; exact for well-formed text, approximate for others."""
    steps = _STRINGS.sub(b"", data).translate(_BRACKETS, _OTHERS)
    return max(accumulate(memoryview(steps).cast("b")), default=0)


def read_json(data: bytes, depth: int) -> Document:
    """Return a JSON document; `Malformed` with the position if it is invalid, or nests deeper than ``depth``."""
    text = _text(data)
    if nesting(data) > depth:
        raise Malformed(f"is nested deeper than {depth} levels")
    doubled: list[tuple[dict[str, Any], list[str]]] = []
    numbers: list[Number] = []

    def collect(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs) and len(doubled) < MOST:
            doubled.append((found, [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]))
        return found

    def number(text: str) -> int | float | Number:
        value = _number(text)
        if type(value) is Number:
            numbers.append(value)
        return value

    large = _DIGITS in data.translate(_ZEROS)
    whole, ratio = number if large else None, number if large or _EXPONENT.search(data) else None  # hooks cost more than all else
    reader = json.JSONDecoder(object_pairs_hook=collect, parse_int=whole, parse_float=ratio, parse_constant=number)
    start = len(text) - len(text.lstrip(_BLANK))
    try:
        value, end = reader.raw_decode(text, start)
    except json.JSONDecodeError as error:
        raise Malformed(_malformed(text, error.pos)) from None
    except RecursionError:  # malformed so that `nesting` was wrong
        raise Malformed(f"is nested deeper than {depth} levels") from None
    rest = text[end:].lstrip(_BLANK)
    if rest:
        raise Malformed(f"has text after the end of the JSON value, at {_place(text, len(text) - len(rest))}")
    suspect = doubled or numbers or _SURROGATE.search(data)
    errors = faults(value, {id(owner): names for owner, names in doubled}) if suspect else []
    return Document(value, errors, unusual=bool(numbers))


def _text(data: bytes) -> str:
    if not data.strip():
        raise Malformed("is empty; expected JSON")
    if data.startswith(b"\xef\xbb\xbf"):
        raise Malformed("starts with a byte order mark; send UTF-8 without one")
    if b"\x00" in data[:4] or data[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        raise Malformed("is not UTF-8 (UTF-16 or UTF-32, it seems)")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise Malformed(f"is not UTF-8: invalid at byte {error.start}") from None


def _malformed(text: str, position: int) -> str:
    rest = text[position:].strip(_BLANK)
    if not rest or (rest.startswith('"') and not _STRING.match(rest)):
        return "is not JSON: it ends too early"
    return f"is not JSON: malformed at {_place(text, position)}"


def _place(text: str, position: int) -> str:
    before = text[:position]
    return f"line {before.count(chr(10)) + 1}, column {position - before.rfind(chr(10))}"


def _number(text: str) -> int | float | Number:
    if text.lstrip("-").isdigit():
        whole = int(text) if len(text) <= 20 else 2**64
        return whole if _LOW <= whole <= _HIGH else Number(text)
    value = float(text)
    return value if math.isfinite(value) else Number(text)


def faults(value: Any, doubled: dict[int, list[str]]) -> list[FieldError]:
    """Return what no type accepts: duplicate keys, lone surrogates, numbers that are not finite; `MOST` of them."""
    return list(islice(_faults(value, doubled), MOST))


def _faults(value: Any, doubled: dict[int, list[str]]) -> Iterator[FieldError]:
    if not isinstance(value, dict | list):
        if fault := _fault(value):
            yield FieldError("", fault)
        return
    trail: list[Step] = [(-1, None, value)]
    for at, (_, _, owner) in enumerate(trail):  # grows while it is walked: no recursion
        if type(owner) is dict:
            yield from (FieldError(_path(trail, at, name), TWICE) for name in doubled.get(id(owner), ()))
            yield from (FieldError(_path(trail, at, name), fault) for name in owner if (fault := _fault(name)))
        for name, found in owner.items() if type(owner) is dict else enumerate(owner):
            if type(found) is dict or type(found) is list:
                trail.append((at, name, found))
            elif fault := _fault(found):
                yield FieldError(_path(trail, at, name), fault)


def _path(trail: list[Step], at: int, name: Any) -> str:
    """Return the path of ``name`` in the container ``at``; only made for faults."""
    names = [(at, name)]
    while trail[at][0] >= 0:
        above, own, _ = trail[at]
        names.append((above, own))
        at = above
    path = ""
    for owner, own in reversed(names):
        path = member(path, own) if type(trail[owner][2]) is dict else item(path, own)
    return path


def _fault(value: Any) -> str | None:
    if type(value) is str and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            return "has half of a surrogate pair, which is no character"
    if (type(value) is float and not math.isfinite(value)) or (type(value) is Number and not value.text[-1].isdigit()):
        return "must be a finite number"
    return None
