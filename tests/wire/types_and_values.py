"""Random types that msgspec supports, random builtin data for them: right, nearly right, and anything."""

import dataclasses
import datetime as dt
import decimal
import enum
import uuid
from typing import Annotated, Any, Generic, Literal, NamedTuple, NotRequired, TypedDict, TypeVar

import msgspec
from hypothesis import strategies as st
from msgspec import Meta, inspect

from cliffracer.wire.kinds import bare

T = TypeVar("T")


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Point(NamedTuple):
    x: int
    y: float = 0.0


class Place(TypedDict):
    city: str
    code: NotRequired[int]


@dataclasses.dataclass
class Pair:
    left: Annotated[int, Meta(ge=0)]
    right: str = "r"


class Tree(msgspec.Struct):
    name: str
    children: "list[Tree]" = []


class Box(msgspec.Struct, Generic[T]):
    content: T


class Cat(msgspec.Struct, tag="cat"):
    lives: int


class Dog(msgspec.Struct, tag="dog", forbid_unknown_fields=True):
    name: Annotated[str, Meta(min_length=2)]
    age: int | None = None


class Circle(msgspec.Struct, tag=True, array_like=True):
    radius: Annotated[float, Meta(gt=0)]


class Square(msgspec.Struct, tag=True, array_like=True, forbid_unknown_fields=True):
    side: int
    name: str = ""


class Row(msgspec.Struct, array_like=True):
    key: str
    count: int = 0


