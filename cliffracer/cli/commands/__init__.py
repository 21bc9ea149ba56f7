"""The commands as they are parsed. Nothing here imports what does the work, so that ``--help`` is quick."""

import importlib
from collections.abc import Callable
from typing import Any, TypeVar

import click

from cliffracer.cli.early import importing

F = TypeVar("F", bound=Callable[..., Any])

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
env_file_option = click.option(
    "--env-file", metavar="FILE", type=click.Path(exists=True, dir_okay=False), help="Read settings from this file instead of .env."
)


class Whole(click.IntRange):
    """A whole number within bounds, said in words where it is none; ``listed`` is the command that lists those that can be meant."""

    def __init__(self, least: int, most: int | None = None, *, listed: str = "") -> None:
        super().__init__(least, most)
        self._cure = f"; `{listed}` lists them" if listed else ""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number that was typed."""
        try:
            found: int = super().convert(value, param, ctx)
        except click.BadParameter:
            bounds = f"of {self.min} or more" if self.max is None else f"from {self.min} to {self.max}"
            self.fail(f"{value!r} is no whole number {bounds}{self._cure}", param, ctx)
        return found


class Seconds(click.FloatRange):
    """A number of seconds within bounds, said in words where it is none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number that was typed."""
        try:
            found: float = super().convert(value, param, ctx)
        except click.BadParameter:
            self.fail(f"{value!r} is no number of seconds from {self.min} to {self.max}", param, ctx)
        return found


def named(_context: click.Context, _parameter: click.Parameter, name: str) -> str:
    """Return the name of a service that was typed; `click.BadParameter` for what cannot go into a subject."""
    if all(character.isprintable() and not character.isspace() for character in name):
        return name
    raise click.BadParameter(f"{name!r} is no name of a service: it has neither blanks nor control characters, and is UTF-8")


def do(place: str, /, **given: Any) -> None:
    """Import ``module:function`` below ``cliffracer.cli`` and call it with what the command line gave."""
    module, _, name = place.partition(":")
    with importing():
        work = getattr(importlib.import_module(f"cliffracer.cli.{module}"), name)
    work(**given)


def completed(name: str) -> Callable[[click.Context, click.Parameter, str], list[str]]:
    """Return what completes a parameter: a function of `cliffracer.cli.completion`, imported when a shell asks."""

    def complete(context: click.Context, _parameter: click.Parameter, typed: str) -> list[str]:
        found: list[str] = getattr(importlib.import_module("cliffracer.cli.completion"), name)(context, typed)
        return found

    return complete
