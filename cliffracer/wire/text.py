"""Converts values that come as text (path, query, headers, cookies, forms) to declared types.

Text is read according to its type: ``5`` is an integer where one is declared, a string elsewhere. Booleans are ``true``, ``1``, ``yes``,
``on`` and their opposites; ``null`` and an empty text are None where None is allowed and a string is not. Numbers are written as in
JSON, a leading ``+`` apart. A list takes one value or several; anything else takes one.
"""

import decimal
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import inspect

from cliffracer.errors import InvalidInput
from cliffracer.wire.kinds import Object, bare, choices_of
from cliffracer.wire.limits import limited, look
from cliffracer.wire.validation import REFUSALS, DecodeHook, Explainer, by_value
from cliffracer.wire.wording import Number

T = TypeVar("T")
Given = str | Sequence[Any]
Reader = Callable[[Any], Any]

_INTEGER = re.compile(r"[+-]?[0-9]{1,10000}")
_DECIMAL = re.compile(r"[+-]?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,4})?")
_BOOLEANS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
_LISTS = (inspect.CollectionType, inspect.TupleType)


class TextDecoder(Generic[T]):
    """Decodes the texts of one object (a Struct, dataclass, TypedDict or dict); `InvalidInput` with all errors."""

    __slots__ = ("_explainer", "_hook", "_limited", "_readers", "_rest", "kind")

    def __init__(self, kind: Any, *, hook: DecodeHook | None = None) -> None:
        self.kind = kind
        info = bare(inspect.type_info(kind))
        fields = info.fields if isinstance(info, Object) else ()
        self._readers = {field.encode_name: _reader(bare(field.type)) for field in fields}
        self._rest: Reader = _reader(bare(info.value_type)) if isinstance(info, inspect.DictType) else _one
        self._hook = hook
        self._limited = limited(kind, info)
        self._explainer = Explainer(kind, by_value, hook=hook, quiet=True)

    def decode(self, values: Mapping[str, Given]) -> T:
        """Return the typed object for the texts; a sequence is a name that was given several times."""
        prepared: dict[str, Any] = {}
        for name, given in values.items():
            read = self._readers.get(name, self._rest)
            prepared[name] = read(given)
        try:
            found: T = msgspec.convert(prepared, self.kind, str_keys=True, dec_hook=self._hook)
            if self._limited:
                look(self.kind, found)
        except REFUSALS:
            errors = self._explainer.explain(prepared)
            raise InvalidInput("the input is not valid", errors=errors or [{"path": "", "message": "is not valid"}]) from None
        return found


def _one(given: Given) -> Any:
    """Return the only text of a name, or all of them for the type to refuse."""
    return given[0] if not isinstance(given, str) and len(given) == 1 else given


def _reader(info: inspect.Type) -> Reader:
    """Return the reader of one field: it converts its text or texts to a value that the type accepts, or refuses for the right reason."""
    listed = _list_of(info)
    if listed is None:
        return _scalar(info)
    several = [_scalar(bare(part)) for part in listed.item_types] if isinstance(listed, inspect.TupleType) else []
    each = _one if isinstance(listed, inspect.TupleType) else _scalar(bare(listed.item_type))

    def read_all(given: Given) -> list[Any]:
        texts = [given] if isinstance(given, str) else list(given)
        if each is not _one:
            return [each(text) for text in texts]
        return [read(text) for read, text in zip(several, texts, strict=False)] + texts[len(several) :]

    return read_all


def _list_of(info: inspect.Type) -> inspect.CollectionType | inspect.TupleType | None:
    """Return the collection in a type that takes several values, alone or with None."""
    options = map(bare, info.types) if isinstance(info, inspect.UnionType) else [info]
    return next((option for option in options if isinstance(option, _LISTS)), None)


def _scalar(info: inspect.Type) -> Reader:
    wanted: set[type] = set()
    for option in map(bare, info.types) if isinstance(info, inspect.UnionType) else [info]:
        wanted |= {type(choice) for choice in choices_of(option) or ()} | _WANTED.get(type(option), {str})
    attempts = [read for kind, read in _ATTEMPTS if kind in wanted and not (kind is type(None) and str in wanted)]
    if not attempts:
        return _one

    def read(given: Given) -> Any:
        text = _one(given)
        for attempt in attempts if isinstance(text, str) else ():
            found = attempt(text)
            if found is not None:
                return None if found is _NULL else found
        return text

    return read


_WANTED: dict[type[inspect.Type], set[type]] = {
    inspect.IntType: {int},
    inspect.FloatType: {float},
    inspect.BoolType: {bool},
    inspect.NoneType: {type(None)},
    inspect.DecimalType: {decimal.Decimal},
    inspect.LiteralType: set(),
    inspect.EnumType: set(),
}
for _kind in ("DateTime", "Date", "Time", "TimeDelta", "UUID", "Bytes", "ByteArray", "MemoryView", "Custom"):
    _WANTED[getattr(inspect, f"{_kind}Type")] = set()
_NULL = object()
"""What a reader returns for None, since None means that it cannot read the text."""


def _null(text: str) -> object | None:
    return _NULL if not text or text.lower() == "null" else None


def _integer(text: str) -> int | Number | None:
    if not _INTEGER.fullmatch(text):
        return None
    value = int(text) if len(text) <= 21 else 2**64
    return value if -(2**63) <= value < 2**64 else Number(text.lstrip("+"))


def _float(text: str) -> float | Number | None:
    if not _DECIMAL.fullmatch(text):
        return None
    value = float(text)
    return value if math.isfinite(value) else Number(text.lstrip("+"))


def _decimal(text: str) -> str | Number:
    return text if _DECIMAL.fullmatch(text) else Number(text)  # `decimal` itself also reads NaN, blanks and underscores


def _boolean(text: str) -> bool | None:
    return _BOOLEANS.get(text.lower())


_ATTEMPTS: tuple[tuple[type, Reader], ...] = (
    (type(None), _null),
    (int, _integer),
    (float, _float),
    (bool, _boolean),
    (decimal.Decimal, _decimal),
)
