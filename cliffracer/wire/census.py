"""Facts about a type, computed before any data comes: how many keys its values have at least, how deep they nest, what they may hold.

An input with no more keys than its decoded value proves has no duplicate and no unknown ones; so most inputs are accepted
after one `bytes.count`, without a second parse.
"""

import operator
import typing
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
from msgspec import inspect

from cliffracer.wire.kinds import Object, annotation, bare, everything, inside

Count = int | Callable[[Any], int]
"""Keys that the input of a value certainly had: a fixed number, or computed from the value. Too few is safe, too many is not."""

_ANY = (inspect.AnyType, inspect.RawType, inspect.CustomType, inspect.ExtType)
_OBJECTS = (inspect.StructType, inspect.TypedDictType, inspect.DataclassType, inspect.DictType)


class Census:
    """The facts about one type."""

    __slots__ = ("closed", "count", "decimals", "deep", "exact", "flat", "floats", "generic", "integers", "least", "number", "opaque")

    def __init__(self, info: inspect.Type, depth: int) -> None:
        parts = everything(info)
        least, count = _Counting(optional=False).of(info), _Counting(optional=True).of(info)
        self.least = least if isinstance(least, int) else 0
        """Keys that every value has."""
        self.count = count if callable(count) else None
        """Keys that one value has at least, where that is more."""
        objects = [part for part in parts if isinstance(part, Object)]
        self.exact = all(field.required for part in objects for field in part.fields)
        """No object in it has more keys than those counted, unless unknown ones."""
        self.closed = all(isinstance(part, inspect.StructType) and part.forbid_unknown_fields for part in objects)
        """No object in it may have unknown keys."""
        levels = _levels(info, ())
        self.deep = levels is None or levels > depth
        """Only the data tells how deep it nests."""
        self.opaque = any(isinstance(part, inspect.RawType | inspect.CustomType | inspect.ExtType) for part in parts)
        """It may hold values that cannot be inspected or encoded."""
        self.flat = isinstance(info, _OBJECTS) and not any(isinstance(part, (*_OBJECTS, *_ANY)) for part in parts[1:])
        """The only object in it is the whole."""
        anything = any(isinstance(part, inspect.AnyType) for part in parts)
        self.integers = anything or any(isinstance(part, inspect.IntType) and not _bounded(part) for part in parts)
        """It may hold an integer beyond 64 bits."""
        self.generic = isinstance(info, inspect.AnyType) or (isinstance(info, inspect.DictType) and annotation(info) == dict[str, Any])
        """Its values are the same as those of a decoder without a type."""
        self.number = _only_integer(info, parts)
        """The name of the only field that may hold such an integer; empty if there are several, or they are deeper."""
        self.floats = anything or any(isinstance(part, inspect.FloatType) for part in parts)
        self.decimals = any(isinstance(part, inspect.DecimalType) for part in parts)


def _levels(info: inspect.Type, above: tuple[int, ...]) -> int | None:
    """Return how deep values of a type nest at most; None if there is no bound."""
    if isinstance(info, _ANY) or id(info) in above:
        return None
    below = [_levels(part, (*above, id(info))) for part in inside(info)]
    if None in below:
        return None
    own = 0 if isinstance(info, inspect.UnionType) else 1
    return own + max((levels for levels in below if levels is not None), default=0)


def _only_integer(info: inspect.Type, parts: list[inspect.Type]) -> str:
    integers = [part for part in parts if isinstance(part, inspect.AnyType | inspect.IntType) and not _bounded(part)]
    names = [field.name for field in info.fields if bare(field.type) in integers] if isinstance(info, inspect.StructType) else []
    return names[0] if len(names) == len(integers) == 1 and isinstance(integers[0], inspect.IntType) else ""


def _bounded(info: inspect.Type) -> bool:
    if not isinstance(info, inspect.IntType):
        return False
    return (info.ge is not None or info.gt is not None) and (info.le is not None or info.lt is not None)


class _Each:
    """The count of many values that have the same number of keys each; of those in a field, where it has a name."""

    __slots__ = ("keys", "name")

    def __init__(self, keys: int, name: str = "") -> None:
        self.keys = keys
        self.name = name

    def __call__(self, value: Any) -> int:
        return self.keys * len(getattr(value, self.name) if self.name else value)


