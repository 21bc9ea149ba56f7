"""What may be a subject, a pattern, a token or a name: nothing that breaks out of the protocol's line."""

import itertools
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cliffracer.wire.subjects import (
    MAX_SUBJECT,
    Subjects,
    check_literal,
    check_name,
    check_pattern,
    matches,
    named_within,
    within,
)

CHECKS = [check_literal, check_pattern, check_name]
BREAKING = ["\x00", "\t", "\n", "\r", " ", "\x1b", "\x7f", "\r\nPUB x 1\r\n", "\u0000"]
PLACES = ["%s", "a%s", "%sa", "a%sb", "a.%s", "%s.a", "a.b%s.c"]
HARMFUL = [place.replace("%s", breaking) for place in PLACES for breaking in BREAKING]
EMPTY = ["", ".", "a.", ".a", "a..b", "..", "a...b"]
WILD = ["*", ">", "a.*", "a.>", "*.b", "a*", "a>b", "a.b*", "*a", ">a", "a.>.b", "**", ">>", "*>"]

token = st.text(st.characters(exclude_characters=" .*>\x7f", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=6)
subject = st.lists(token, min_size=1, max_size=5).map(".".join)
anything = st.text(st.sampled_from("ab.*> \t\r\n\x00é\ud800") | st.characters(), max_size=8)


def refused(check: object, text: str) -> bool:
    """Say whether a check raises; only ValueError may be raised."""
    try:
        assert check(text) == text
    except ValueError:
        return True
    return False


@pytest.mark.parametrize("text", HARMFUL)
def test_blanks_and_control_characters_are_refused_everywhere(text: str) -> None:
    """A space ends a subject on the wire, a line break the whole command."""
    assert all(refused(check, text) for check in CHECKS)


@pytest.mark.parametrize("text", EMPTY)
def test_empty_tokens_are_refused_everywhere(text: str) -> None:
    """The server would refuse them, or worse, take them."""
    assert all(refused(check, text) for check in CHECKS)


@pytest.mark.parametrize("text", WILD)
def test_wildcards_are_refused_where_a_literal_is_meant(text: str) -> None:
    """Only a pattern may have them, and there only as a whole token, > as the last one."""
    assert all(refused(check, text) for check in (check_literal, check_name))
    parts = text.split(".")
    legal = all(part in {"*", ">"} or not set(part) & set("*>") for part in parts) and ">" not in parts[:-1]
    assert refused(check_pattern, text) != legal


def test_half_a_surrogate_pair_is_refused_everywhere() -> None:
    """It has no UTF-8, and the server takes nothing else."""
    assert all(refused(check, "a\ud800") for check in CHECKS)


@given(anything)
def test_what_passes_a_check_cannot_break_a_line(text: str) -> None:
    """Whatever passes is one word of UTF-8 on the wire, and within the limit."""
    for check in CHECKS:
        if not refused(check, text):
            line = b"PUB " + text.encode() + b" 0"
            assert len(line.split()) == 3
            assert not set(line) & set(b"\x00\r\n\t")


@given(subject)
def test_subjects_of_letters_of_any_script_pass(text: str) -> None:
    """NATS takes UTF-8; so do we."""
    assert not refused(check_literal, text)
    assert not refused(check_pattern, text)


@pytest.mark.parametrize("check", CHECKS[:2])
def test_the_limit_counts_bytes(check: object) -> None:
    """A long subject makes nats-server close the connection, so it never reaches it."""
    assert not refused(check, "a" * MAX_SUBJECT)
    assert refused(check, "a" * (MAX_SUBJECT + 1))
    assert refused(check, "é" * (MAX_SUBJECT // 2 + 1))
    assert refused(check, "x" * 1_000_000)


@pytest.mark.parametrize("text", ["a", "user_service", "A-1", "x" * 64])
def test_names_are_those_that_nats_allows_for_services_and_streams(text: str) -> None:
    """Letters, digits, underscore and dash, 64 at most."""
    assert not refused(check_name, text)


@pytest.mark.parametrize("text", ["x" * 65, "é", "a.b", "a/b", "a\n", "user service", "a:b"])
def test_other_names_are_refused(text: str) -> None:
    """A trailing line break too, which a careless regular expression lets pass."""
    assert refused(check_name, text)


def test_a_refusal_shows_the_start_of_the_text_escaped() -> None:
    """The message can be printed and logged."""
    with pytest.raises(ValueError, match=r"'a\\nb.* is no subject") as caught:
        check_literal("a\nb" + "x" * 1000)
    assert len(str(caught.value)) < 300


def _slowly(pattern: list[str], given: list[str]) -> bool:
    if not pattern or not given:
        return not pattern and not given
    if pattern[0] == ">":
        return len(pattern) == 1
    return pattern[0] in {"*", given[0]} and _slowly(pattern[1:], given[1:])


def test_matching_agrees_with_its_definition() -> None:
    """For all patterns and subjects of up to four tokens."""
    for size in range(1, 5):
        for wanted in itertools.product(["a", "b", "*", ">"], repeat=size):
            if ">" in wanted[:-1]:
                continue
            for length in range(1, 5):
                for given_tokens in itertools.product("ab", repeat=length):
                    pattern, text = ".".join(wanted), ".".join(given_tokens)
                    assert matches(pattern, text) == _slowly(list(wanted), list(given_tokens)), (pattern, text)


@given(subject, st.sampled_from(["", "blue", "green-1"]))
def test_the_name_of_an_event_comes_back_from_its_subject(name: str, namespace: str) -> None:
    """With and without a namespace."""
    subjects = Subjects(namespace)
    assert subjects.event_name(subjects.event(name)) == name
    assert not refused(check_literal, subjects.event(name))


def test_namespaces_do_not_overlap() -> None:
    """What one environment subscribes to, another never publishes."""
    spaces = [Subjects(), Subjects("blue"), Subjects("blue2")]
    literals = [{s.rpc("users", "get"), s.event("user.created"), s.cancel("users"), s.stream} for s in spaces]
    assert all(not one & other for one, other in itertools.combinations(literals, 2))
    for one, other in itertools.permutations(spaces, 2):
        assert not matches(one.event(">"), other.event("user.created"))


@pytest.mark.parametrize("namespace", ["a.b", "a b", "*", ">", "a\n", "x" * 65])
def test_a_namespace_is_a_name(namespace: str) -> None:
    """It becomes part of stream names, which allow less than subjects."""
    with pytest.raises(ValueError, match="is no name"):
        Subjects(namespace)


def test_names_within_a_namespace() -> None:
    """Subjects are joined by a dot, names that allow none by an underscore."""
    assert within("", "a") == "a"
    assert within("blue", "a") == "blue.a"
    assert named_within("blue", "EVENTS") == "blue_EVENTS"
    assert set(named_within("blue", "EVENTS")) <= set(string.ascii_letters + "_")
