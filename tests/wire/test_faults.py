"""Errors as replies: the class comes back, whatever its text and details, and a peer's nonsense is an error too."""

import json
import threading
import uuid
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cliffracer.errors import BY_CODE, Conflict, FieldError, Internal, InvalidInput, NotFound, Overloaded, ServiceError
from cliffracer.wire.faults import decode_fault, encode_fault
from cliffracer.wire.headers import CONTENT_TYPE, ERROR_CODE, ERROR_TEXT, Headers
from tests.wire.types_and_values import anything

PLAIN = [kind for kind in BY_CODE.values() if kind not in {InvalidInput, Overloaded}]


def sent(error: ServiceError, *, msgpack: bool = False) -> ServiceError:
    """Return the error that the other side gets."""
    block, body = encode_fault(error, msgpack=msgpack)
    return decode_fault(Headers(block), body)


@given(
    st.sampled_from(PLAIN), st.text(st.characters(exclude_categories=["Cs"])), st.dictionaries(st.text(max_size=5), anything, max_size=3)
)
def test_an_error_comes_back_as_its_class(kind: type[ServiceError], message: str, details: dict[str, Any]) -> None:
    """With its whole message and all details, for every code."""
    error = kind(message)
    error.details.update(details)
    back = sent(error)
    assert (type(back), back.message, back.details) == (kind, message or kind.title, details)


@pytest.mark.parametrize("msgpack", [False, True])
def test_the_fields_of_invalid_input_come_back(msgpack: bool) -> None:
    """All of them, as they were listed, whichever way the request was encoded."""
    back = sent(InvalidInput("no", errors=[FieldError("a[1].b", "is required"), {"path": "", "message": "x"}], hint="y"), msgpack=msgpack)
    assert isinstance(back, InvalidInput)
    assert back.errors == [{"path": "a[1].b", "message": "is required"}, {"path": "", "message": "x"}]
    assert back.details["hint"] == "y"


def test_overloaded_says_when_to_come_back() -> None:
    """The seconds travel."""
    back = sent(Overloaded("busy", retry_after=2.5))
    assert isinstance(back, Overloaded)
    assert back.retry_after == 2.5


@given(st.text())
def test_any_message_makes_a_reply(message: str) -> None:
    """Line breaks, control characters and half surrogates neither break the header nor the body."""
    block, body = encode_fault(NotFound(message))
    assert block.count(b"\r\n") == 5
    assert isinstance(json.loads(body)["message"], str)
    assert Headers(block)[ERROR_CODE] == "404"
    assert Headers(block)[CONTENT_TYPE] == "application/json"
    assert len(Headers(block)[ERROR_TEXT]) <= 200
    assert type(decode_fault(Headers(block), body)) is NotFound


@pytest.mark.parametrize("said", [7, 0, uuid.UUID(int=3), KeyError("x"), ["a"], b"x"])
@pytest.mark.parametrize("msgpack", [False, True])
def test_a_message_that_is_no_text_is_sent_as_text(said: Any, msgpack: bool) -> None:
    """What was not found is often an id: there would be no reply at all."""
    block, body = encode_fault(NotFound(said), msgpack=msgpack)
    back = decode_fault(Headers(block), body)
    assert (type(back), back.message) == (NotFound, str(said))


class OutOfStock(Conflict):
    """An error of a user's who did not call ``super().__init__``."""

    def __init__(self, sku: str) -> None:
        self.sku = sku


class Closed(Overloaded):
    """The same, of one that has more to tell."""

    def __init__(self) -> None: ...


class Odd(InvalidInput):
    """The same."""

    def __init__(self) -> None: ...


def test_an_error_with_an_init_of_its_own_makes_a_reply() -> None:
    """As any exception of Python's is raised without calling that of `Exception`."""
    back = sent(OutOfStock("tea"))
    assert (type(back), back.message, back.details) == (Conflict, "Conflict", {})
    assert (Closed().retry_after, Odd().errors) == (1.0, [])


class SoldOut(Conflict):
    """One that says what it is about by itself, and stays as it was made."""

    def __init__(self, sku: str) -> None:
        self.sku = sku

    @property
    def message(self) -> str:
        return f"no {self.sku} left"

    @property
    def details(self) -> dict[str, Any]:
        return {"sku": self.sku}


