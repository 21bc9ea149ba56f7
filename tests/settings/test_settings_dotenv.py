"""The ``.env`` file's lines."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cliffracer.settings.dotenv import parse

LINES = [
    ("A=b", {"A": "b"}),
    ("  export  A = b  ", {"A": "b"}),
    ("A=", {"A": ""}),
    ("A=  # nothing", {"A": ""}),
    ("A=#x", {"A": ""}),
    ("A=b#c # comment", {"A": "b#c"}),
    ("A=b c", {"A": "b c"}),
    ("A='b # c' # comment", {"A": "b # c"}),
    ("A='\\n${B}'", {"A": "\\n${B}"}),
    ('A="b\\nc\\t\\"\\\\\\$"', {"A": 'b\nc\t"\\$'}),
    ('A="C:\\path"', {"A": "C:\\path"}),
    ("A=${B}", {"A": "${B}"}),
    ('A="-----BEGIN\nxyz\n-----END"\nB=1', {"A": "-----BEGIN\nxyz\n-----END", "B": "1"}),
    ("A='x\ny'\nB=1", {"A": "x\ny", "B": "1"}),
    ("A=1\nA=2", {"A": "2"}),
    ("A=1\r\nB=2\rC=3", {"A": "1", "B": "2", "C": "3"}),
    ("\ufeffA=1", {"A": "1"}),
    ("a.b-c=1", {"a.b-c": "1"}),
    ("A=it's", {"A": "it's"}),
    ("A=b=c", {"A": "b=c"}),
    ("\n\n# x\n   \n\t# y\n", {}),
    ("", {}),
    ("A=é😀", {"A": "é😀"}),
]

BROKEN = [
    ("A", 1),
    ("# x\n\nexport", 3),
    ("A=1\n=2", 2),
    ("1A=2", 1),
    ("A B=2", 1),
    ("A='x", 1),
    ("X=1\nA='x\n\n", 2),
    ('A="x\\"', 1),
    ("A='x' y", 1),
    ("A='x\ny'\nA='x\ny' z", 3),
    ("A=x\0y", 1),
]


@pytest.mark.parametrize(("content", "found"), LINES)
def test_lines_are_read(content: str, found: dict[str, str]) -> None:
    """Quotes, comments, export, escapes and lines within quotes mean what the shell means by them."""
    assert {name: entry.value for name, entry in parse(content).items()} == found


@pytest.mark.parametrize(("content", "line"), BROKEN)
def test_a_broken_line_is_named(content: str, line: int) -> None:
    """What cannot be read is told with the number of its line, and nothing of its value."""
    with pytest.raises(ValueError, match=rf"^line {line}: "):
        parse(content)


def test_lines_are_counted_through_quotes() -> None:
    """An entry knows its line, also after values that span several."""
    assert [entry.line for entry in parse("\nA='1\n2\n3'\n# x\nB=1\n").values()] == [2, 6]


def quoted(value: str) -> str:
    """Write a value so that it is read back the same."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\r", "\\r").replace("$", "\\$")
    return f'"{escaped}"'


names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)


@given(st.dictionaries(names, texts, max_size=5), st.sampled_from(["\n", "\r\n"]))
def test_what_is_quoted_comes_back(entries: dict[str, str], end: str) -> None:
    """Any text in double quotes with its escapes is read back as it was."""
    content = end.join(f"{name}={quoted(value)} # {index}" for index, (name, value) in enumerate(entries.items()))
    assert {name: entry.value for name, entry in parse(content).items()} == entries


@given(st.text(max_size=80))
def test_any_text_is_read_or_refused(content: str) -> None:
    """No text makes the parser fail otherwise than by ValueError with a line, or read a name that is none."""
    try:
        entries = parse(content)
    except ValueError as error:
        told, entries = str(error), {}
    else:
        told = ""
    assert not told or told.startswith("line ")
    assert all(name.isascii() and "\0" not in entry.value for name, entry in entries.items())
