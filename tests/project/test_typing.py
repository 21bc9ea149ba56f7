"""What type checkers make of the public API: tests/typing, read by mypy --strict and by pyright.

`accepted_*.py` has no error. `refused_*.py` has the mistakes that a user's checker should find: each line that is
wrong ends in `# E: words of mypy's message`, and pyright must complain about the same lines. What pyright alone can
tell, as it knows literal strings from others, ends in `# P: words of its message`.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.project.places import ROOT, tool

FOLDER = ROOT / "tests" / "typing"
ACCEPTED = sorted(FOLDER.glob("accepted_*.py"))
REFUSED = sorted(FOLDER.glob("refused_*.py"))


def _expected(mark: str) -> Iterator[tuple[str, int, str]]:
    for path in REFUSED:
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            _, marked, words = line.partition(f"  # {mark}: ")
            if marked:
                yield path.name, number, words


@pytest.fixture(scope="module")
def by_mypy() -> dict[tuple[str, int], str]:
    """Give what mypy says, by file and line."""
    printed = tool("mypy", "--strict", "--no-error-summary", "--no-pretty", str(FOLDER)).stdout
    found: dict[tuple[str, int], str] = {}
    for path, number, text in re.findall(r"^(\S+):(\d+): error: (.*)$", printed, re.MULTILINE):
        found[Path(path).name, int(number)] = found.get((Path(path).name, int(number)), "") + text
    return found


@pytest.fixture(scope="module")
def by_pyright() -> dict[tuple[str, int], str]:
    """Give what pyright says, by file and line."""
    done = tool("pyright", "--outputjson", *map(str, [*ACCEPTED, *REFUSED]))
    diagnostics = json.loads(done.stdout)["generalDiagnostics"]
    found: dict[tuple[str, int], str] = {}
    for each in diagnostics:
        if each["severity"] == "error":
            place = (Path(each["file"]).name, each["range"]["start"]["line"] + 1)
            found[place] = found.get(place, "") + each["message"]
    return found


def test_mypy_accepts_what_is_right_and_names_what_is_wrong(by_mypy: dict[tuple[str, int], str]) -> None:
    """With --strict, mypy complains about the marked lines, in the words given, and about no other."""
    expected = {(name, number): words for name, number, words in _expected("E")}
    ours = {place: text for place, text in by_mypy.items() if place[0].startswith(("accepted_", "refused_"))}
    assert {place: text for place, text in ours.items() if place not in expected} == {}
    assert {place: words for place, words in expected.items() if words not in ours.get(place, "")} == {}


def test_pyright_agrees(by_pyright: dict[tuple[str, int], str]) -> None:
    """The same lines are wrong for pyright, those that it alone can tell for the reason given, and no other."""
    alone = {(name, number): words for name, number, words in _expected("P")}
    assert set(by_pyright) == {(name, number) for name, number, _ in _expected("E")} | set(alone)
    assert {place: words for place, words in alone.items() if words not in by_pyright[place]} == {}
