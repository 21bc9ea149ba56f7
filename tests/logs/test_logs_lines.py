"""One record is one line, whatever it holds."""

import json
import re
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import cliffracer
from cliffracer import SetupError
from cliffracer.observability.lines import LONGEST, escaped, plain, trace_id
from cliffracer.observability.logs import log
from cliffracer.settings import Secret

CONTROLS = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


class Colour(Enum):
    """An enum."""

    RED = "red"


class Point(msgspec.Struct):
    """A struct."""

    x: int


class Unprintable:
    """A value whose repr fails."""

    def __repr__(self) -> str:
        raise RuntimeError("no")


class Endless(dict):
    """A mapping whose items fail."""

    def items(self):
        raise RuntimeError("no")


class Odd(str):
    """Text that is no plain text."""

    __slots__ = ()

    def __str__(self) -> str:
        raise RuntimeError("no")


def nested(depth: int) -> object:
    """Lists in lists."""
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


def circular() -> list[object]:
    """A list that holds itself."""
    value: list[object] = []
    value.append(value)
    return value


def test_a_line_has_its_fields(lines) -> None:
    """A JSON line has time in UTC, level, message, logger, and what was given by name."""
    log.info("order placed", order=7, lines=["a"], ok=True, nothing=None)
    line = lines.one()
    assert line.keys() == {"time", "level", "message", "logger", "line", "pid", "order", "lines", "ok", "nothing"}
    assert (line["level"], line["message"], line["logger"], line["order"]) == ("INFO", "order placed", __name__, 7)
    assert line["time"].endswith("Z")
    assert abs((datetime.now(UTC) - datetime.fromisoformat(line["time"])).total_seconds()) < 60


def test_a_line_inside_a_call_says_which(lines, call) -> None:
    """Service, handler, correlation id and trace id stand on each line of a call, and on none outside."""
    log.info("x")
    line = lines.one()
    assert [line[name] for name in ("service", "handler", "correlation_id", "trace_id")] == ["users", "create", "c-1", "ab" * 16]


def test_a_trace_that_nobody_began_begins_with_the_first_line(lines, call) -> None:
    """A call without ``traceparent`` has one trace id in all its lines, and it goes along with what it calls."""
    call.found_trace = None
    log.info("x")
    first = lines.one()["trace_id"]
    log.info("y")
    assert lines.one()["trace_id"] == first
    assert trace_id(call.onward()) == trace_id(call.traceparent) == first


def test_a_line_outside_a_call_says_nothing_of_one(lines) -> None:
    """Without a call there are no fields of one."""
    log.info("x")
    assert not {"service", "handler", "correlation_id", "trace_id"} & lines.one().keys()


def test_a_field_cannot_stand_for_one_of_ours(lines, call) -> None:
    """A field called like one of ours gets an underscore, so that nobody forges a level or a correlation id."""
    log.info("x", level="FATAL", time="never", correlation_id="forged", service="users")
    line = lines.one()
    assert (line["level"], line["level_"], line["correlation_id"], line["correlation_id_"]) == ("INFO", "FATAL", "c-1", "forged")
    assert (line["time_"], line["service"], "service_" in line) == ("never", "users", False)