class _Counting:
    """Builds the count of one type from those of what it is made of."""

    def __init__(self, *, optional: bool) -> None:
        self._optional = optional
        self._above: set[int] = set()

    def of(self, info: inspect.Type) -> Count:
        """Return the count of a type; a recursive type counts nothing inside itself."""
        if id(info) in self._above:
            return 0
        self._above.add(id(info))
        try:
            return self._make(info)
        finally:
            self._above.discard(id(info))

    def _make(self, info: inspect.Type) -> Count:
        match info:
            case inspect.StructType(array_like=False) | inspect.TypedDictType() | inspect.DataclassType():
                return self._object(info)
            case inspect.CollectionType():
                return _times(self.of(bare(info.item_type)), 0)
            case inspect.DictType():
                count = _times(self.of(bare(info.value_type)), 1)
                return (lambda value: count(value.values())) if callable(count) else count
            case inspect.UnionType():
                return self._union(info)
            case _:
                return 0  # tuples and array-like Structs with objects in them are rare: they get the second parse

    def _object(self, info: Object) -> Count:
        certain = 0
        more: list[Callable[[Any], int]] = []
        plain: list[inspect.Field] = []
        settled = not hasattr(info.cls, "__post_init__")  # `__post_init__` may change the value, so that it proves nothing
        for field in info.fields:
            count = self.of(bare(field.type))
            if field.required:
                certain += 1 if callable(count) else 1 + count
                if callable(count) and settled:
                    more.append(_of_field(info, field, count))
            elif self._optional and settled and isinstance(info, inspect.StructType):  # a value other than the default was given
                if count == 0 and field.default_factory is msgspec.NODEFAULT:
                    plain.append(field)
                elif field.default_factory in {list, dict, set, msgspec.NODEFAULT}:
                    more.append(_if_given(field, count))
        return _total(certain, [_given_of(plain), *more] if plain else more)

    def _union(self, info: inspect.UnionType) -> Count:
        counts: dict[Any, Count] = {}
        for part in map(bare, info.types):
            count = self.of(part)
            if isinstance(part, inspect.StructType):
                counts[typing.get_origin(part.cls) or part.cls] = count
            elif callable(count) and isinstance(part, inspect.ListType | inspect.DictType):
                counts[list if isinstance(part, inspect.ListType) else dict] = count
        if not any(counts.values()):
            return 0
        return lambda value: _apply(counts.get(type(value), 0), value)


def _of_field(info: Object, field: inspect.Field, count: Callable[[Any], int]) -> Callable[[Any], int]:
    name = field.name
    if isinstance(info, inspect.TypedDictType):
        return lambda value: count(value[name])
    if isinstance(count, _Each) and not count.name:
        return _Each(count.keys, name)
    return lambda value: count(getattr(value, name))


def _default_of(field: inspect.Field) -> Any:
    return msgspec.UNSET if field.default is msgspec.NODEFAULT else field.default


def _given_of(fields: list[inspect.Field]) -> Callable[[Any], int]:
    """Return the count of optional fields that have no keys of their own."""
    if len(fields) == 1:
        name, default = fields[0].name, _default_of(fields[0])
        return lambda value: getattr(value, name) is not default
    get, defaults = operator.attrgetter(*[field.name for field in fields]), [_default_of(field) for field in fields]
    return lambda value: sum(map(operator.is_not, get(value), defaults))


def _if_given(field: inspect.Field, count: Count) -> Callable[[Any], int]:
    """Return the count of an optional field that has keys of its own, or a fresh list, dict or set as default."""
    name, default = field.name, _default_of(field)
    if field.default_factory is msgspec.NODEFAULT:
        return lambda value: 0 if (part := getattr(value, name)) is default else 1 + _apply(count, part)
    if count == 0:
        return lambda value: 1 if getattr(value, name) else 0
    return lambda value: 1 + _apply(count, part) if (part := getattr(value, name)) else 0


def _total(certain: int, more: list[Callable[[Any], int]]) -> Count:
    if not more:
        return certain
    first = more[0]
    if len(more) == 1 and isinstance(first, _Each) and first.name:  # the common case of one list of objects, in fewer calls
        keys, name = first.keys, first.name
        return lambda value: certain + keys * len(getattr(value, name))
    if len(more) == 1:
        return lambda value: certain + first(value)
    second = more[1]
    if len(more) == 2:
        return lambda value: certain + first(value) + second(value)
    return lambda value: certain + sum([count(value) for count in more])


def _apply(count: Count, value: Any) -> int:
    return count(value) if callable(count) else count


def _times(count: Count, own: int) -> Count:
    """Return the count of many values that each count ``count``, and ``own`` for the key of each."""
    if callable(count):
        each = count
        return lambda values: own * len(values) + sum(map(each, values))
    return _Each(own + count) if own + count else 0


def keys_in(value: Any) -> int:
    """Return the number of keys in decoded builtin values, at all depths, without recursion."""
    keys = 0
    todo = [value] if type(value) is dict or type(value) is list else []
    for found in todo:  # grows while it is walked
        inner: Iterable[Any] = found
        if type(found) is dict:
            keys += len(found)
            inner = found.values()
        for part in inner:
            kind = type(part)
            if kind is dict or kind is list:
                todo.append(part)
    return keys
