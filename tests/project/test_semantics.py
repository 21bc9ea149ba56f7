"""The promises of docs/semantics.md, each with the tests that show it."""

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
PROMISES = (TESTS.parent / "docs" / "semantics.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"\[([\w/]+\.py)::(\w+)\]", PROMISES)))


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_a_promise_is_shown_by_a_test_that_exists(file: str, name: str):
    """A renamed or removed test takes its sentence with it."""
    tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
    assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)}


def test_every_promise_has_a_test():
    """A sentence of the list that nothing shows is a wish; the reasons for a decision promise nothing."""
    promises, _, rest = PROMISES.partition("### What the server's own schedules")
    lines = [*promises.splitlines(), *rest.partition("## Replays")[2].splitlines()]
    assert [line for line in lines if line.startswith("- ") and "::" not in line] == []


def test_there_are_promises():
    """The pattern above finds them."""
    assert len(NAMED) > 50
