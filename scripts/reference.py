"""Write the pages of the reference that come from the program itself: commands.md, more.md and settings.md in docs/reference.

`make docs` runs this before it builds the site; the pages are not kept in git, so they cannot be out of date.
"""

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import click

import cliffracer
from cliffracer.cli.main import SECTIONS, cli
from cliffracer.settings import Settings, fields

GENERATED = ("commands.md", "more.md", "settings.md")
FOLDER = Path(__file__).resolve().parent.parent / "docs" / "reference"
_PLAIN = ("nats_", "database_", "db_", "batch_size", "http_", "cors_", "static_", "trusted_", "auth_", "oidc_", "log_", "redis_")
GROUPS = {
    "General": ("env", "namespace", "wait", "drain", "deadline", "limit"),
    "NATS": ("nats_",),
    "PostgreSQL": ("database_", "db_", "batch_size"),
    "HTTP": ("http_", "cors_", "static_", "trusted_"),
    "Identity": ("auth_", "oidc_"),
    "Seen from outside": ("log_", "metrics", "docs"),
    "More": ("",),
}


def main() -> None:
    """Write all of them."""
    for name, lines in zip(GENERATED, (commands(), more(), settings()), strict=True):
        (FOLDER / name).write_text("\n".join(lines) + "\n", encoding="utf-8")


def commands() -> Iterator[str]:
    """Yield the page of the command line: every command as its ``--help`` tells it."""
    yield "# Commands"
    yield "\nEvery command has `--help` and `--json`, also for its errors. The exit code is 0 for done, 1 for failed, 2 for wrong"
    yield "usage, 130 for Ctrl-C; a `run` that it stops in order is done: 0."
    yield "A mistake gets one line that says what to do."
    context = click.Context(cli, info_name="cliffracer", **{**cli.context_settings, "terminal_width": 88})
    for section, names in SECTIONS.items():
        yield f"\n## {section}"
        for name in names:
            yield from _command(cli.get_command(context, name), context, name, level=3)


def _command(command: click.Command | None, parent: click.Context, name: str, level: int) -> Iterator[str]:
    assert command is not None
    context = click.Context(command, info_name=name, parent=parent)
    yield f"\n{'#' * level} `{context.command_path}`\n"
    yield f"```text\n{command.get_help(context)}\n```"
    for below in command.list_commands(context) if isinstance(command, click.Group) else ():
        yield from _command(command.get_command(context, below), context, below, level + 1)


def more() -> Iterator[str]:
    """Yield a page of the names that the façade has and no other page explains."""
    written = "".join(page.read_text(encoding="utf-8") for page in sorted(FOLDER.glob("*.md")) if page.name not in GENERATED)
    yield "# More names\n\nWhatever else `from cliffracer import` gives."
    for name in cliffracer.__all__:
        if not re.search(rf"::: cliffracer\.{name}\b|`{name}`", written):
            yield f"\n::: cliffracer.{name}"


def settings() -> Iterator[str]:
    """Yield the page of the settings: name, variable, default, and what the source says."""
    said = _said()
    yield "# Settings"
    yield "\nEach is an environment variable, a line of `.env`, an entry of `cliffracer.toml` or of `[tool.cliffracer]` in"
    yield "`pyproject.toml`, or an argument; the first of arguments, environment, `.env`, TOML that has it wins. How to use them:"
    yield "[settings](../how-to/settings.md). `cliffracer config` shows yours, and where each comes from."
    yield "\nLengths of time are seconds (`30s` and `1h` do too), sizes bytes (`1MB`), lists comma-separated. Every variable also exists"
    yield "with `_FILE` at its end, naming a file that holds the value, and with `CLIFFRACER_` before it, which wins. In TOML and as"
    yield "arguments, names are in lower case and without `CLIFFRACER_`: `http_port`, `drain`."
    known = fields.fields_of(Settings)
    left = set(known)
    for group, starts in GROUPS.items():
        names = [name for name in known if name.startswith(starts) and name in left]
        left.difference_update(names)
        if names:
            yield f"\n## {group}\n\n| variable | default | |\n| --- | --- | --- |"
        for name in names:
            variable = name.upper() if name.startswith(_PLAIN) else f"CLIFFRACER_{name.upper()}"
            default = fields.shown(name, known[name].default)
            yield f"| `{variable}` | {f'`{default}`' if default else ''} | {said.get(name, '')} |"
    yield "\n## Secrets\n\n::: cliffracer.Secret\n    options:\n      heading_level: 3\n      members: [reveal]"


def _said() -> dict[str, str]:
    """Return the string below each field of the struct."""
    tree = ast.parse(Path(inspect.getfile(fields)).with_name("settings.py").read_text(encoding="utf-8"))
    body = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Settings")
    found = {}
    for field, text in zip(body.body, body.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            assert isinstance(field.target, ast.Name)
            found[field.target.id] = " ".join(str(text.value.value).split()).replace("``", "`").replace("|", "\\|")
    return found


if __name__ == "__main__":
    main()
