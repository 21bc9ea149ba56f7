"""Every reason why an input was refused, found on the slow path after msgspec refused it fast.

msgspec alone decides what is valid: each value is checked by the decoder of its own part of the type, and only where that
refuses it does the walk go down to find the words. So both always agree, whatever msgspec may accept.
"""

import contextlib
import re
import types
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import Any

import msgspec
from msgspec import inspect

from cliffracer.errors import FieldError
from cliffracer.wire import wording
from cliffracer.wire.kinds import CONSTRAINTS, annotation, bare, everything, shallow
from cliffracer.wire.limits import Beyond, broken_fields, checked, limited
from cliffracer.wire.strict import TOO_LARGE
from cliffracer.wire.walk import Findings, Full, Part, parts
from cliffracer.wire.wording import Number, item, kind_of, member, noun, takes

DecodeHook = Callable[[type, Any], Any]
Judge = Callable[[Any, DecodeHook | None], Callable[[Any], object]]
"""Given a type: a function that raises when it refuses a builtin value for it."""

REFUSALS = (msgspec.MsgspecError, ValueError, TypeError, RecursionError, OverflowError)
"""What msgspec raises for data that it refuses; TypeError is an array in a set."""


_NOT_FINITE = re.compile(r"\s*[+-]?(?:s?nan|inf)", re.IGNORECASE)


def _raw_number(value: Any) -> msgspec.Raw:
    if isinstance(value, Number):
        return msgspec.Raw(value.text.encode())
    raise TypeError(type(value).__name__)


def by_json(kind: Any, hook: DecodeHook | None) -> Callable[[Any], object]:
    """Judge values as they come out of a JSON text."""
    encode, decode = msgspec.json.Encoder(enc_hook=_raw_number).encode, msgspec.json.Decoder(kind, dec_hook=hook).decode
    return lambda value: decode(encode(value))


def by_msgpack(kind: Any, hook: DecodeHook | None) -> Callable[[Any], object]:
    """Judge values as they come out of a MessagePack document."""
    encode, decode = msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder(kind, dec_hook=hook).decode
    return lambda value: decode(encode(value))


def by_value(kind: Any, hook: DecodeHook | None) -> Callable[[Any], object]:
    """Judge builtin values as they are, as `msgspec.convert` does."""
    return lambda value: msgspec.convert(value, kind, str_keys=True, dec_hook=hook)


