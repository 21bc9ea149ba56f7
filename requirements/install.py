"""Set up the virtual environment of this checkout: `make` runs it, and only when something it depends on changed.

Two set-ups at once wait for each other (a kernel file lock), one that was interrupted starts afresh, and the stamp
that `make` looks at is written last. Standard library only: it runs before anything is installed.
"""

import fcntl
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
UNFINISHED = VENV / ".unfinished"


def main(lock: str) -> None:
    """Install the packages of one lock file, and this package as an editable one; leave a stamp when all is there."""
    stamp = VENV / f".{lock}.stamp"
    sources = [ROOT / "requirements" / f"{lock}.txt", ROOT / "pyproject.toml", Path(__file__)]
    with (ROOT / ".venv.lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        if stamp.exists() and all(stamp.stat().st_mtime >= source.stat().st_mtime for source in sources):
            return  # somebody else did it while we waited
        create()
        UNFINISHED.touch()
        print(f"Setting up .venv from requirements/{lock}.txt ...", flush=True)
        pip("--require-hashes", "--requirement", str(sources[0]), guard=guard.fileno())
        pip("--no-deps", "--no-build-isolation", "--editable", str(ROOT), guard=guard.fileno())
        stamp.touch()
        UNFINISHED.unlink()


def create() -> None:
    """Make the environment unless a whole one is there."""
    whole = PYTHON.exists() and not UNFINISHED.exists()
    if whole and subprocess.run([PYTHON, "-m", "pip", "--version"], capture_output=True, check=False).returncode == 0:
        return
    venv.create(VENV, clear=True, with_pip=True, symlinks=True)


def pip(*arguments: str, guard: int) -> None:
    """Run `pip install` in the environment, holding the lock even if we are killed; its own message says what went wrong."""
    command = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments]
    code = subprocess.run(command, pass_fds=[guard], check=False).returncode
    if code != 0:
        UNFINISHED.unlink(missing_ok=True)  # pip gave up in good order: what is there can stay
        sys.exit(f"Set-up failed, see above. The command was: {' '.join(command)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
