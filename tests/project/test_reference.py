"""The reference against the code: what is there is explained, and what is explained is there."""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

import cliffracer
from cliffracer import App, ServiceError
from cliffracer.cli.main import cli
from cliffracer.observability import metrics
from cliffracer.settings import Settings, fields
from scripts import reference
from tests.project.places import ROOT

REFERENCE = ROOT / "docs" / "reference"
LISTED = re.search(r"members: \[rpc,([^]]+)\]", (REFERENCE / "app.md").read_text())
INSIDE = {"attached", "freeze", "link", "provided"}
"""Public for the modules of the package only."""
PROVIDED = {"KeyValue", "ObjectStore"}
"""Given to handlers, never made by them."""


def test_every_method_of_an_app_is_in_the_reference() -> None:
    """A decorator that is new has to be listed, and one that is gone must not be."""
    assert LISTED is not None
    listed = {"rpc", *re.findall(r"\w+", LISTED[1])}
    there = {
        name for name, value in inspect.getmembers(App) if not name.startswith("_") and (callable(value) or isinstance(value, property))
    }
    assert there - INSIDE == listed


def _options() -> Iterator[tuple[str, Any]]:
    yield from ((f"App.{name}", value) for name, value in inspect.getmembers(App, inspect.isfunction) if name not in INSIDE)
    for name in cliffracer.__all__:
        value = getattr(cliffracer, name)
        if inspect.isfunction(value):
            yield name, value
        elif (
            inspect.isclass(value)
            and value.__module__.startswith("cliffracer.")
            and name not in PROVIDED
            and inspect.isfunction(value.__init__)
        ):
            yield name, value.__init__


@pytest.mark.parametrize(("name", "function"), [pair for pair in _options() if pair[0] == "App.__init__" or "._" not in pair[0]])
def test_every_option_is_explained(name: str, function: Any) -> None:
    """Whatever is given by name is named in the docstring, of the function or of its class."""
    given = [p.name for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY]
    owner = getattr(cliffracer, name.partition(".")[0], None)
    told = f"{inspect.getdoc(function)} {inspect.getdoc(owner) if owner is not None else ''}"
    assert [option for option in given if not re.search(rf"\b{option}\b", told)] == []


def test_the_table_of_errors_is_the_code() -> None:
    """Each class of the closed set, with its code, its HTTP status, and whether it may be tried again."""
    page = (REFERENCE / "errors.md").read_text()
    row = re.compile(r"^\| \[`(\w+)`\]\([^)]+\) \| (\d+) \| (\d+) \| (yes|no|if it is idempotent) \|$", re.MULTILINE)
    classes = {
        value
        for value in (getattr(cliffracer, name) for name in cliffracer.__all__)
        if inspect.isclass(value) and issubclass(value, ServiceError)
    }
    there = {(c.__name__, str(c.code), str(c.status), c.retryable) for c in classes - {ServiceError}}
    assert {(name, code, status, again == "yes") for name, code, status, again in row.findall(page)} == there


def test_every_setting_is_explained() -> None:
    """Each has its line in the generated page, with a text of its own."""
    page = "\n".join(reference.settings())
    told = dict(re.findall(r"^\| `(?:CLIFFRACER_)?(\w+)` \|[^|]*\| (.*) \|$", page, re.MULTILINE))
    assert set(told) == {name.upper() for name in fields.fields_of(Settings)}
    assert {name for name, text in told.items() if not text.strip()} == set()


def test_every_command_and_its_options_are_explained() -> None:
    """Each command is on the generated page; each option, but --help, says what it does."""
    page = "\n".join(reference.commands())
    silent = []
    for path, command in _commands(cli, click.Context(cli, info_name="cliffracer")):
        assert f"`{path}`" in page or path == "cliffracer", path
        silent += [
            f"{path} {option.name}"
            for option in command.params
            if isinstance(option, click.Option) and not option.help and not option.hidden
        ]
        assert command.help, path
    assert silent == []


def _commands(command: click.Command, context: click.Context) -> Iterator[tuple[str, click.Command]]:
    yield context.command_path, command
    for name in command.list_commands(context) if isinstance(command, click.Group) else ():
        below = command.get_command(context, name)
        assert below is not None
        if not below.hidden:
            yield from _commands(below, click.Context(below, info_name=name, parent=context))


def test_every_name_in_the_reference_has_a_docstring() -> None:
    """The pages in git name objects; what they say comes from the code."""
    for page in sorted(REFERENCE.glob("*.md")):
        if page.name in reference.GENERATED:
            continue
        for name in re.findall(r"^::: ([\w.]+)$", page.read_text(), re.MULTILINE):
            module, _, attribute = name.rpartition(".")
            assert inspect.getdoc(getattr(__import__(module, fromlist=[attribute]), attribute)), name


def test_every_metric_is_in_the_table() -> None:
    """A figure that ``/metrics`` has and no page names is one that nobody watches."""
    source = Path(inspect.getfile(metrics)).read_text()
    table = (ROOT / "docs" / "how-to" / "observability.md").read_text()
    named = set()
    for row in table.splitlines():
        first, *others = re.findall(r"`(\w+|…\w+)`", row) or [""]
        while first:  # what follows one stands for it up to some underscore: `…_used` for cliffracer_database_connections_used
            named |= {first + other.removeprefix("…") for other in others}
            first = first.rpartition("_")[0]
        named |= set(re.findall(r"`(\w+)`", row))
    assert set(re.findall(r'"((?:cliffracer|process)_\w+)"', source)) - named == set()
