"""The wheel that `make build` makes: whole, and nothing else."""

import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.project.places import PACKAGE, ROOT


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    """Build it, without touching the network or dist/."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as archive:
        yield archive


def test_wheel_has_the_package_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    """Code, SQL, pages and the typing marker are in it; tests, examples and benchmarks are not."""
    packed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    there = {str(path.relative_to(ROOT)) for path in PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert packed == there
    assert "cliffracer/py.typed" in packed


def test_wheel_carries_its_licence(wheel: zipfile.ZipFile) -> None:
    """The licence text is in the wheel, and its metadata names it."""
    licence = next(name for name in wheel.namelist() if name.endswith("licenses/LICENSE"))
    assert wheel.read(licence) == (ROOT / "LICENSE").read_bytes()


def test_command_runs_from_the_wheel(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    """Unpacked into an empty folder, the command line starts and knows its version."""
    wheel.extractall(tmp_path)
    command = [sys.executable, "-c", "import cliffracer, sys; print(cliffracer.__file__); from cliffracer.__main__ import main; main()"]
    done = subprocess.run(
        [*command, "--help"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(tmp_path))
    assert "run" in done.stdout
