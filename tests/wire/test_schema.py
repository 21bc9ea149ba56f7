"""JSON Schemas of types: what a decoder takes, they take; what they refuse, it refuses."""

import decimal
import json
import subprocess
import sys
import threading
from typing import Annotated, Any, Generic, TypeVar

import jsonschema
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Meta, inspect

from cliffracer.wire.schema import DIALECT, canonical, digest, schema, schemas
from tests.wire.types_and_values import Cat, Dog, Tree, kinds, nearly

T = TypeVar("T")


class User(msgspec.Struct, forbid_unknown_fields=True):
    """Somebody."""

    name: Annotated[str, Meta(min_length=1, description="full name")]
    age: Annotated[int, Meta(ge=0)] | None = None


class Page(msgspec.Struct, Generic[T]):
    rows: list[T]
    next: str | None = None


class Money:
    """A type that msgspec knows nothing of."""


class Odd(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    first_name: Annotated[str, Meta(description="given name")]
    owner: User
    price: Money
    lock: Any = threading.RLock


def test_descriptions_and_constraints_are_in_the_schema() -> None:
    """What the annotations say, callers can read."""
    user = schema(User)["$defs"]["User"]
    assert schema(User)["$schema"] == DIALECT
    assert user["description"] == "Somebody."
    assert user["properties"]["name"] == {"type": "string", "minLength": 1, "description": "full name"}
    assert user["required"] == ["name"]
    assert user["additionalProperties"] is False


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_every_type_has_a_valid_schema_that_takes_its_values(data: st.DataObject) -> None:
    """What msgspec accepts and writes again, the schema accepts too, but for what only msgspec knows."""
    kind = data.draw(kinds)
    document = schema(kind)
    jsonschema.Draft202012Validator.check_schema(document)
    value = data.draw(nearly(inspect.type_info(kind)))
    try:
        decoded = msgspec.json.decode(json.dumps(value).encode(), type=kind)
    except (ValueError, TypeError):
        return
    errors = jsonschema.Draft202012Validator(document).iter_errors(json.loads(msgspec.json.encode(decoded)))
    assert not [error for error in errors if error.validator not in {"multipleOf", "minItems", "minLength", "maxLength"}]


def test_types_share_what_they_refer_to() -> None:
    """Under names that a template places, as OpenAPI wants them."""
    found, components = schemas([list[User], Page[User], int, Cat | Dog, Tree], ref_template="#/components/schemas/{name}")
    assert found[0] == {"type": "array", "items": {"$ref": "#/components/schemas/User"}}
    assert found[1] == {"$ref": "#/components/schemas/Page_User_"}
    assert found[2] == {"type": "integer"}
    assert set(components) == {"User", "Page_User_", "Cat", "Dog", "Tree"}


def test_two_types_of_one_name_do_not_mix() -> None:
    """Each keeps its own schema, under a longer name; even those that share module and name, as generated ones do."""
    others = [msgspec.defstruct("User", [(name, str)], module="elsewhere") for name in ("one", "two", "three")]
    found, components = schemas([User, *others, list[others[2]]])
    assert len(components) == 4
    assert [entry["$ref"].rpartition("/")[2] for entry in found[:4]] == [
        f"{__name__}.User",
        "elsewhere.User",
        "elsewhere.User_2",
        "elsewhere.User_3",
    ]
    assert found[4]["items"] == found[3]
    assert set(components["elsewhere.User_2"]["properties"]) == {"two"}


@pytest.mark.parametrize("kind", [Money, list[Money], msgspec.msgpack.Ext, dict[str, Money]])
def test_a_type_without_schema_may_be_anything(kind: Any) -> None:
    """Discovery goes on."""
    document = schema(kind)
    jsonschema.Draft202012Validator.check_schema(document)
    assert "type" not in document or document["type"] in {"array", "object"}


def test_a_default_that_cannot_be_written_does_not_hide_the_fields() -> None:
    """They are described without it, with references that lead somewhere."""
    _, components = schemas([Odd, int])
    found = components["Odd"]
    assert found["required"] == ["firstName", "owner", "price"]
    assert found["properties"] == {
        "firstName": {"type": "string", "description": "given name"},
        "owner": {"$ref": "#/$defs/User"},
        "price": {"title": "Money"},
        "lock": {},
    }
    assert set(components) == {"Odd", "User"}
    jsonschema.Draft202012Validator(schema(Odd)).validate({"firstName": "a", "owner": {"name": "b"}, "price": "1 EUR"})


def test_the_text_and_its_hash_are_the_same_in_every_process() -> None:
    """So that callers can compare what they were built against."""
    code = "from tests.wire.test_schema import *; print(digest(canonical(schema(Page[User])), canonical(schema(int))))"
    here = digest(canonical(schema(Page[User])), canonical(schema(int)))
    found = {subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip() for _ in range(2)}
    assert found == {here}
    assert len(here) == 16


def test_any_change_changes_the_hash() -> None:
    """A constraint, a default, the order of two texts; but not the order of declaration."""
    one = msgspec.defstruct("S", [("a", int), ("b", int, 1)])
    same = msgspec.defstruct("S", [("a", int), ("b", int, 1)])
    others = [
        msgspec.defstruct("S", [("a", int), ("b", int, 2)]),
        msgspec.defstruct("S", [("a", Annotated[int, Meta(ge=0)]), ("b", int, 1)]),
        msgspec.defstruct("S", [("a", int), ("b", decimal.Decimal, decimal.Decimal(1))]),
        msgspec.defstruct("S", [("a", int), ("b", int, 1)], forbid_unknown_fields=True),
    ]
    hashes = {digest(canonical(schema(kind))) for kind in others}
    assert digest(canonical(schema(one))) == digest(canonical(schema(same)))
    assert len(hashes | {digest(canonical(schema(one)))}) == len(others) + 1
    assert digest("a", "b") != digest("b", "a") != digest("ab", "")
