"""Documents read whole and strictly, for the slow path: where they are malformed, which keys stand twice, what no type may hold.

msgspec keeps the last of two equal keys, skips unknown fields without looking at them, and lets `RecursionError` and
`UnicodeDecodeError` out. What it accepted fast is only looked at here when a cheap probe leaves a doubt.
"""

import json
import math
import re
from itertools import accumulate
from typing import Any, NamedTuple

import msgspec

from cliffracer.errors import FieldError
from cliffracer.wire.wording import Number, item, member

_STRINGS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\Z)', re.DOTALL)
_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_BRACKETS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
_OTHERS = bytes(set(range(256)) - set(b"[]{}"))
_BLANK = " \t\n\r"
_LOW, _HIGH = -(2**63), 2**64 - 1
TWICE = "stands here twice"
TOO_LARGE = "is out of range: 64 bits at most"


class Malformed(ValueError):
    """A document that cannot be read; the text says where and why."""


class Document(NamedTuple):
    """A document as builtin values, and what is wrong with it whatever the type it should have."""

    value: Any
    errors: list[FieldError]


def nesting(data: bytes) -> int:
    """Return how deep the brackets of a JSON text nest (strings left out); right for well-formed text, near for others."""
    steps = _STRINGS.sub(b"", data).translate(_BRACKETS, _OTHERS)
    return max(accumulate(memoryview(steps).cast("b")), default=0)


