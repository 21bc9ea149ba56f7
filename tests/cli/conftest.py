"""What the tests of the command line share: the wheel."""

from pathlib import Path

import pytest

from tests.cli.strangers import built_wheel


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give what a user would install: the wheel of this checkout, alone in its folder."""
    return built_wheel(tmp_path_factory.mktemp("dist"))