class Explainer:
    """Explains refusals of one type: made once, used whenever the fast path refused something."""

    def __init__(self, kind: Any, judge: Judge = by_json, *, hook: DecodeHook | None = None, limit: int = 100, quiet: bool = False) -> None:
        self._info = bare(inspect.type_info(kind))
        self._judge = (lambda kind, hook: checked(kind, judge(kind, hook))) if limited(kind, self._info) else judge
        self._hook = hook
        self._limit = limit
        self._quiet = quiet  # for text input: that a value is a string is not worth saying
        self._decimals = any(isinstance(part, inspect.DecimalType) for part in everything(self._info))
        self._judges: dict[int, Callable[[Any], object]] = {id(self._info): self._judge(kind, hook)}

    def explain(self, value: Any, known: Iterable[FieldError] = (), *, unusual: bool | None = None) -> list[FieldError]:
        """Return why a builtin value does not fit the type, after what is ``known`` already; empty if it does fit.

        ``unusual`` says whether there is a `Number` in it, if that is known.
        """
        found = Findings(self._limit, known, thorough=unusual or ((unusual is None or self._decimals) and _unusual(value)))
        with contextlib.suppress(Full):
            self._walk(self._info, value, "", found)
        if len(found.errors) < self._limit:
            return found.errors
        more = FieldError("", f"perhaps more is wrong; only the first {self._limit} errors are listed")
        return [*found.errors[: self._limit], more]

    def _refusal(self, info: inspect.Type, value: Any) -> Exception | None:
        judge = self._judges.get(id(info))  # the ids are those of self._info's parts, which live as long
        if judge is None:
            judge = self._judges[id(info)] = self._judge(annotation(info), self._hook)
        try:
            judge(value)
        except REFUSALS as refusal:
            return refusal.with_traceback(None)  # the traceback would keep frames alive, and with them the whole input
        return None

    def _accepts(self, kind: Any, value: Any) -> bool:
        return _taken(self._judge(kind, self._hook), value)

    def _walk(self, info: inspect.Type, value: Any, path: str, found: Findings) -> None:
        refusal = self._refusal(info, value)
        if refusal is None and not (found.thorough and _unusual(value)):
            return
        before = found.count
        if isinstance(info, inspect.UnionType):
            self._union(info, value, path, found)
        elif not takes(info, value):
            found.add(path, self._mismatch(info, value))
        elif beyond := _beyond(info, value):
            found.add(path, beyond)
        else:
            for kind, part, below in chain(parts(info, value, path, found), self._items(info, value, path, found)):
                self._walk(bare(kind), part, below, found)
            if refusal is not None:
                self._keys(info, value, path, found)
                for message in self._broken(info, value):
                    found.add(path, message)
                for name, message in broken_fields(info, value):
                    found.add(member(path, name), message)
        if refusal is not None and found.count == before:
            found.add(path, _reason(info, refusal))

    def _items(self, info: inspect.Type, value: Any, path: str, found: Findings) -> Iterator[Part]:
        """Yield (type, value, path) for the items of a collection, without batches that are valid as a whole.

        One wrong item among a million must not take a second to find.
        """
        kind = _kind_inside(info)
        if kind is None or not isinstance(value, list | dict):
            return
        judge = self._judge(types.GenericAlias(list, (annotation(kind),)), self._hook)
        below, entries = (member, value.items()) if isinstance(value, dict) else (item, enumerate(value))
        for batch in _batches(entries):
            some = [part for _, part in batch]
            if not _taken(judge, some) or (found.thorough and _unusual(some)):
                yield from ((kind, part, below(path, name)) for name, part in batch)

    def _mismatch(self, info: inspect.Type, value: Any) -> str:
        if not self._quiet:
            return f"expected {noun(info)}, got {kind_of(value)}"
        return "must be given once only" if isinstance(value, list) else f"expected {noun(info).removesuffix(' or null')}"

    def _keys(self, info: inspect.Type, value: Any, path: str, found: Findings) -> None:
        if not isinstance(info, inspect.DictType):
            return
        key_type = bare(info.key_type)
        judge = self._judge(types.GenericAlias(dict, (annotation(key_type), Any)), self._hook)
        wrong = (batch for batch in _batches(value) if not _taken(judge, dict.fromkeys(batch)))
        for name in chain.from_iterable(wrong):
            if not _taken(judge, {name: None}):
                known = self._broken(key_type, name) if isinstance(key_type, inspect.StrType) else []
                for message in known or [f"expected {noun(key_type)}"]:
                    found.add(member(path, name), f"the key: {message}")

    def _broken(self, info: inspect.Type, value: Any) -> list[str]:
        """Return the constraints that a value of the right kind violates, in words."""
        limits = {name: limit for name in CONSTRAINTS if (limit := getattr(info, name, None)) is not None}
        if not limits or not self._accepts(shallow(info), value):
            return []
        return [wording.broken(info, *limit) for limit in limits.items() if not self._accepts(shallow(info, **dict([limit])), value)]

    def _union(self, info: inspect.UnionType, value: Any, path: str, found: Findings) -> None:
        options = [option for option in map(bare, info.types) if takes(option, value)]
        tags = {option.tag: option for option in options if isinstance(option, inspect.StructType) and option.tag_field}
        if not options:
            found.add(path, self._mismatch(info, value))
        elif len(options) == 1:
            self._walk(options[0], value, path, found)
        elif tags and len(tags) == len(options):
            self._tagged(tags, value, path, found)
        elif beyond := next(filter(None, (_beyond(option, value) for option in options)), None):
            found.add(path, beyond)

    def _tagged(self, tags: dict[Any, inspect.StructType], value: Any, path: str, found: Findings) -> None:
        first = next(iter(tags.values()))
        given = value[:1] if first.array_like else [value[first.tag_field]] if first.tag_field in value else []
        chosen = tags.get(given[0]) if given and isinstance(given[0], str | int) else None
        if chosen is not None:
            self._walk(chosen, value, path, found)
            return
        at = item(path, 0) if first.array_like else member(path, first.tag_field)
        found.add(at, f"expected {wording.one_of(list(tags))}" if given else "is required")


def _reason(info: inspect.Type, refusal: Exception) -> str:
    if isinstance(refusal, Beyond):
        return f"{refusal.field}: {refusal}" if refusal.field else str(refusal)
    cause = refusal.__cause__
    if type(cause) is ValueError and str(cause):  # the message of a user's __post_init__ or hook
        return str(cause)
    return "is out of range" if isinstance(info, inspect.FloatType) else f"expected {noun(info)}"


def _taken(judge: Callable[[Any], object], value: Any) -> bool:
    try:
        judge(value)
    except REFUSALS:
        return False
    return True


def _kind_inside(info: inspect.Type) -> inspect.Type | None:
    match info:
        case inspect.CollectionType():
            return info.item_type
        case inspect.DictType():
            return info.value_type
        case inspect.AnyType():
            return info
        case _:
            return None


def _batches(entries: Iterable[Any]) -> Iterator[list[Any]]:
    rest = iter(entries)
    while batch := list(islice(rest, 64)):
        yield batch


def _beyond(info: inspect.Type, value: Any) -> str | None:
    """Return why a number is refused that msgspec may accept: an integer beyond 64 bits, a decimal that is not finite."""
    if isinstance(value, Number) and isinstance(info, inspect.IntType | inspect.AnyType):
        return TOO_LARGE if wording.whole(value) else "is out of range"
    if isinstance(value, str) and isinstance(info, inspect.DecimalType) and _NOT_FINITE.match(value):
        return "must be a finite number"
    return None


def _unusual(value: Any) -> bool:
    """Say whether builtin values hold a number that `_beyond` may have to refuse."""
    todo = [value]
    for found in todo:  # grows while it is walked
        if isinstance(found, Number) or (isinstance(found, str) and _NOT_FINITE.match(found)):
            return True
        if isinstance(found, dict):
            todo += found.values()
        elif isinstance(found, list):
            todo += found
    return False
