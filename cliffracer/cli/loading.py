"""Finds the apps that a command is given: ``users:app``, ``orders/main.py:app``, or a module, file or package alone."""

import importlib
import importlib.util
import os
import re
import shlex
import sys
import traceback
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import click

from cliffracer.app import App
from cliffracer.errors import SetupError
from cliffracer.frozen import Frozen
from cliffracer.nearest import nearest
from cliffracer.observability.suggestions import with_suggestion

GUESSES = ("app.py", "main.py")
_APP = re.compile(r"^[^=#]+=\s*App\(")
_FILES = ("*.py", "*/*.py", "src/*/*.py")
_EXITS = 'It ends its process while it is imported. Raise an error there, or end it in a function, or under `if __name__ == "__main__":`.'
_SHOWN = 10  # apps that a message names


def load_apps(targets: tuple[str, ...]) -> list[App]:
    """Return the apps; without targets those that the project's settings name, or that of ``app.py`` or ``main.py``."""
    return list(dict.fromkeys(_loaded(targets)))


def read_apps(targets: tuple[str, ...]) -> list[Frozen]:
    """Return what apps declare, for commands that run none of them: versions of one package, in two folders, may be among them.

    Each is read before the next is imported, since Python looks up the names in annotations by the name of their module.
    """
    found: dict[App, Frozen] = {}
    for app in _loaded(targets, apart=True):
        if app not in found:
            found[app] = app.freeze()
    return list(found.values())


def _loaded(targets: tuple[str, ...], *, apart: bool = False) -> Iterator[App]:
    found = named(targets)
    try:
        for target in found:
            yield from load(target, apart=apart)
    except SetupError as error:
        if targets or found != configured():
            raise
        raise SetupError(f"{error}\nNo app was named, and the settings of this project say app = {', '.join(found)}.") from None


def named(targets: tuple[str, ...]) -> tuple[str, ...]:
    """Return the apps that are meant; where none is named or found, `SetupError` with the command that names one."""
    if found := targets or guessed():
        return found
    visible = visible_apps()
    if len(visible) == 1:
        raise SetupError(f"Which app? Name it: {_typed(visible[0])}")
    raise SetupError(f"Which app? Name it, as in `{_typed(visible[0] if visible else 'users:app')}`. {_visible()}")


def load(target: str, *, apart: bool = False) -> list[App]:
    """Return the app of an import string; of a module without a name, all apps in it.

    ``apart``: a package may take the place of another of that name that was imported before, instead of a `SetupError`.
    """
    place, _, name = target.partition(":")
    module = _module(place, target, apart=apart)
    apps = {key: value for key, value in vars(module).items() if issubclass(type(value), App)}
    if not name:
        unique = list(dict.fromkeys(apps.values()))
        if not unique:
            below = [one for one in visible_apps() if one.startswith(f"{Path(place)}/")] if Path(place).is_dir() else []
            cure = f"Apps I can see below it: {_listed(below)}." if below else "Write app = App('name') in it."
            raise SetupError(f"There is no App in {place}. {cure}")
        return unique
    if name not in vars(module):
        near = nearest(name, apps, cutoff=0.5) or next(iter(apps), None)
        hint = f" Did you mean {place}:{near}?" if near else f" Write {name} = App('name') in it."
        raise SetupError(f'There is no "{name}" in {place}.{hint}')
    found = vars(module)[name]
    if not isinstance(found, App):
        raise SetupError(f"{target} is a {type(found).__name__}, not an App. {_visible()}")
    return [found]


def guessed() -> tuple[str, ...]:
    """Return what is meant when no app is named: what the project's settings say, or ``app.py`` or ``main.py``."""
    return configured() or tuple(name for name in GUESSES if Path(name).is_file())[:1]


