"""The page for who changes Cliffracer itself, docs/inside.md: what it names is where it says."""

import ast
import re

import pytest

from tests.project.places import PACKAGE, ROOT

PAGE = (ROOT / "docs" / "inside.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`([\w.]+)`\s+in\s+`([\w/]+\.py)`", PAGE)))


def test_files_exist() -> None:
    """Every file and folder that the page names is there."""
    named = set(re.findall(r"`([\w/]+(?:\.py|/))`", PAGE))
    assert len(named) > 30
    assert [name for name in named if not ((PACKAGE / name).exists() or (ROOT / name).exists())] == []


@pytest.mark.parametrize(("name", "file"), NAMED)
def test_names_are_defined_where_they_are_said_to_be(name: str, file: str) -> None:
    """A class, function, method or constant stands in the file beside it."""
    body: list[ast.stmt] = ast.parse((PACKAGE / file).read_text(encoding="utf-8")).body
    for part in name.split("."):
        found = next((node for node in body if part in _defined(node)), None)
        assert found is not None, f"{file} has no {name}"
        body = getattr(found, "body", [])


def _defined(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    return [node.name] if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) else []
