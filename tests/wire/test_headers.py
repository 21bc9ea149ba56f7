"""Header blocks: nothing breaks out of its line when written, and anything may come in."""

from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cliffracer.wire.cloudevents import TIME, event_block
from cliffracer.wire.headers import (
    MAX_HEADERS,
    Headers,
    correlation_from,
    encode_headers,
    number_from,
    status_of,
    timeout_from,
    traceparent_from,
)
from tests.support.events import event_headers

names = st.text(st.sampled_from("abcXYZ019!#$%&'*+-.^_`|~"), min_size=1, max_size=12)
values = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="".join(map(chr, [*range(9), *range(10, 32), 127]))), max_size=20
)


@given(st.dictionaries(names, values, max_size=6))
def test_what_is_written_is_read_back(headers: dict[str, str]) -> None:
    """Names as written, looked up in any case; values but for blanks around them; the first of a repeated name."""
    block = encode_headers(headers)
    read = Headers(block)
    assert block.startswith(b"NATS/1.0\r\n")
    assert block.endswith(b"\r\n\r\n" if headers else b"NATS/1.0\r\n\r\n")
    firsts: dict[str, tuple[str, str]] = {}
    for name, value in headers.items():
        firsts.setdefault(name.lower(), (name, value.strip(" \t")))
    assert list(read.items()) == list(firsts.values())
    for name in headers:
        assert read[name.upper()] == read[name.lower()] == firsts[name.lower()][1]
        assert name.swapcase() in read
    assert len(read) == len(firsts)


@pytest.mark.parametrize("bad", ["\r", "\n", "\r\nX: y", "\x00", "\x1b", "\x7f", "\x0b", "a\rb", "a\n", "\ud800"])
def test_a_value_that_would_break_out_is_refused(bad: str) -> None:
    """No header is smuggled in, no line ends early."""
    with pytest.raises(ValueError, match=r"control character|surrogates") as caught:
        encode_headers({"X-Name": f"v{bad}"})
    assert "X: y" not in str(caught.value)


@pytest.mark.parametrize("bad", ["", " ", "a b", "a:b", "a\r\n", "a\n", "é", "a\x00", "x" * 129, "a\tb", "(a)", '"a"'])
def test_a_name_that_is_no_token_is_refused(bad: str) -> None:
    """Names are those of RFC 9110."""
    with pytest.raises(ValueError, match="is no header name"):
        encode_headers({bad: "v"})


@given(st.dictionaries(st.text(max_size=8), st.text(max_size=12), max_size=3))
def test_a_block_has_one_line_for_each_header_or_is_refused(headers: dict[str, str]) -> None:
    """Whatever the names and values."""
    try:
        block = encode_headers(headers)
    except ValueError:
        return
    assert block.count(b"\r\n") == len(headers) + 2
    assert block.count(b"\r") == block.count(b"\n") == block.count(b"\r\n")


def test_a_block_over_the_limit_is_refused() -> None:
    """It would count against the server's limit for a message, or close the connection."""
    encode_headers({"a": "x" * (MAX_HEADERS - 20)})
    with pytest.raises(ValueError, match="is the limit"):
        encode_headers({"a": "x" * MAX_HEADERS})


@given(st.binary(max_size=80) | st.binary(max_size=60).map(lambda data: b"NATS/1.0\r\n" + data) | st.none())
def test_any_block_is_read(block: bytes | None) -> None:
    """A hostile or broken block leads to headers, never to an exception."""
    headers = Headers(block)
    assert all(isinstance(value, str) for value in dict(headers).values())
    assert "nothing" not in headers or headers["nothing"] is not None
    assert 0 <= status_of(block) <= 999
    assert headers.get("Absent-Header-Name") is None
    repr(headers)