def read_json(data: bytes, depth: int) -> Document:
    """Return a JSON document; `Malformed` with the position if it is none, or if it nests deeper than ``depth``."""
    text = _text(data)
    if nesting(data) > depth:
        raise Malformed(f"is nested deeper than {depth} levels")
    doubled: list[tuple[dict[str, Any], list[str]]] = []

    def collect(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            names = [name for name, _ in pairs]
            doubled.append((found, [name for name in found if names.count(name) > 1]))
        return found

    reader = json.JSONDecoder(object_pairs_hook=collect, parse_int=_integer, parse_float=_float, parse_constant=Number)
    start = len(text) - len(text.lstrip(_BLANK))
    try:
        value, end = reader.raw_decode(text, start)
    except json.JSONDecodeError as error:
        raise Malformed(_malformed(text, error.pos)) from None
    except RecursionError:  # malformed in a way that `nesting` did not see through
        raise Malformed(f"is nested deeper than {depth} levels") from None
    rest = text[end:].lstrip(_BLANK)
    if rest:
        raise Malformed(f"has text after the end of the JSON value, at {_place(text, len(text) - len(rest))}")
    return Document(value, _faults(value, {id(owner): names for owner, names in doubled}))


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


def _integer(text: str) -> int | Number:
    if len(text) > 20:
        return Number(text)
    value = int(text)
    return value if _LOW <= value <= _HIGH else Number(text)


def _float(text: str) -> float | Number:
    value = float(text)
    return value if math.isfinite(value) else Number(text)


def _faults(value: Any, doubled: dict[int, list[str]]) -> list[FieldError]:
    """Return what no type accepts: keys that stand twice, lone surrogates, numbers that are not finite."""
    if not isinstance(value, dict | list):
        return [FieldError("", fault)] if (fault := _fault(value)) else []
    errors: list[FieldError] = []
    todo: list[tuple[str, Any]] = [("", value)]
    for path, owner in todo:  # grows while it is walked: no recursion
        entries, below = (owner.items(), member) if type(owner) is dict else (enumerate(owner), item)
        if below is member:
            errors += [FieldError(member(path, name), TWICE) for name in doubled.get(id(owner), ())]
            errors += [FieldError(member(path, name), fault) for name in owner if (fault := _fault(name))]
        for name, found in entries:
            if type(found) is dict or type(found) is list:
                todo.append((below(path, name), found))
            elif fault := _fault(found):
                errors.append(FieldError(below(path, name), fault))
    return errors


def _fault(value: Any) -> str | None:
    if type(value) is str and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            return "has half of a surrogate pair, which is no character"
    if (type(value) is float and not math.isfinite(value)) or (type(value) is Number and not value.text[-1].isdigit()):
        return "must be a finite number"
    return None


def read_msgpack(data: bytes, depth: int) -> Document:
    """Return a MessagePack document; `Malformed` with the position if it is none, or if it nests deeper than ``depth``."""
    doubled = _scan(data, depth)
    try:
        value = msgspec.msgpack.decode(data)
    except (ValueError, TypeError, RecursionError):  # a timestamp out of range, text that is not UTF-8, a key that is a map
        raise Malformed("is not MessagePack that can be read: a timestamp, a text or a key in it is not valid") from None
    return Document(value, [FieldError(path, TWICE) for path in doubled] + _faults(value, {}))


_SIZES = {0xC0: 0, 0xC2: 0, 0xC3: 0, 0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8}
_SIZES |= {0xD4: 2, 0xD5: 3, 0xD6: 5, 0xD7: 9, 0xD8: 17}  # fixed extensions: a type byte and the data
_LENGTHS = {0xC4: (1, 0), 0xC5: (2, 0), 0xC6: (4, 0), 0xD9: (1, 0), 0xDA: (2, 0), 0xDB: (4, 0), 0xC7: (1, 1), 0xC8: (2, 1), 0xC9: (4, 1)}
_COUNTS = {0xDC: 2, 0xDD: 4, 0xDE: 2, 0xDF: 4}


class _Level:
    """One array or map that the scan is inside of."""

    __slots__ = ("at", "keys", "left", "path", "start")

    def __init__(self, path: str, left: int, keys: set[Any] | None) -> None:
        self.path = path
        self.left = left  # values still to come; keys count too
        self.keys = keys  # None for an array
        self.at = 0  # index in an array
        self.start = -1  # where the present key begins


def _head(data: bytes, at: int) -> tuple[int, int, bool]:
    """Return (position after this value or header, count of items inside or -1, is it a map)."""
    if at >= len(data):
        raise Malformed("is not MessagePack: it ends too early")
    first = data[at]
    at += 1
    count, is_map = -1, False
    if first <= 0x7F or first >= 0xE0:
        pass
    elif first <= 0x9F:
        count, is_map = first & 0x0F, first <= 0x8F
    elif first <= 0xBF:
        at += first & 0x1F
    elif first in _SIZES:
        at += _SIZES[first]
    elif first in _LENGTHS:
        width, extra = _LENGTHS[first]
        at += width + extra + int.from_bytes(data[at : at + width])
    elif first in _COUNTS:
        width, is_map = _COUNTS[first], first >= 0xDE
        count = int.from_bytes(data[at : at + width])
        at += width
    else:
        raise Malformed(f"is not MessagePack: invalid at byte {at - 1}")
    if at > len(data) or count > len(data) - at:
        raise Malformed("is not MessagePack: it ends too early")
    return at, count, is_map


def _scan(data: bytes, depth: int) -> list[str]:
    """Return the paths of keys that stand twice in a MessagePack document, without recursion and without building it."""
    doubled: list[str] = []
    levels: list[_Level] = []
    at = 0
    path = ""
    while True:
        if levels and (top := levels[-1]).keys is not None and top.left % 2 == 0:
            top.start = at
        at, count, is_map = _head(data, at)
        if count >= 0:
            if len(levels) >= depth:
                raise Malformed(f"is nested deeper than {depth} levels")
            levels.append(_Level(path, 2 * count if is_map else count, set() if is_map else None))
        else:
            path = _finished(levels, data, at, doubled)
        while levels and not levels[-1].left:
            levels.pop()
            path = _finished(levels, data, at, doubled)
        if not levels:
            break
        if levels[-1].keys is None:
            path = item(levels[-1].path, levels[-1].at)
    if at != len(data):
        raise Malformed(f"has data after the end of the MessagePack value, at byte {at}")
    return doubled


def _finished(levels: list[_Level], data: bytes, at: int, doubled: list[str]) -> str:
    """Count one value of the innermost level; return the path of what follows when that value was a key."""
    if not levels:
        return ""
    top = levels[-1]
    top.left -= 1
    if top.keys is None:
        top.at += 1
        return top.path
    if top.left % 2 == 0:  # that was the value of a key
        return top.path
    name = _key(data[top.start : at])
    path = member(top.path, name)
    if name in top.keys:
        doubled.append(path)
    top.keys.add(name)
    return path


def _key(data: bytes) -> Any:
    try:
        return next(iter(msgspec.msgpack.decode(b"\x81" + data + b"\xc0")))
    except (ValueError, TypeError, RecursionError):
        raise Malformed("is not MessagePack that can be read: a key in it is not valid") from None
