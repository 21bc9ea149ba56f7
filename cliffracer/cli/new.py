"""``cliffracer new``: a folder with a service, its test, and what builds and runs it."""

import re
import secrets
from pathlib import Path
from string import Template

import click

from cliffracer import __version__
from cliffracer.cli import image
from cliffracer.cli.output import good, print_json, say, soft, strong
from cliffracer.errors import SetupError

KINDS = {"": "plain", "db": "db", "auth": "auth", "auth,db": "db_auth"}
_AS_ADA = '--token "$(cliffracer token issue --subject ada'
_EXAMPLES = {
    "plain": "greet name=Ada",
    "db": "add_note title=Milk",
    "auth": f'whoami {_AS_ADA})"',
    "db_auth": f'add_note title=Milk {_AS_ADA} --permission notes:write)"',
}
_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9_-]{0,62}")
_EMPTY = {".git", ".venv", ".cliffracer", ".idea", ".vscode"}
"""What may be in a folder before a service is."""
_SHARED = {
    "pyproject.toml": "pyproject.toml.txt",
    ".env.example": "env.example.txt",
    ".gitignore": "gitignore.txt",
    ".dockerignore": "dockerignore.txt",
    "README.md": "README.md.txt",
}


def new(*, name: str, parts: str, as_json: bool = False) -> None:
    """Write the files into a folder that must not be there yet, or hold nothing of a project but git's and Python's own folders."""
    folder, called = Path(name), Path(name).resolve().name if name == "." else Path(name).name
    if not _NAME.fullmatch(called):
        raise click.UsageError(f"{called!r} is no name for a service: letters, digits, - and _, a letter first")
    kind = _kind(parts)
    if folder.exists() and (not folder.is_dir() or any(one.name not in _EMPTY for one in folder.iterdir())):
        here = "This folder" if name == "." else str(folder)
        raise SetupError(f"{here} is there already{', and not empty' if name == '.' else ''}. Choose another name, or empty it.")
    files = rendered(called, kind)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, text in files.items():
            (folder / path).touch(0o600 if path == ".env" else 0o666)  # as the umask allows; keys are for nobody else
            (folder / path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise SetupError(f"{folder} cannot be written: {error.strerror or error}.") from None
    if as_json:
        print_json({"made": str(folder), "service": _service(called), "files": sorted(files)})
        return
    say("\n".join([f"{good('made')} {strong(called)}", *(soft(f"  {path}") for path in sorted(files)), ""]))
    go = "" if name == "." else f"  cd {folder}\n"
    say(f"{go}  cliffracer run --reload\n\n{soft('and in another terminal, in the same folder')}\n")
    say(f"  cliffracer call {_service(called)}.{_EXAMPLES[kind]}\n  pytest")


def rendered(name: str, kind: str) -> dict[str, str]:
    """Return the files of a new service, by path."""
    words = {
        "name": name,
        "service": _service(name),
        "image": name.lower(),
        "version": __version__,
        "example": _EXAMPLES[kind],
        "variables": _needed(kind),
        "tables": " Its tables are made by migrations there: `cliffracer db plan`, then `cliffracer db apply`." if "db" in kind else "",
    }
    places = {**_SHARED, "app.py": f"{kind}/app.py.txt", "test_app.py": f"{kind}/test_app.py.txt"}
    files = {path: Template(image.template(place)).substitute(words) for path, place in places.items()}
    files["Dockerfile"] = image.dockerfile(["cliffracer", "run"])
    if "db" in kind:
        files[".env.example"] += "#DATABASE_URL=postgresql://user:password@localhost:5432/name\n"
    if "auth" in kind:
        files[".env.example"] += '# Signs tokens: python -c "import secrets; print(secrets.token_urlsafe(48))"\n#AUTH_SECRET_KEY=\n'
        files[".env"] = f"# For development on this machine only.\nAUTH_SECRET_KEY={secrets.token_urlsafe(48)}\n"
    return files


def _needed(kind: str) -> str:
    """Return the settings that production needs, as a sentence has them."""
    *most, last = ["`NATS_URL`", *(["`DATABASE_URL`"] if "db" in kind else []), *(["`AUTH_SECRET_KEY`"] if "auth" in kind else [])]
    return f"{', '.join(most)} and {last}" if most else last


def _kind(parts: str) -> str:
    wanted = ",".join(sorted({part.strip() for part in parts.split(",") if part.strip()}))
    if wanted not in KINDS:
        raise click.UsageError(f"--with takes db, auth, or db,auth, not {parts!r}")
    return KINDS[wanted]


def _service(name: str) -> str:
    return name.lower().replace("-", "_")
