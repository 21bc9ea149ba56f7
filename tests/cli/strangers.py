"""A virtual environment as a stranger has it: the built wheel, and the packages that it asks for, installed without a network."""

import subprocess
import sys
import sysconfig
from pathlib import Path

from tests.project.places import ROOT


def built_wheel(folder: Path) -> Path:
    """Build the wheel of this checkout and return it."""
    _run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT))
    (wheel,) = folder.glob("*.whl")
    return wheel


def fresh_environment(folder: Path, wheel: Path) -> Path:
    """Make an environment with the wheel; what it depends on is taken from where these tests run. Returns its programs' folder.

    Only packages are lent, not the checkout: a path in a .pth file is searched, the .pth files in it are not read.
    """
    _run(sys.executable, "-m", "venv", "--without-pip", str(folder))
    programs = folder / "bin"
    python = str(programs / "python")
    _run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", str(wheel))
    packages = Path(_run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    (packages / "lent.pth").write_text(sysconfig.get_path("purelib"))
    pytest = programs / "pytest"
    pytest.write_text(f'#!/bin/sh\nexec {python} -m pytest "$@"\n')
    pytest.chmod(0o755)
    assert Path(_run(python, "-c", "import cliffracer; print(cliffracer.__file__)", cwd=folder).strip()).is_relative_to(folder)
    return programs


def _run(*arguments: str, cwd: Path | None = None) -> str:
    done = subprocess.run(arguments, cwd=cwd, capture_output=True, text=True, check=False, timeout=180)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
