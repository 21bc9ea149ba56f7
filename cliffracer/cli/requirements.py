"""The requirements.txt of a project and the files that it names, as an image has them: what is elsewhere on this machine is not there."""

import codecs
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

_FILE = Path("requirements.txt")
_OTHER = re.compile(r"""(-r|--requirement|-c|--constraint)[ =]*["']?([^\s"']+)""")
_PLACES = re.compile(r"""(-f|--find-links|-i|--index-url|--extra-index-url)[ =]*["']?([^\s"']+)""")
_PACKAGE = re.compile(r"((?:-e|--editable)[ =]*)?([^\s;]+)")
_URL = re.compile(r"(?!file:)[a-z+]+:|\$\{", re.IGNORECASE)  # or a variable, for which pip takes what it is where the image is built
_NAMED = re.compile(r"@\s*file:", re.IGNORECASE)
_ARCHIVES = (".whl", ".zip", ".gz")
_CODE = (
    "but the image installs packages before the code is there. Leave it out: the code needs no installing there. "
    "(uv export --no-emit-project)"
)
_MACHINE = "which is not in the image when it installs packages. Have pip get it from an index, or from an https address."
_OUTSIDE = "which is outside of this folder, and an image is made of what is in it. Put the file in here."


def required(folder: Path) -> dict[Path, str]:
    """Return requirements.txt, if it is there, and the files that it names, with what each requires: constraints require nothing."""
    found: dict[Path, str] = {}
    named = [("-r", _FILE)]
    for option, file in named:
        if file not in found and (folder / file).is_file():
            text = _text(folder / file)
            found[file] = text if option.strip("-").startswith("r") else ""
            named += [(more, beside(file, name)) for more, name in _others(text)]
    return found


def astray(folder: Path, dependencies: Iterable[str] = ()) -> Iterator[str]:
    """Yield what requirements.txt, or the ``dependencies`` of pyproject.toml where there is none, name and an image cannot have."""
    files = required(folder)
    for file in files:
        text = _text(folder / file)
        for line in _lines(text):
            if reason := _reason(folder, file, line):
                yield f"{file} has {line}, {reason}"
    for one in dependencies if not files else ():
        if _NAMED.search(one):
            yield f"pyproject.toml has {one}, {_MACHINE}"


def _text(path: Path) -> str:
    """Return what stands in a file of pip's, which takes other encodings than UTF-8, too; all that is looked for is ASCII."""
    data = path.read_bytes()
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))  # as PowerShell writes it
    return data.decode("utf-16" if wide else "utf-8-sig", errors="replace")


def beside(file: Path, name: str) -> Path:
    """Return a file by the name that another one has for it."""
    return Path(os.path.normpath(file.parent / name))


def _others(text: str) -> list[tuple[str, str]]:
    found = (_OTHER.match(line) for line in _lines(text))
    return [(one[1], one[2]) for one in found if one]


def _lines(text: str) -> Iterator[str]:
    """Yield the lines that pip reads: without comments, those that go on as one, and without their hashes."""
    for line in text.replace("\\\n", " ").splitlines():
        if given := re.sub(r"(^|\s)(#|--hash=).*", "", line).strip():
            yield given


def _reason(folder: Path, file: Path, line: str) -> str:
    """Say why pip will not find what a line names; empty if it will, as far as can be seen from here."""
    if other := _OTHER.match(line):
        return "" if _URL.match(other[2]) else _why_not(folder, beside(file, re.sub("^file:(//)?", "", other[2])))
    if place := _PLACES.match(line):
        return "" if _URL.match(place[2]) else _MACHINE
    package = _PACKAGE.match(line)
    if _NAMED.search(line):
        return _MACHINE
    if package is None or _URL.match(package[2]) or not _is_place(folder, package[2]):
        return ""
    path = package[2].removeprefix("file:")
    inside = (folder / path).resolve().is_relative_to(folder.resolve()) and not path.endswith(_ARCHIVES)
    return _CODE if inside else _MACHINE


def _is_place(folder: Path, word: str) -> bool:
    if word.startswith((".", "/", "~", "file:")):
        return True
    return ("/" in word or word.endswith(_ARCHIVES)) and (folder / word).exists()


def _why_not(folder: Path, file: Path) -> str:
    if file.is_absolute() or ".." in file.parts or not (folder / file).resolve().is_relative_to(folder.resolve()):
        return _OUTSIDE
    return "" if (folder / file).is_file() else "which is not there."
