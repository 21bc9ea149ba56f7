"""Whether a change of types breaks the other side: each kind of change, told from the schemas that both publish."""

from typing import Annotated, Any, Literal

import msgspec
import pytest
from msgspec import Meta, Struct

from cliffracer.wire.compatible import misfits, shut
from cliffracer.wire.schema import schema


class Old(Struct):
    name: str
    age: int = 0


class Longer(Struct):
    name: str
    email: str
    age: int = 0


class Optional(Struct):
    name: str
    age: int = 0
    email: str = ""


class Shorter(Struct):
    name: str


class Strict(Struct, forbid_unknown_fields=True):
    name: str


class Tree(Struct):
    name: str
    branches: list["Tree"] = []


class Bush(Struct):
    name: int
    branches: list["Bush"] = []


def _forest(*, strict: bool) -> Any:
    """Return a type in which others of the same names, which have themselves in them, take any field, or those that they know only."""

    class Branch(Struct, forbid_unknown_fields=strict):
        thick: int
        left: "Branch | None" = None
        right: "Branch | None" = None

    class Other(Struct, forbid_unknown_fields=True, tag=True):
        thin: int

    class Twig(Struct, tag=True):
        thin: int

    Branch.__annotations__ |= {"left": Branch | None, "right": Branch | None}
    return msgspec.defstruct("Forest", [("trees", list[Branch]), ("others", list[Other | Twig])])


def _told(written: Any, read: Any, *, answer: bool = False) -> list[str]:
    return [f"{one.path}: {one.text}" for one in misfits(schema(written), schema(read), answer=answer)]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (int, int), (int, float), (int, int | None), (int, int | str), (Old, Optional), (Old, Shorter), (Longer, Old), (int, Any),
        (Literal["a"], Literal["a", "b"]), (Literal["a"], str), (list[int], list[float]), (dict[str, int], dict[str, float]),
        (Annotated[int, Meta(ge=2)], Annotated[int, Meta(ge=1)]), (Tree, Tree), (int | None, float | None), (Old, dict[str, Any]),
    ],
)  # fmt: skip
def test_what_only_widens_breaks_nobody(written: Any, read: Any) -> None:
    """More choices, fewer demands, other fields that nobody needs."""
    assert _told(written, read) == []


@pytest.mark.parametrize(
    ("written", "read", "told"),
    [
        (int, str, [": integer where string is expected"]),
        (int | None, int, [": null where integer is expected"]),
        (float, int, [": number where integer is expected"]),
        (Old, Longer, ["email: is not there"]),
        (Optional, Longer, ["email: may be left out, and is required"]),
        (Old, Strict, ["age: is not taken"]),
        (Literal["a", "b"], Literal["a"], [": 'b' where one of 'a' is expected"]),
        (str, Literal["a"], [": any string where one of 'a' is expected"]),
        (list[int], list[str], ["[]: integer where string is expected"]),
        (dict[str, int], dict[str, str], ["*: integer where string is expected"]),
        (int, Annotated[int, Meta(ge=1)], [": minimum 1 is expected, nothing of the kind is promised"]),
        (Annotated[str, Meta(max_length=9)], Annotated[str, Meta(max_length=5)], [": maxLength 5 is expected, 9 is promised"]),
        (str, Annotated[str, Meta(pattern="@")], [": pattern @ is expected"]),
        (Tree, Bush, ["name: string where integer is expected"]),
        (list[Old], list[Longer], ["[].email: is not there"]),
        (Any, int, [": null or boolean or number or string or array or object where integer is expected"]),
    ],
)  # fmt: skip
def test_what_narrows_is_told_with_its_place(written: Any, read: Any, told: list[str]) -> None:
    """What is written and may not be read any more."""
    assert _told(written, read)[:1] == told


def test_a_reader_of_replies_counts_on_every_field() -> None:
    """Replies are encoded with all fields in them, so that one with a default is missed as well when it goes."""
    assert _told(Shorter, Old) == []
    assert _told(Shorter, Old, answer=True) == ["age: is not there"]
    assert _told(Longer, Old, answer=True) == []


@pytest.mark.parametrize("hostile", [{}, {"type": "odd"}, {"$ref": "#/$defs/x", "$defs": {"x": {"$ref": "#/$defs/x"}}}, {"anyOf": [{}]}])
def test_a_schema_of_a_stranger_is_read_all_the_same(hostile: dict[str, Any]) -> None:
    """Whatever some other service publishes, the comparison ends."""
    assert isinstance(misfits(hostile, schema(Old)), list)
    assert isinstance(misfits(schema(Old), hostile), list)
    assert msgspec.json.encode(misfits(schema(Tree), hostile))


def test_what_was_taken_without_being_known_is_told() -> None:
    """Whoever sends more than is asked for is refused by a type that is strict now; one that always was is no change."""
    open_, strict = schema(_forest(strict=False)), schema(_forest(strict=True))
    assert [f"{one.path}: {one.text}" for one in shut(open_, strict)] == ["trees[]: fields that are not known are refused now"]
    assert shut(strict, open_) == shut(strict, strict) == shut(open_, open_) == []
