"""A key that stands twice is found for any type, however the probe for it decided that a second reading is not needed."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from cliffracer.errors import InvalidInput
from cliffracer.wire.codecs import Decoder
from tests.wire.types_and_values import anything, kinds, nearly

often = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


def objects(value: Any) -> list[dict[Any, Any]]:
    """Return all objects in a value that have keys."""
    found = []
    todo = [value]
    for part in todo:
        if isinstance(part, dict):
            todo += part.values()
            found += [part] if part else []
        elif isinstance(part, list):
            todo += part
    return found


class Writer:
    """Writes JSON or MessagePack with one more entry in one object."""

    def __init__(self, owner: dict[Any, Any], name: Any, value: Any, at: int) -> None:
        self._owner = owner
        self._extra = (name, value)
        self._at = at

    def pairs(self, value: dict[Any, Any]) -> list[tuple[Any, Any]]:
        pairs = list(value.items())
        if value is self._owner:
            pairs.insert(self._at % (len(pairs) + 1), self._extra)
        return pairs

    def json(self, value: Any) -> str:
        if isinstance(value, dict):
            return "{" + ",".join(f"{json.dumps(name)}:{self.json(part)}" for name, part in self.pairs(value)) + "}"
        if isinstance(value, list):
            return "[" + ",".join(map(self.json, value)) + "]"
        return json.dumps(value)

    def msgpack(self, value: Any) -> bytes:
        if isinstance(value, dict):
            pairs = self.pairs(value)
            return bytes([0x80 | len(pairs)]) + b"".join(self.msgpack(name) + self.msgpack(part) for name, part in pairs)
        if isinstance(value, list):
            return bytes([0x90 | len(value)]) + b"".join(map(self.msgpack, value))
        return msgspec.msgpack.encode(value)


@given(st.data())
@often
def test_a_doubled_key_is_found_for_any_type(data: st.DataObject) -> None:
    """In a document that is right or nearly right but for one key of one of its objects, which is there again."""
    kind = data.draw(kinds)
    packed = data.draw(st.booleans())
    value = data.draw(nearly(msgspec.inspect.type_info(kind), binary_keys=packed))
    owners = objects(value)
    assume(owners)
    owner = data.draw(st.sampled_from(owners))
    name = data.draw(st.sampled_from(list(owner)))
    again = data.draw(st.just(owner[name]) | anything)
    writer = Writer(owner, name, again, data.draw(st.integers(0, 5)))
    decoder: Decoder[Any] = Decoder(kind)
    with pytest.raises(InvalidInput):
        decoder.decode_msgpack(writer.msgpack(value)) if packed else decoder.decode(writer.json(value).encode())


class Person(msgspec.Struct):
    name: str
    nick: str | None = None
    status: str = "active"
    level: int = 0
    ratio: float = 0.5
    tags: list[str] = []
    labels: dict[str, int] = {}
    friend: "Person | None" = None
    friends: list["Person"] = []


values = {
    "name": st.text(max_size=3),
    "nick": st.none() | st.text(max_size=2),
    "status": st.sampled_from(["active", "gone", ""]),
    "level": st.integers(-1, 300),
    "ratio": st.sampled_from([0.5, 1, 1.5]),
    "tags": st.lists(st.text(max_size=2), max_size=2),
    "labels": st.dictionaries(st.text(max_size=2), st.integers(0, 3), max_size=2),
}


def people(below: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    optional = {name: strategy for name, strategy in values.items() if name != "name"}
    optional |= {"friend": st.none() | below, "friends": st.lists(below, max_size=2)}
    return st.fixed_dictionaries({"name": values["name"]}, optional=optional)


persons = st.recursive(people(st.just({"name": "a"})), people, max_leaves=4)


@given(persons, st.data())
@often
def test_optional_fields_hide_no_doubled_key(value: Any, data: st.DataObject) -> None:
    """Given or not, as their default or not, of any depth; and without the doubled key the document is taken."""
    decoder: Decoder[Any] = Decoder(data.draw(st.sampled_from([Person, Person | None, list[Person], dict[str, Person]])))
    document = {list: [value], dict: {"a": value}}.get(getattr(decoder.kind, "__origin__", None), value)
    decoder.decode(json.dumps(document).encode())
    decoder.decode_msgpack(msgspec.msgpack.encode(document))
    owner = data.draw(st.sampled_from(objects(document)))
    name = data.draw(st.sampled_from(list(owner)))
    writer = Writer(owner, name, data.draw(st.just(owner[name]) | values.get(name, st.integers(0, 3))), data.draw(st.integers(0, 5)))
    with pytest.raises(InvalidInput):
        decoder.decode(writer.json(document).encode())
    with pytest.raises(InvalidInput):
        decoder.decode_msgpack(writer.msgpack(document))