def test_other_sinks_get_the_call_too(lines, call) -> None:
    """A handler that a user added to loguru finds the call's fields in ``extra``, without losing the user's own."""
    found = []
    handler = log.add(lambda message: found.append(message.record["extra"]), format="{message}")
    log.info("x", service="mine")
    log.remove(handler)
    assert found == [{"service": "mine", "handler": "create", "correlation_id": "c-1", "trace_id": "ab" * 16}]
    assert lines.one()["service_"] == "mine"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (Secret("x"), "***"),
        (Colour.RED, "red"),
        (Point(1), "Point(x=1)"),
        (b"\xff", "b'\\xff'"),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        (2**64, "18446744073709551616"),
        (-(2**63), -(2**63)),
        (10**5000, "<int that cannot be printed>"),
        (Decimal("1.10"), "1.10"),
        (datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02T00:00:00+00:00"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Path("/x"), "/x"),
        ((1, "a"), [1, "a"]),
        ({1: 2, (3,): 4}, {"1": 2, "(3,)": 4}),
        ({"a": {"Password": "x", "b": Secret("x")}}, {"a": {"Password": "***", "b": "***"}}),
        (Unprintable(), "<Unprintable that cannot be printed>"),
        (Odd("x"), "x"),
        ("\udcff", "\\udcff"),
        (list(range(200)), [*range(100), "… 100 more"]),
        (nested(8), [[[[[["[[1]]"]]]]]]),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_values_become_what_json_has(value: object, shown: object) -> None:
    """A value of any type has a form in JSON; secrets never do."""
    assert plain(value) == shown


@pytest.mark.parametrize(
    "value", [Unprintable(), Endless(a=1), Odd("x"), circular(), nested(5000), object, lambda: 1, {Unprintable(): 1}, "x" * 10**7]
)
def test_no_value_breaks_a_line(lines, value: object) -> None:
    """Whatever a value does when looked at, the line is there, valid and of bounded length."""
    log.info("x", value=value)
    text = lines.text()
    assert json.loads(text)["message"] == "x"
    assert len(text) < 20_000


def test_private_names_are_not_logged(lines) -> None:
    """A field that is called like a credential shows stars, also inside."""
    log.info("x", password="hunter2", headers={"Authorization": "hunter2", "Accept": "y"})
    line = lines.one()
    assert (line["password"], line["headers"]) == ("***", {"Authorization": "***", "Accept": "y"})


def test_long_text_is_cut(lines) -> None:
    """A value of megabytes is cut, and says how much is missing."""
    log.info("x" * (LONGEST + 5))
    assert lines.one()["message"] == "x" * LONGEST + "… 5 more"


def test_an_exception_is_one_field(lines) -> None:
    """A traceback is a field of its line, without the values of variables."""
    mine = "hunter2hunter2"
    log.opt(exception=raised(ValueError("first\nsecond" if mine else ""))).error("went wrong")
    line = lines.one()
    assert (line["level"], line["message"]) == ("ERROR", "went wrong")
    assert (line["exception"]["type"], line["exception"]["message"]) == ("ValueError", "first\nsecond")
    assert "test_logs_lines.py" in line["exception"]["traceback"]
    assert mine not in line["exception"]["traceback"]


class Sly:
    names = 1

    def __dir__(self) -> list[str]:
        raise AssertionError("its own words are not asked for")


def test_a_mistyped_name_in_a_traceback_is_told_with_the_one_that_was_meant(lines) -> None:
    """As Python tells it of what nobody catches; an object's own `__dir__`, which may be slow, is not called."""
    for wrong in ("nmes", "_unlike_any"):
        try:
            getattr(Sly(), wrong)
        except AttributeError as error:
            log.opt(exception=error).error("went wrong")
    first, second = lines.all()
    assert first["exception"]["traceback"].rstrip().endswith("'Sly' object has no attribute 'nmes'. Did you mean: 'names'?")
    assert "Did you mean" not in second["exception"]["traceback"]


def test_a_traceback_is_of_what_users_wrote_and_what_they_called(lines) -> None:
    """What of ours led there is the same each time and left out, also of what it came from; where there is nothing else, all is told."""
    space: dict[str, Any] = {}
    file = Path(cliffracer.__file__).parent / "led.py"  # as if it were one of ours
    exec(compile("def ours(work):\n    return work()\ndef broken():\n    return 1 / 0\n", file, "exec"), space)

    def middle() -> None:
        space["broken"]()

    def theirs() -> None:
        try:
            space["ours"](middle)
        except ZeroDivisionError as error:
            raise KeyError from error

    for work in (theirs, space["broken"]):
        with pytest.raises((KeyError, ZeroDivisionError)) as caught:
            space["ours"](work)
        log.opt(exception=(caught.type, caught.value, caught.tb.tb_next)).error("went wrong")  # without this test's own frame
    first, second = (re.findall(r", in (.*)", line["exception"]["traceback"]) for line in lines.all())
    assert first == ["theirs", "middle", "broken", "theirs"]
    assert second == ["ours", "broken"]


def test_what_our_message_says_is_no_field_for_people(configure) -> None:
    """Programs have it by its name; a user's own fields are shown whatever the message says."""
    for form in ("human", "json"):
        lines = configure(log_format=form)
        for name in ("cliffracer.messaging.policy", "users"):
            of_name = log.patch(lambda record, name=name: record.update(name=name))
            of_name.error("gave up after {attempt}: {why}", attempt=7, why=SetupError("no room"), error_id="e", note="")
        ours, theirs = lines.text().splitlines()
        if form == "human":
            assert ours.endswith('gave up after 7: no room error_id=e note=""')
            assert re.search(r'gave up after 7: no room attempt=7 why=".*no room.*" error_id=e note=""$', theirs)
        else:
            assert json.loads(ours)["attempt"] == 7


class Mute(Exception):
    """An error whose text fails."""

    def __str__(self) -> str:
        raise RuntimeError("no")


def raised(error: BaseException) -> BaseException:
    """Give an error its traceback."""
    try:
        raise error
    except type(error) as found:
        return found


@pytest.mark.parametrize(
    "error", [Mute(), ExceptionGroup("g", [ValueError(1), Mute()]), KeyboardInterrupt(), ValueError("\udcff\x1b"), ValueError("x" * 10**6)]
)
def test_no_exception_breaks_a_line(lines, error: BaseException) -> None:
    """An error whose text fails, that is a group, or is huge, is logged by its type."""
    log.opt(exception=raised(error)).error("x")
    text = lines.text()
    assert type(error).__name__ in json.loads(text)["exception"]["type"]
    assert len(text) < 100_000


def test_a_person_reads_one_line(configure, call) -> None:
    """For people a line is time, level, place, message, fields, correlation id; an exception follows, indented."""
    lines = configure(log_format="human")
    log.warning("took long", ms=12.5, name="Ada L", empty="")
    log.opt(exception=raised(ValueError("a\n12:00:00.000 INFO     forged"))).error("failed")
    first, second, *rest = lines.text().splitlines()
    assert re.fullmatch(r'\d\d:\d\d:\d\d\.\d{3} WARNING  users\.create took long ms=12\.5 name="Ada L" empty="" c-1', first)
    assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3} ERROR    users\.create failed c-1", second)
    assert rest[0] == "  Traceback (most recent call last):"
    assert all(line.startswith("  ") for line in rest)


