"""Finds where each setting is given: arguments, environment, ``.env``, ``cliffracer.toml``, ``pyproject.toml``; the first has it.

Nothing is read into values here; an unknown name is collected as a problem, so that all mistakes are told at once.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from cliffracer.errors import SetupError
from cliffracer.nearest import nearest
from cliffracer.settings import dotenv

PREFIX = "CLIFFRACER_"
FILE = "_FILE"
MAX_FILE = 1_000_000  # characters of a settings file or of the file that a *_FILE variable names
OTHER_VARIABLES = frozenset({"CLIFFRACER_HOME", "CLIFFRACER_DEV_GRACE", "CLIFFRACER_TOKEN"})
"""Variables of the development servers and of the command line, which are no settings."""
OTHER_KEYS = frozenset({"app"})
"""Keys of a settings file that are the command line's: what ``cliffracer run`` runs."""

_BARE = (
    "nats_",
    "database_",
    "db_",
    "http_",
    "auth_",
    "oidc_",
    "log_",
    "redis_",
    "batch_size",
    "cors_origins",
    "static_base_url",
    "trusted_proxies",
)


class Origin(NamedTuple):
    """Where a value comes from."""

    place: str
    """``argument``, ``environment``, ``.env line 3``, ``cliffracer.toml``, ``pyproject.toml`` or ``default``."""
    key: str = ""
    """The name it has there; empty for arguments and defaults."""
    file: str = ""
    """The file that holds it, for ``*_FILE`` variants."""

    def __str__(self) -> str:
        shown = f"environment {self.key}" if self.place == "environment" else self.place
        return f"{shown} ({self.file})" if self.file else shown


DEFAULT = Origin("default")
ARGUMENT = Origin("argument")


class Found(NamedTuple):
    """What stands somewhere, before it is read."""

    value: Any
    origin: Origin


class Search:
    """One look through all places for the settings of these names; `found` and `problems` are its result."""

    def __init__(self, names: Collection[str]) -> None:
        self.names = names
        self.found: dict[str, Found] = {}
        self.problems: list[str] = []
        self._variables = {f"{PREFIX}{name.upper()}{end}" for name in names for end in ("", FILE)}

    def arguments(self, given: Mapping[str, Any]) -> None:
        """Look through keyword arguments; None stands for not given."""
        for name, value in given.items():
            if name not in self.names:
                self.problems.append(f"there is no setting {name}{_meant(name, self.names)}")
            elif value is not None:
                self.found.setdefault(name, Found(value, ARGUMENT))

    def environment(self, environ: Mapping[str, str]) -> None:
        """Look through environment variables; files that they name are relative to the working folder."""
        self._variables_in({key: (value, "environment") for key, value in environ.items()}, Path())

    def dotenv(self, path: Path) -> None:
        """Look through a ``.env`` file; a folder of that name is a virtual environment, and none of ours."""
        if path.is_dir() or (content := read_text(path)) is None:
            return
        try:
            entries = dotenv.parse(content)
        except ValueError as error:
            raise SetupError(f"{path}, {error}") from None
        self._variables_in({key: (entry.value, f"{path.name} line {entry.line}") for key, entry in entries.items()}, path.parent)

    def toml(self, path: Path, *tables: str) -> None:
        """Look through a TOML file, at its top or in the table that these keys lead to."""
        content = read_text(path)
        if content is None:
            return
        import tomllib  # noqa: PLC0415 - a deployed service has its settings from the environment

        try:
            table: Any = tomllib.loads(content)
        except (tomllib.TOMLDecodeError, RecursionError) as error:
            raise SetupError(f"{path} is no TOML: {error}") from None
        for key in tables:
            table = table.get(key, {})
            if not isinstance(table, dict):
                raise SetupError(f"{path}: {key} must be a table")
        for key, value in table.items():
            if key not in OTHER_KEYS:
                self._entry(key, value, path)

    def _entry(self, key: str, value: object, path: Path) -> None:
        name = key.removesuffix(FILE.lower())
        if name not in self.names:
            self.problems.append(f"{path.name} has {key!r:.80}, which is no setting{_meant(key, self.names)}")
        elif key == name:
            self.found.setdefault(name, Found(value, Origin(path.name, key)))
        elif not isinstance(value, str):
            self.problems.append(f"{key} in {path.name} must be the path of a file")
        else:
            self.found.setdefault(name, self._in_file(path.parent / value, Origin(path.name, key)))

    def _variables_in(self, entries: Mapping[str, tuple[str, str]], folder: Path) -> None:
        for key in entries:
            if key.upper().startswith(PREFIX) and key not in self._variables and key not in OTHER_VARIABLES:
                meant = _meant(key, self._variables)
                self.problems.append(f"{key} ({entries[key][1]}) is no setting{meant}")
        for name in self.names:
            bare = (name.upper(),) if name.startswith(_BARE) else ()
            for variable in (PREFIX + name.upper(), *bare):
                self._variable(name, variable, entries, folder)

    def _variable(self, name: str, variable: str, entries: Mapping[str, tuple[str, str]], folder: Path) -> None:
        if variable in entries and variable + FILE in entries:
            self.problems.append(f"{variable} and {variable}{FILE} are both set ({entries[variable][1]}): keep one")
        elif variable in entries and name not in self.found:
            value, place = entries[variable]
            self.found[name] = Found(value, Origin(place, variable))
        elif variable + FILE in entries and name not in self.found:
            value, place = entries[variable + FILE]
            origin = Origin(place, variable + FILE)
            self.found[name] = self._in_file(folder / value, origin) if value else Found("", origin)

    def _in_file(self, path: Path, origin: Origin) -> Found:
        told = f"{origin.key} ({origin.place}) names {path}"
        try:
            content = read_text(path)
        except SetupError as error:
            raise SetupError(f"{told}: {error}") from None
        if content is None:
            raise SetupError(f"{told}, which does not exist")
        content = content.removesuffix("\n").removesuffix("\r")
        if not content.strip():
            raise SetupError(f"{told}, which is empty")
        return Found(content, origin._replace(file=str(path)))


def read_text(path: Path) -> str | None:
    """Return what is in a UTF-8 file, None if there is none; SetupError, naming it, when it cannot be read."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            content = file.read(MAX_FILE + 1)
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        raise SetupError(f"{path} is not UTF-8 text") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL character in the path
        raise SetupError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if len(content) > MAX_FILE:
        raise SetupError(f"{path} is longer than {MAX_FILE} characters: it is no settings file")
    return content


def _meant(key: str, known: Collection[str]) -> str:
    spelt = {name.removeprefix(PREFIX).lower(): name for name in known}
    near = nearest(key.lower().removeprefix(PREFIX.lower()), spelt, cutoff=0.7)
    return f"; did you mean {spelt[near]}?" if near else ""