class Shut(Conflict):
    """The same, of one that always says the same."""

    message = "the shop is shut"

    def __init__(self) -> None: ...


@dataclass(frozen=True)
class Spoilt(Conflict):
    """The same, of one that cannot be changed."""

    sku: str


@pytest.mark.parametrize(
    ("error", "message", "details"),
    [(SoldOut("tea"), "no tea left", {"sku": "tea"}), (Shut(), "the shop is shut", {}), (Spoilt("tea"), "Conflict", {})],
)
def test_an_error_may_have_its_message_and_details_in_its_own_way(error: ServiceError, message: str, details: dict[str, Any]) -> None:
    """What it was could not even be made, or said its title instead."""
    back = sent(error)
    assert (back.message, back.details) == (message, details)


class Bad:
    """A detail that fails when it is looked at."""

    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]  # hostile on purpose
        raise KeyError("no")


def _endless() -> list[Any]:
    found: list[Any] = []
    found.append(found)
    return found


@pytest.mark.parametrize("bad", [object(), threading.Lock(), _endless(), "\ud800", {object(): 1}, Bad(), 1j])
def test_a_detail_that_cannot_be_encoded_is_left_out_alone(bad: Any) -> None:
    """The other details, and the reply, are not lost with it."""
    back = sent(NotFound("gone", bad=bad, good=[1, {"a": None}]))
    assert type(back) is NotFound
    assert back.message == "gone"
    assert back.details == {"good": [1, {"a": None}]}


headers = st.dictionaries(
    st.sampled_from([ERROR_CODE, ERROR_TEXT, "x"]), st.text(max_size=8) | st.sampled_from(["404", "499", "0", "-1", "9" * 9])
)
bodies = st.binary(max_size=40) | st.fixed_dictionaries({}, optional={"code": anything, "message": anything, "details": anything}).map(
    msgspec.json.encode
)


@given(headers, bodies)
def test_any_reply_that_calls_itself_an_error_is_one(found: dict[str, str], body: bytes) -> None:
    """Whatever a peer writes, a `ServiceError` comes of it, and it can be used."""
    block = "NATS/1.0\r\n" + "".join(f"{name}: {value}\r\n" for name, value in found.items()) + "\r\n"
    error = decode_fault(Headers(block.encode()), body)
    assert isinstance(error, ServiceError)
    assert isinstance(error.message, str)
    str(error), repr(error), encode_fault(error)
    if isinstance(error, InvalidInput):
        assert all(set(entry) == {"path", "message"} for entry in error.errors)
    if isinstance(error, Overloaded):
        assert error.retry_after >= 0


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("404", NotFound),
        ("400", InvalidInput),
        ("418", Internal),
        ("", Internal),
        ("4x4", Internal),
        ("99999999", Internal),
        ("²", Internal),
    ],
)
def test_the_class_is_that_of_the_code(code: str, kind: type[ServiceError]) -> None:
    """An unknown code is `Internal`; the text of the header stands in for a body that is none."""
    error = decode_fault(Headers(f"NATS/1.0\r\n{ERROR_CODE}: {code}\r\n{ERROR_TEXT}: why\r\n\r\n".encode()), b"not json")
    assert type(error) is kind
    assert error.message == "why"


@pytest.mark.parametrize(
    "details", [{"retry_after": "soon"}, {"retry_after": None}, {"retry_after": [1]}, {"retry_after": -5}, {"self": 1, "message": 2}]
)
def test_details_of_a_peer_need_not_fit_ours(details: dict[str, Any]) -> None:
    """The class and the text stay; asking for a detail never raises."""
    body = msgspec.json.encode({"code": 429, "message": "busy", "details": details})
    error = decode_fault(Headers(b"NATS/1.0\r\nNats-Service-Error-Code: 429\r\n\r\n"), body)
    assert isinstance(error, Overloaded)
    assert error.message == "busy"
    assert error.retry_after >= 0


def test_a_deep_body_is_no_reason_to_fail() -> None:
    """A body nested 100,000 deep counts as none."""
    body = b'{"details":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001
    error = decode_fault(Headers(b"NATS/1.0\r\nNats-Service-Error-Code: 404\r\n\r\n"), body)
    assert type(error) is NotFound