@pytest.mark.parametrize("form", ["human", "json"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=60)
@given(message=st.text(max_size=40), name=st.text(max_size=10), value=st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.binary(max_size=5)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3), max_leaves=5))  # fmt: skip
def test_any_input_is_one_line(configure, form: str, message: str, name: str, value: object) -> None:
    """No message, field name or value makes a second line, moves a cursor, or breaks JSON."""
    lines = configure(log_format=form)
    log.bind(**{name: value}).info(message.replace("{", "("))
    text = lines.text()
    assert text.endswith("\n")
    assert text.count("\n") == 1
    assert not CONTROLS.search(text)
    if form == "json":
        line = json.loads(text)
        assert line["message"] == message.replace("{", "(").encode("utf-8", "backslashreplace").decode()
        assert line["level"] == "INFO"


@given(st.text())
def test_escaped_text_has_no_control_characters(text: str) -> None:
    """Escaping leaves nothing that a terminal obeys, and leaves other text alone."""
    found = escaped(text)
    assert not CONTROLS.search(found)
    assert "\n" not in found
    assert found == text or found != text.encode("unicode_escape")


@pytest.mark.parametrize("parent", [None, "", "00-abc", "x" * 55, *(f"00-{mark * 32}-{'c' * 16}-01" for mark in "\x1b é")])
def test_a_trace_parent_that_is_none_gives_no_trace(parent: str | None) -> None:
    """Only what looks like a trace id is logged as one."""
    assert trace_id(parent) == ""
