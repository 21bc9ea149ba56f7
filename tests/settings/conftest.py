"""Settings looked for in an empty folder and an environment that a test gives."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cliffracer.settings import Settings

Load = Callable[..., Settings]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Load settings from the test's folder; keyword ``environ`` is the whole environment."""

    def loaded(environ: dict[str, str] | None = None, **overrides: Any) -> Settings:
        return Settings.load(folder=tmp_path, environ=environ or {}, **overrides)

    return loaded


@pytest.fixture(autouse=True)
def _transport() -> None:
    """Leave the choice to the tests, whatever the others run on."""
