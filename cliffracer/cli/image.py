"""The Dockerfile of `cliffracer deploy docker` and of `new`: which packages it installs, and what stays out of the image."""

import importlib.resources
import json
import re
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from string import Template

from cliffracer import __version__
from cliffracer.cli.requirements import astray, required
from cliffracer.errors import SetupError

_OURS = re.compile(r"^\s*cliffracer\s*(?:\[|[=<>~!;@]|$)", re.MULTILINE | re.IGNORECASE)
_PIP = "/opt/app/bin/pip install --no-cache-dir"
_RUN = "RUN --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=secret,id=netrc,target=/root/.netrc \\\n    "
"""A step that may have the address and the passwords of a private index: in files that are there while it runs, if they are given."""
_READ = r"""python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['dependencies'], sep='\n')" """
_DECLARED = f"COPY pyproject.toml ./\n{_RUN}{_READ}> requirements.txt \\\n    && {_PIP} -r requirements.txt"


def dockerfile(command: Sequence[str], install: str = _DECLARED, path: str = "") -> str:
    """Return a Dockerfile whose first stage runs ``install``: slim, not root, with a health check; ``path`` is a folder to import from."""
    beside = f" PYTHONPATH=/app/{path}" if path else ""
    return Template(template("Dockerfile.txt")).substitute(install=install, command=json.dumps([*command]), path=beside)


def importing(folder: Path, targets: Sequence[str]) -> str:
    """Return the folder that apps are imported from where it is not the project's own: ``src``, whose packages are not installed there."""
    for module in (target.partition(":")[0].partition(".")[0] for target in targets if "/" not in target):
        places = [place for place in (folder, folder / "src") if (place / module).is_dir() or (place / f"{module}.py").is_file()]
        if places == [folder / "src"]:
            return "src"
    return ""


def ignored() -> str:
    """Return what a .dockerignore has to have: secrets, and what is only of use here."""
    return template("dockerignore.txt")


def template(name: str) -> str:
    """Return one of the files beside this module."""
    return (importlib.resources.files("cliffracer.cli") / "templates" / name).read_text(encoding="utf-8")


def installing(folder: Path, extras: Sequence[str]) -> str:
    """Return the steps that install what a project asks for: its requirements.txt, else its pyproject.toml, else only us.

    Raises `SetupError` where requirements with hashes have no cliffracer, since pip would refuse to add it, or name what is not a package.
    """
    if found := [*unmet(folder)]:
        raise SetupError("\n".join(found))
    locked = required(folder)
    if locked:
        text = "\n".join(locked.values())
        hashed, ours = "--hash=" in text, bool(_OURS.search(text))
        if hashed and not ours:
            raise SetupError(
                "requirements.txt has hashes, but no cliffracer: lock it with the others, since pip adds nothing to such a file."
            )
        options = "--require-hashes " if hashed else ""
        more = [] if hashed else _also(extras, there=ours)
        copied = "\n".join(f"COPY {file} {file if file.parent.name else './'}" for file in locked)
        return f"{copied}\n{_RUN}{_joined(f'{_PIP} {options}-r requirements.txt', more)}"
    declared = [*_dependencies(folder)]
    if declared:
        return _joined(_DECLARED, _also(extras, there=any(map(_OURS.match, declared))))
    return f"{_RUN}{_joined(_PIP, _also(extras, there=False))}"


def unmet(folder: Path) -> Iterator[str]:
    """Yield what a project asks for and an image cannot have, since it is elsewhere on this machine."""
    return astray(folder, _dependencies(folder))


def is_ours(file: Path) -> bool:
    """Say whether there is a Dockerfile as we write it: another one may well copy the code before it installs packages."""
    return file.is_file() and _PIP.encode() in file.read_bytes()


def _dependencies(folder: Path) -> Iterator[str]:
    try:
        found = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
    except (FileNotFoundError, tomllib.TOMLDecodeError):  # the settings, which are read from it as well, name the mistake
        return
    yield from found.get("project", {}).get("dependencies", [])


def _also(extras: Sequence[str], *, there: bool) -> list[str]:
    """Return ourselves as a requirement, unless it is there already and needs no extra."""
    named = f"[{','.join(extras)}]" if extras else ""
    return [] if there and not named else [f'"cliffracer{named}{"" if there else f"=={__version__}"}"']


def _joined(command: str, more: list[str]) -> str:
    return " ".join([command, *more])
