"""docs/permissions.md does what it says."""

from pathlib import Path

from tests.project.places import ROOT
from tests.project.snippets import follow


def test_permissions(tmp_path: Path) -> None:
    """Every snippet runs, in order, in one folder, on the embedded servers."""
    follow((ROOT / "docs" / "permissions.md").read_text(), tmp_path)
