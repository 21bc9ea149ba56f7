"""The change log: Keep a Changelog, and in step with the version."""

import re
import tomllib

from tests.project.places import ROOT

HEADINGS = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
TEXT = (ROOT / "CHANGELOG.md").read_text()


def test_newest_release_is_the_version_of_the_package() -> None:
    """The first release in the log is the version in pyproject.toml; "Unreleased" stands before it."""
    sections = re.findall(r"^## \[([^]]+)\]", TEXT, re.MULTILINE)
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert sections[:2] == ["Unreleased", version]


def test_changes_stand_under_the_agreed_headings() -> None:
    """Changes are Added, Changed, Deprecated, Removed, Fixed or Security, nothing else."""
    assert set(re.findall(r"^### (.*)$", TEXT, re.MULTILINE)) <= HEADINGS
