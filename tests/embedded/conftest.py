"""A project folder whose servers are gone after the test."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.embedded.project import Project


@pytest.fixture(autouse=True)
def short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers end soon after their last user, and no variable of the developer's reaches a test."""
    monkeypatch.setenv("CLIFFRACER_DEV_GRACE", "0.3")
    monkeypatch.delenv("CLIFFRACER_HOME", raising=False)
    monkeypatch.delenv("CLIFFRACER_ENV", raising=False)


@pytest.fixture
def project() -> Iterator[Project]:
    """Return a project with a short path, whose servers end with the test."""
    with tempfile.TemporaryDirectory(prefix="cr-") as folder:
        made = Project(Path(folder))
        try:
            yield made
        finally:
            made.clean()
