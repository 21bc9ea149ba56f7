"""A virtual environment as a stranger has it: the built wheel, and the packages that it asks for, fetched or lent."""

import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

from cliffracer import __version__
from tests.project.places import ROOT

PROBE = "iniconfig"  # a small package among those that a stranger installs


def built_wheel(folder: Path) -> Path:
    """Build the wheel of this checkout and return it."""
    told(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT))
    (wheel,) = folder.glob("*.whl")
    return wheel


def fresh_environment(folder: Path, wheel: Path) -> Path:
    """Make an environment with the wheel; what it depends on is taken from where these tests run. Returns its programs' folder.

    Only packages are lent, not the checkout: a path in a .pth file is searched, the .pth files in it are not read.
    """
    told(sys.executable, "-m", "venv", "--without-pip", str(folder))
    programs = folder / "bin"
    python = str(programs / "python")
    told(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", str(wheel))
    packages = Path(told(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    (packages / "lent.pth").write_text(sysconfig.get_path("purelib"))
    pytest = programs / "pytest"
    pytest.write_text(f'#!/bin/sh\nexec {python} -m pytest "$@"\n')
    pytest.chmod(0o755)
    assert Path(told(python, "-c", "import cliffracer; print(cliffracer.__file__)", cwd=folder).strip()).is_relative_to(folder)
    return programs


def shell_of_a_stranger(folder: Path, wheel: Path) -> dict[str, str]:
    """Return the environment variables of a shell in a new virtual environment, whose pip finds the wheel.

    It takes Cliffracer from there, whatever an index has under that name, and all else from the index that `make` used, in the
    versions of the lock. A file of constraints says so: it adds a place to look in, and leaves those of this machine.
    """
    told(sys.executable, "-m", "venv", str(folder / "venv"))
    pins = re.findall(r"^[\w.-]+==[^\\\n]+", (ROOT / "requirements" / "dev.txt").read_text(), re.MULTILINE)
    constraints = folder / "constraints.txt"
    constraints.write_text("\n".join([f"--find-links {wheel.parent.as_uri()}", f"cliffracer=={__version__}", *pins]))
    kept = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    return kept | {"PATH": f"{folder / 'venv' / 'bin'}{os.pathsep}{os.environ['PATH']}", "PIP_CONSTRAINT": constraints.as_uri()}


def can_fetch(shell: dict[str, str], folder: Path) -> bool:
    """Say whether packages can be fetched here: one is."""
    command = ["pip", "download", "--quiet", "--no-deps", "--timeout", "15", "--retries", "1", "--dest", str(folder), PROBE]
    return subprocess.run(command, env=shell, capture_output=True, check=False, timeout=180).returncode == 0


def carried_out(block: str, shell: dict[str, str], folder: Path) -> Path:
    """Have one shell do what a block of commands says, as it stands; return the folder of the ``cliffracer`` that it has then."""
    said = told("bash", "-euo", "pipefail", "-c", f"{block}\ncommand -v cliffracer", cwd=folder, env=shell)
    return Path(said.splitlines()[-1]).parent


def told(*arguments: str, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    """Return what a program says; AssertionError with all of it if it fails."""
    done = subprocess.run(arguments, cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