def configured() -> tuple[str, ...]:
    """Return what ``app`` says in cliffracer.toml or in [tool.cliffracer] of pyproject.toml; empty if neither does."""
    import tomllib  # noqa: PLC0415 - only where no app was named

    for name, keys in (("cliffracer.toml", ()), ("pyproject.toml", ("tool", "cliffracer"))):
        try:
            table: Any = tomllib.loads(Path(name).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
            continue  # Settings.load tells what is wrong with it
        for key in keys:
            table = table.get(key, {})
        found = table.get("app", ())
        named = (found,) if isinstance(found, str) else tuple(found) if isinstance(found, list) else ()
        if found and not (named and all(isinstance(one, str) for one in named)):
            raise SetupError(f'app in {name} must be text, such as "users:app", or a list of such texts.')
        if named:
            return named
    return ()


def with_app(command: str) -> str:
    """Return a command as it can be typed here: with its app, where that is not found by itself."""
    with suppress(SetupError):  # who types it is told what is wrong with the project's file
        if not guessed() and (visible := visible_apps()):
            others = f" (or {_listed(visible[1:])})" if visible[1:] else ""
            return f"{command} {shlex.quote(visible[0])}{others}"
    return command


def start_one() -> str:
    """Return what to do where no service runs; what to wait for where that changes by itself."""
    from cliffracer.cli.pause import pause  # noqa: PLC0415 - a service that is run misses nobody

    if why := pause():
        return why
    with suppress(SetupError):
        if not guessed() and not visible_apps():
            return "Start one, where its app is: cliffracer run"
    return f"Start one: {with_app('cliffracer run')}"


def _typed(app: str) -> str:
    """Return the command that was typed, with this app."""
    context = click.get_current_context(silent=True)
    given = (context and context.find_root().obj) or ("run",)
    return shlex.join(["cliffracer", *given, app])


def _module(place: str, target: str, *, apart: bool) -> ModuleType:
    try:
        here = str(Path.cwd())
    except FileNotFoundError:
        raise SetupError("The current folder does not exist any more; change to another one.") from None
    if here not in sys.path:
        sys.path.insert(0, here)
    path = Path(place)
    if path.suffix == ".py" or "/" in place:
        return _from_path(path, apart=apart)
    if not place or not all(part.isidentifier() for part in place.split(".")):
        raise SetupError(f"{target!r} names no app. Write module:app, or path/to/file.py:app. {_visible()}")
    return _imported(place)


def _imported(place: str) -> ModuleType:
    try:
        return importlib.import_module(place)
    except ModuleNotFoundError as error:
        if error.name is not None and (place == error.name or place.startswith(f"{error.name}.")):
            raise SetupError(f'No module "{error.name}" here. {_visible()}') from None
        raise SetupError(trimmed(error)) from None
    except SetupError as error:
        raise _placed(error) from None
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever the user's own module raises is shown as theirs
        raise SetupError(trimmed(error, _source(place))) from None


def _from_path(path: Path, *, apart: bool) -> ModuleType:
    """Import a file or package by its path: as part of a package where it is in one, else with its folder to import from."""
    if not path.is_file() and not (path / "__init__.py").is_file():
        raise SetupError(f"There is no {'file' if path.suffix == '.py' else 'package'} {path}. {_visible()}")
    whole = path.resolve()
    top = whole.parent
    while (top / "__init__.py").is_file():
        top = top.parent
    if str(top) not in sys.path:
        sys.path.insert(0, str(top))
    name = ".".join(whole.relative_to(top).with_suffix("").parts).removesuffix(".__init__")
    package = top / whole.relative_to(top).parts[0]
    if package.is_dir() and (other := _imported_from(package.name)) not in {None, package}:
        if not apart:
            raise SetupError(f"{path} is in a package {package.name}, as is what was imported from {other}. One process has one of them.")
        _make_way(package)
    known = sys.modules.get(name)
    if "." in name or path.is_dir() or (known is not None and getattr(known, "__file__", None) == str(whole)):
        return _imported(name)
    return _executed(name if known is None else f"{whole.parent.name}_{name}", whole)


def _imported_from(package: str) -> Path | None:
    """Return the folder that a package was imported from; None if there is none of that name yet."""
    file = getattr(sys.modules.get(package), "__file__", None)
    return None if file is None else Path(file).resolve().parent


def _make_way(package: Path) -> None:
    """Have a package imported from this folder, whatever of its name was imported before."""
    for name in [name for name in sys.modules if name.partition(".")[0] == package.name]:
        del sys.modules[name]
    sys.path.insert(0, str(package.parent))
    importlib.invalidate_caches()


def _executed(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None  # a .py file has a loader
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except SetupError as error:
        raise _placed(error) from None
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever the user's own file raises is shown as theirs
        del sys.modules[name]
        raise SetupError(trimmed(error, path)) from None
    return module


def _placed(error: SetupError) -> SetupError:
    """Return the error with the line that led to it, where it does not name one itself."""
    own = Path(__file__).parent.parent
    frames = traceback.extract_tb(error.__traceback__)
    place = next((f for f in reversed(frames) if not Path(f.filename).is_relative_to(own) and "importlib" not in f.filename), None)
    if place is None or f"{Path(place.filename).name}:" in str(error):
        return error
    return SetupError(f"{os.path.relpath(place.filename)}:{place.lineno}: {error}")


def trimmed(error: BaseException, path: Path | None = None) -> str:
    """Return a traceback that begins where the user's own code does, headed by its file; ``path`` is what was to be imported."""
    text, file = own_frames(error)
    if isinstance(error, SyntaxError | ValueError) and "null bytes" in str(error):
        text += _with_nul(path)
    if isinstance(error, SystemExit):
        text += f"\n{_EXITS}"
    return f"{Path(file).name if file else 'That module'} cannot be imported:\n{text}"


def _with_nul(path: Path | None) -> str:
    """Return where a NUL byte is, of which Python names neither file nor line: in what was to be imported, or what lies around."""
    files = [*([path] if path else []), *(file for pattern in _FILES for file in sorted(Path().glob(pattern)))]
    for file in files:
        with suppress(OSError):
            before, nul, _ = file.read_bytes().partition(b"\0")
            if nul:
                line = before.count(b"\n") + 1
                return f"\nLine {line} of {os.path.relpath(file)} holds a NUL byte. Save it as text in UTF-8: UTF-16 has such bytes."
    return ""


def _source(place: str) -> Path | None:
    """Return the file of a module that cannot be imported, as far as its packages can."""
    with suppress(Exception):  # what is wrong with a package of it is the error that is told
        found = importlib.util.find_spec(place)
        return Path(found.origin) if found and found.origin else None
    return None


def own_frames(error: BaseException) -> tuple[str, str | None]:
    """Return the part of a traceback that is the user's own, and the file that it begins in."""
    frames = traceback.extract_tb(error.__traceback__)
    own = Path(__file__).parent.parent
    shown = [f for f in frames if not Path(f.filename).is_relative_to(own) and "importlib" not in f.filename]
    if isinstance(error, SystemExit) and shown and "_sitebuiltins" in shown[-1].filename:
        del shown[-1]  # of exit()
    text = with_suggestion("".join(traceback.format_list(shown[-8:]) + traceback.format_exception_only(error)).rstrip(), error)
    file = shown[0].filename if shown else getattr(error, "filename", None)
    return text.replace(f"{Path.cwd()}/", ""), file


def _visible() -> str:
    found = visible_apps()
    return f"Apps I can see: {_listed(found)}." if found else "I see no file with an App in this folder; cliffracer new NAME makes one."


def _listed(apps: list[str]) -> str:
    more = len(apps) - _SHOWN
    return ", ".join(apps[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def visible_apps() -> list[str]:
    """Return import strings of the apps in this folder and those below, as far as their text tells."""
    found: list[str] = []
    for pattern in _FILES:
        for file in sorted(Path().glob(pattern)):
            if not any(part.startswith(".") or part == "tests" for part in file.parts):
                found.extend(f"{file.stem if len(file.parts) == 1 else file}:{name}" for name in _app_names(file))
    return found


def _app_names(file: Path) -> list[str]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
    assigned = [line.partition("=")[0].partition(":")[0] for line in lines if _APP.search(line) and not line[:1].isspace()]
    return [name for names in assigned for name in map(str.strip, names.split(",")) if name.isidentifier()]
