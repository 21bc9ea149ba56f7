"""The folder of a project's servers, private to its owner."""

import os
import stat
from pathlib import Path

from cliffracer.errors import SetupError

NAME = ".cliffracer"
MARKERS = (NAME, "pyproject.toml", ".git")
_FOR_ALL = stat.S_ISVTX | stat.S_IWOTH


def project_folder() -> Path:
    """Return ``CLIFFRACER_HOME``, else the nearest folder from here up that looks like a project, else the current one.

    What is left in the home folder, or in one for everybody's files such as ``/tmp``, makes no project of all that is below.
    """
    home = os.environ.get("CLIFFRACER_HOME")
    if home:
        return Path(home).expanduser().absolute()
    try:
        here = Path.cwd().absolute()
    except FileNotFoundError as error:
        raise SetupError("The current folder does not exist any more; change to another one, or set CLIFFRACER_HOME.") from error
    for folder in (here, *here.parents):
        if folder != here and _is_for_all(folder):
            return here
        if any(os.path.exists(folder / marker) for marker in MARKERS):  # noqa: PTH110 - Path.exists raises where we may not look
            return folder
    return here


def _is_for_all(folder: Path) -> bool:
    """Say whether a folder is where projects are put, and none itself."""
    try:
        return folder == Path.home() or folder.stat().st_mode & _FOR_ALL == _FOR_ALL
    except (OSError, RuntimeError):  # it cannot be looked at, or nobody's home is known
        return False


def locate(folder: Path | None) -> Path:
    """Return where the servers of a project keep their files, whether it exists or not; by default of the project around us."""
    project = (project_folder() if folder is None else folder).absolute()
    return project if project.name == NAME else project / NAME


def prepare(folder: Path | None, kind: str) -> Path:
    """Return the private folder of one server, made if need be; SetupError says why that cannot be."""
    home = locate(folder)
    try:
        for place in (home, home / kind):
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
            _check(place)
        if not (home / ".gitignore").exists():
            (home / ".gitignore").write_text("*\n")
        (home / kind / "start.lock").touch(0o600)
    except OSError as error:
        raise SetupError(
            f"Embedded servers keep their files in {home}, and that does not work: {error.strerror or error}. "
            "Set CLIFFRACER_HOME to a folder you may write to, or set NATS_URL and DATABASE_URL."
        ) from error
    return home / kind


def _check(place: Path) -> None:
    found = place.lstat()
    if not place.is_dir() or place.is_symlink() or found.st_uid != os.geteuid():
        raise SetupError(
            f"{place} must be a real folder of yours (uid {os.geteuid()}, it belongs to uid {found.st_uid}): "
            "remove it, or set CLIFFRACER_HOME to a folder of yours."
        )
    if found.st_mode & 0o777 not in (0o700, 0o711):  # passing through may be open: see `accounts.ordinary`
        place.chmod(0o700)
