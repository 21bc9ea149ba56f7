"""Our decoders and msgspec agree about what is valid, for any type and any data, and every refusal has a reason."""

import json
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cliffracer.errors import InvalidInput
from cliffracer.wire.codecs import Decoder
from cliffracer.wire.validation import REFUSALS, Explainer, by_json, by_msgpack
from tests.wire.types_and_values import anything, kinds, nearly

slow = settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def _reference(decode: Any, data: bytes) -> tuple[bool, Any]:
    try:
        return True, decode(data)
    except REFUSALS:
        return False, None


def _ours(decode: Any, data: bytes) -> tuple[bool, Any]:
    try:
        return True, decode(data)
    except InvalidInput as error:
        reasons = error.errors
    assert reasons
    assert all(set(entry) == {"path", "message"} and entry["message"] for entry in reasons)
    assert len({json.dumps(entry) for entry in reasons}) == len(reasons)
    return False, None


@slow
@given(st.data())
def test_json_is_accepted_exactly_where_msgspec_accepts_it(data: st.DataObject) -> None:
    """A document without doubled keys, undue depth and huge numbers decodes to what msgspec makes of it, or is refused as there."""
    kind = data.draw(kinds)
    document = json.dumps(data.draw(nearly(msgspec.inspect.type_info(kind)) | anything)).encode()
    assert _ours(Decoder(kind).decode, document) == _reference(msgspec.json.Decoder(kind).decode, document)


@slow
@given(st.data())
def test_msgpack_is_accepted_exactly_where_msgspec_accepts_it(data: st.DataObject) -> None:
    """The same holds for MessagePack."""
    kind = data.draw(kinds)
    document = msgspec.msgpack.encode(data.draw(nearly(msgspec.inspect.type_info(kind), binary_keys=True) | anything))
    assert _ours(Decoder(kind).decode_msgpack, document) == _reference(msgspec.msgpack.Decoder(kind).decode, document)


@slow
@given(st.data())
def test_an_explanation_is_empty_exactly_where_msgspec_accepts(data: st.DataObject) -> None:
    """The walk finds errors if, and only if, the decoder of the whole type refuses."""
    kind = data.draw(kinds)
    value = data.draw(nearly(msgspec.inspect.type_info(kind)) | anything)
    for judge, encode, decoder in (
        (by_json, msgspec.json.encode, msgspec.json.Decoder),
        (by_msgpack, msgspec.msgpack.encode, msgspec.msgpack.Decoder),
    ):
        accepted, _ = _reference(decoder(kind).decode, encode(value))
        assert (Explainer(kind, judge).explain(value) == []) == accepted


@slow
@given(st.data())
def test_every_error_names_a_place_in_the_document(data: st.DataObject) -> None:
    """Each path leads to a value that is there, or to the missing or unknown name in an object that is there."""
    kind = data.draw(kinds)
    value = json.loads(json.dumps(data.draw(nearly(msgspec.inspect.type_info(kind)) | anything)))
    for error in Explainer(kind).explain(value):
        assert error.path == "" or error.path[0] not in ".]"
        assert error.path.count("[") == error.path.count("]") or '"' in error.path
