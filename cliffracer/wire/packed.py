"""Strict parsing of MessagePack documents, for the slow path: where they are malformed, and which keys are duplicate.

One pass over the bytes, without recursion and without building values; numbers and short texts cost a table look-up each.
"""

import re
from typing import Any

import msgspec

from cliffracer.errors import FieldError
from cliffracer.wire.strict import MOST, TWICE, Document, Malformed, faults
from cliffracer.wire.wording import item, member

NOT_FINITE = re.compile(rb"[\xca\xcb][\x7f\xff]")
"""Matches every float that is not finite, and hardly anything else."""
_SIZES = {0xC0: 1, 0xC2: 1, 0xC3: 1, 0xCA: 5, 0xCB: 9, 0xCC: 2, 0xCD: 3, 0xCE: 5, 0xCF: 9, 0xD0: 2, 0xD1: 3, 0xD2: 5, 0xD3: 9}
_SIZES |= {0xD4: 3, 0xD5: 4, 0xD6: 6, 0xD7: 10, 0xD8: 18}  # fixed extensions: with a type byte
_SIZES |= dict.fromkeys([*range(0x80), *range(0xE0, 0x100)], 1)
_SIZES |= {0xA0 + length: 1 + length for length in range(32)}
_STEPS = tuple(_SIZES.get(first, 0) for first in range(256))
"""The size of a value by its first byte, if that byte determines it; else 0."""
_FLAT = tuple(_SIZES.get(first, first in {0x80, 0x90}) for first in range(256))
"""The same, with empty arrays and maps."""
_LENGTHS = {0xC4: (1, 0), 0xC5: (2, 0), 0xC6: (4, 0), 0xD9: (1, 0), 0xDA: (2, 0), 0xDB: (4, 0), 0xC7: (1, 1), 0xC8: (2, 1), 0xC9: (4, 1)}
_TEXTS = {0xD9: 1, 0xDA: 2, 0xDB: 4}
_COUNTS = {0xDC: 2, 0xDD: 4, 0xDE: 2, 0xDF: 4}
_TOO_SHORT = "is not MessagePack: it ends too early"
_UNREADABLE = "is not MessagePack that can be read: a timestamp, a text or a key in it is not valid"


def read_msgpack(data: bytes, depth: int) -> Document:
    """Return a MessagePack document; `Malformed` with the position if it is invalid, or nests deeper than ``depth``."""
    doubled = _Scan(data, depth).doubled_keys()
    try:
        value = msgspec.msgpack.decode(data)
    except (ValueError, TypeError, RecursionError):
        raise Malformed(_UNREADABLE) from None
    errors = [FieldError(path, TWICE) for path in doubled]
    if NOT_FINITE.search(data):
        errors += faults(value, {})
    return Document(value, errors, unusual=False)


class _Level:
    """An array or map that the scan is inside of."""

    __slots__ = ("keys", "left", "name", "size")

    def __init__(self, size: int, keys: set[Any] | None) -> None:
        self.size = size
        self.left = size  # items, or pairs, that are still to come
        self.keys = keys  # None for an array
        self.name: Any = None  # the key whose value comes


class _Scan:
    """One pass over a document."""

    def __init__(self, data: bytes, depth: int) -> None:
        self._data = data
        self._depth = depth
        self._levels = [_Level(1, None)]  # as if the document were the only item of an array

    def doubled_keys(self) -> list[str]:
        """Return the paths of duplicate keys; `Malformed` for an invalid document."""
        doubled: list[str] = []
        data, levels = self._data, self._levels
        at = 0
        try:
            while levels:
                top = levels[-1]
                if top.keys is not None and top.left:
                    at = self._key(at, top, doubled)
                elif top.left:
                    at = _past_simple(data, at, top, _STEPS if len(levels) > self._depth else _FLAT)
                if not top.left:
                    levels.pop()
                    continue
                top.left -= 1
                at, level = _opened(data, at)
                if level is not None:
                    levels.append(level)
                    if len(levels) > self._depth + 1:
                        raise Malformed(f"is nested deeper than {self._depth} levels")
        except IndexError:
            raise Malformed(_TOO_SHORT) from None
        if at > len(data):
            raise Malformed(_TOO_SHORT)
        if at < len(data):
            raise Malformed(f"has data after the end of the MessagePack value, at byte {at}")
        return doubled

    def _key(self, at: int, top: _Level, doubled: list[str]) -> int:
        """Read a key of the innermost map; return where its value begins."""
        data = self._data
        first = data[at]
        width = _TEXTS.get(first, 0)
        if 0xA0 <= first <= 0xBF or width:
            length = int.from_bytes(data[at + 1 : at + 1 + width]) if width else first & 0x1F
            end = at + 1 + width + length
            top.name = data[at + 1 + width : end]  # texts as bytes, the cheapest way to compare them
        else:
            end = _past_one(data, at, self._depth - len(self._levels) + 1)
            top.name = _other_key(data[at:end])
        assert top.keys is not None  # a map
        if top.name in top.keys and len(doubled) < MOST:
            doubled.append(self._path())
        top.keys.add(top.name)
        return end

    def _path(self) -> str:
        path = ""
        for level in self._levels[1:]:
            if level.keys is None:
                path = item(path, level.size - level.left - 1)
            else:
                name = level.name
                path = member(path, name.decode("utf-8", "replace") if isinstance(name, bytes) else name[0])
        return path


def _past_simple(data: bytes, at: int, top: _Level, steps: tuple[int, ...]) -> int:
    """Return the position of the first item of an array whose size is not in the table."""
    left = top.left
    while left and (step := steps[data[at]]):
        at += step
        left -= 1
    top.left = left
    return at


def _opened(data: bytes, at: int) -> tuple[int, _Level | None]:
    """Return (position after this value, or after its header; the level that it opens if it is an array or a map)."""
    first = data[at]
    step = _STEPS[first]
    if step:
        return at + step, None
    if 0x80 <= first <= 0x9F:
        return at + 1, _Level(first & 0x0F, set() if first <= 0x8F else None)
    if first in _LENGTHS:
        width, extra = _LENGTHS[first]
        return at + 1 + width + extra + int.from_bytes(data[at + 1 : at + 1 + width]), None
    if first not in _COUNTS:
        raise Malformed(f"is not MessagePack: invalid at byte {at}")
    width = _COUNTS[first]
    count = int.from_bytes(data[at + 1 : at + 1 + width])
    return at + 1 + width, _Level(count, set() if first >= 0xDE else None)


def _past_one(data: bytes, at: int, depth: int) -> int:
    """Return where the value that begins here ends; it is a key, so its content is not checked."""
    left = [1]
    while left:
        if len(left) > depth + 1:
            raise Malformed("has a key that is nested too deep")
        if not left[-1]:
            left.pop()
            continue
        left[-1] -= 1
        at, level = _opened(data, at)
        if level is not None:
            left.append(level.size if level.keys is None else 2 * level.size)
    return at


def _other_key(data: bytes) -> tuple[Any]:
    try:
        return (next(iter(msgspec.msgpack.decode(b"\x81" + data + b"\xc0"))),)
    except (ValueError, TypeError, RecursionError):
        raise Malformed(_UNREADABLE) from None