class Span(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    first_day: int
    last_day: int

    def __post_init__(self) -> None:
        if self.first_day > self.last_day:
            raise ValueError("firstDay must not be after lastDay")


def limits(**names: st.SearchStrategy[Any]) -> st.SearchStrategy[Meta | None]:
    """Constraints, or none."""
    return st.none() | st.fixed_dictionaries({}, optional=names).map(lambda found: Meta(**found) if found else None)


def limited(kind: Any, constraints: st.SearchStrategy[Meta | None]) -> st.SearchStrategy[Any]:
    return constraints.map(lambda meta: Annotated[kind, meta] if meta else kind)


small = st.integers(-3, 3)
sizes = {"min_length": st.integers(0, 3), "max_length": st.integers(0, 3)}
integers = limited(int, limits(ge=small, multiple_of=st.integers(1, 3)) | limits(gt=small, le=small))
floats = limited(float, limits(ge=small.map(float), lt=small.map(float)) | limits(multiple_of=st.sampled_from([0.5, 2.0])))
strings = limited(str, limits(**sizes, pattern=st.sampled_from(["@", "^a", "[0-9]$"])))
binary = limited(bytes, limits(**sizes))
moments = limited(dt.datetime, limits(tz=st.booleans())) | limited(dt.time, limits(tz=st.booleans()))
texts = st.one_of(
    strings,
    st.sampled_from([dt.date, dt.timedelta, uuid.UUID, decimal.Decimal, Colour, Literal["a", "b"]]),
    moments,
    binary,
)
hashable = st.one_of(integers, strings, st.sampled_from([bool, Level, Colour, uuid.UUID]))
named = st.sampled_from(
    [Point, Place, Pair, Tree, Box[int], Box[list[str]], Cat, Dog, Cat | Dog, Circle, Square, Circle | Square, Row, Span]
)
leaves = st.one_of(integers, floats, texts, st.sampled_from([bool, None, Any, Level, Literal[1, 2], Literal["a", 1] | None]), named)


@st.composite
def structs(draw: st.DrawFn, kinds: st.SearchStrategy[Any]) -> Any:
    fields: list[Any] = []
    for name in draw(st.lists(st.sampled_from(["alpha", "beta", "gamma_ray", "delta"]), max_size=4, unique=True)):
        kind = draw(kinds)
        fields.append(draw(st.sampled_from([(name, kind), (name, kind | None if kind is not None else Any, None)])))
    fields.sort(key=len)
    options = draw(st.fixed_dictionaries({}, optional={"forbid_unknown_fields": st.booleans(), "array_like": st.booleans()}))
    return msgspec.defstruct("Random", fields, rename=draw(st.sampled_from([None, "camel"])), **options)


def unions(kinds: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    lists = kinds.map(lambda kind: list[kind])  # type: ignore[valid-type]
    scalars = st.sets(st.sampled_from([int, float, bool, None]), min_size=1, max_size=3)
    return st.tuples(scalars, st.one_of(st.none(), texts, lists, named)).map(
        lambda both: union([*both[0], *([both[1]] if both[1] is not None else [])])
    )


def union(kinds: list[Any]) -> Any:
    made = kinds[0]
    for kind in kinds[1:]:
        made = made | kind if made is not None else kind | None
    return made


def grown(kinds: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.tuples(kinds, limits(**sizes)).map(lambda both: Annotated[list[both[0]], both[1]] if both[1] else list[both[0]]),
        st.tuples(hashable, st.sampled_from([set, frozenset])).map(lambda both: both[1][both[0]]),
        kinds.map(lambda kind: tuple[kind, ...]),
        st.tuples(kinds, kinds).map(lambda both: tuple[both]),
        st.tuples(st.one_of(integers, strings, st.just(uuid.UUID)), kinds).map(lambda both: dict[both]),
        structs(kinds),
        unions(kinds),
    )


def _supported(kind: Any) -> bool:
    try:
        msgspec.json.Decoder(kind)
    except TypeError:
        return False
    return True


kinds = st.recursive(leaves, grown, max_leaves=6).filter(_supported)

words = st.sampled_from(["", "a", "b", "ab", "red", "x@y", "2026-01-31", "2026-01-31T10:20:30Z", "10:20:30", "P1D", "1.5", "YWI="])
scalars = st.one_of(
    st.none(),
    st.booleans(),
    small,
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    words,
    st.text(max_size=5),
    st.uuids().map(str),
)
names = st.sampled_from(["alpha", "beta", "gammaRay", "gamma_ray", "delta", "type", "1", "x", "name", "lives"]) | st.text(max_size=3)
anything = st.recursive(scalars, lambda below: st.lists(below, max_size=3) | st.dictionaries(names, below, max_size=3), max_leaves=8)


@st.composite
def nearly(draw: st.DrawFn, info: inspect.Type, binary_keys: bool = False) -> Any:  # noqa: PLR0911  # a line for each kind
    """Draw what a type may accept, with something else here and there."""
    if draw(st.integers(0, 11)) == 0:
        return draw(anything)
    info = bare(info)
    match info:
        case inspect.UnionType():
            return draw(nearly(draw(st.sampled_from(info.types)), binary_keys))
        case inspect.StructType(array_like=True) | inspect.NamedTupleType():
            tag = [info.tag] if getattr(info, "tag_field", None) else []
            return tag + [draw(nearly(field.type, binary_keys)) for field in info.fields]
        case inspect.StructType() | inspect.TypedDictType() | inspect.DataclassType():
            tag = {info.tag_field: info.tag} if getattr(info, "tag_field", None) else {}
            chosen = [field for field in info.fields if field.required or draw(st.booleans())]
            made = tag | {field.encode_name: draw(nearly(field.type, binary_keys)) for field in chosen}
            return made | (draw(st.dictionaries(names, scalars, max_size=1)) if draw(st.integers(0, 5)) == 0 else {})
        case inspect.TupleType():
            return [draw(nearly(part, binary_keys)) for part in info.item_types]
        case inspect.CollectionType():
            return draw(st.lists(nearly(info.item_type, binary_keys), max_size=3))
        case inspect.DictType():
            keys = nearly(info.key_type, binary_keys) if binary_keys else nearly(info.key_type).map(str)
            return draw(st.dictionaries(keys.filter(_is_key), nearly(info.value_type, binary_keys), max_size=3))
        case _:
            return draw(_of_leaf(info))


def _is_key(value: Any) -> bool:
    return isinstance(value, str | int)


def _of_leaf(info: inspect.Type) -> st.SearchStrategy[Any]:  # noqa: PLR0911  # a line for each kind
    match info:
        case inspect.LiteralType():
            return st.sampled_from(info.values)
        case inspect.EnumType():
            return st.sampled_from([entry.value for entry in info.cls])
        case inspect.AnyType():
            return anything
        case inspect.IntType():
            return small | st.integers(-(2**63), 2**64 - 1)
        case inspect.FloatType():
            return small | st.floats(allow_nan=False, allow_infinity=False)
        case inspect.BoolType():
            return st.booleans()
        case inspect.NoneType():
            return st.none()
        case inspect.UUIDType():
            return st.uuids().map(str)
        case inspect.DecimalType():
            return st.sampled_from(["1.5", "-3", "1e5", 7, 2.5])
        case _:
            return words | st.text(max_size=4)