@pytest.mark.parametrize(
    ("block", "status"),
    [
        (b"NATS/1.0 503\r\n\r\n", 503),
        (b"NATS/1.0 404 No Messages\r\n\r\n", 404),
        (b"NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: 1\r\n\r\n", 100),
        (b"NATS/1.0\r\nStatus: 503\r\n\r\n", 0),
        (b"NATS/1.0\r\n 503\r\n\r\n", 0),
        (b"NATS/1.0 5x3\r\n\r\n", 0),
        (b"NATS/1.0", 0),
        (b"", 0),
        (None, 0),
    ],
)
def test_a_status_stands_on_the_first_line_only(block: bytes | None, status: int) -> None:
    """A header called Status, which a peer may send, is none."""
    assert status_of(block) == status


def test_values_do_not_show_when_printed() -> None:
    """One of them may be a token."""
    assert "hunter2" not in repr(Headers(b"NATS/1.0\r\nAuthorization: Bearer hunter2\r\n\r\n"))


@pytest.mark.parametrize("good", ["a", "7", "a1b2-c3", "4bf92f3577b34da6a3ce929d0e0e4736", "a" * 128, "a.b:c/d+e=f@g~h_i-j"])
def test_safe_correlation_ids_are_taken(good: str) -> None:
    """Up to 128 characters that mean nothing in a log, a header or a shell."""
    assert correlation_from(good) == good


@pytest.mark.parametrize(
    "bad", [None, "", " ", "a b", "a\n", "\x1b[31m", "é", "a" * 129, "-a", "../x", "a;b", "<a>", "a,b", '"a"', "${a}", "a\u2028"]
)
def test_other_correlation_ids_are_not(bad: str | None) -> None:
    """They are replaced, never written anywhere."""
    assert correlation_from(bad) is None


@given(st.text(max_size=140))
def test_a_correlation_id_that_is_taken_goes_into_a_header(text: str) -> None:
    """What passes is safe to send on."""
    if correlation_from(text) is not None:
        encode_headers({"X-Correlation-ID": text})


@pytest.mark.parametrize(("text", "seconds"), [("0", 0.0), ("1", 0.001), ("10000", 10.0), ("9999999999", 9_999_999.999)])
def test_a_timeout_is_in_whole_milliseconds(text: str, seconds: float) -> None:
    """As ``Cliffracer-Timeout`` carries it."""
    assert timeout_from(text) == seconds


@pytest.mark.parametrize("text", [None, "", "-1", "1.5", "1e3", "nan", " 1", "1 ", "²", "٣", "99999999999", "0x1", "1" * 5000])
def test_other_timeouts_count_as_absent(text: str | None) -> None:
    """A peer's nonsense never raises and never becomes a deadline."""
    assert timeout_from(text) is None


@pytest.mark.parametrize("text", [None, "", "-1", "1.5", "x", " 1", "²", "٣", "1" * 21, "1" * 5000])
def test_what_is_no_number_counts_as_none(text: str | None) -> None:
    """A listing does not end at a message whose headers somebody made up."""
    assert number_from(text) == 0
    assert number_from("18446744073709551615") == 2**64 - 1


def test_a_trace_context_is_that_of_w3c_or_none() -> None:
    """The form is checked, since it is sent on."""
    good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    assert traceparent_from(good) == good
    for bad in (None, "", good.upper(), good + "-x", good + "\n", good[:-1], " " + good):
        assert traceparent_from(bad) is None


def test_an_events_block_names_what_its_headers_do() -> None:
    """An event that is encoded at once says the same of itself as one whose headers are a dict, and the ids of its context."""
    block = event_block("e-1", "user.created", "shop", "c-1", "00-t", "a.b.c", "shop", "ada")
    written = dict(Headers(block))
    named = event_headers("e-1", "user.created", "shop", key="ada")
    assert abs((datetime.fromisoformat(written.pop(TIME)) - datetime.fromisoformat(named.pop(TIME))).total_seconds()) < 60
    assert written == named | {
        "X-Correlation-ID": "c-1",
        "traceparent": "00-t",
        "Authorization": "Bearer a.b.c",
        "Cliffracer-Via": "shop",
    }
