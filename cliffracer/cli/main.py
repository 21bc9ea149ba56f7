"""The ``cliffracer`` command; each subcommand is imported when it is used, so that ``--help`` is quick."""

import importlib
from typing import Any

import click

COMMANDS = {
    "call": ("cliffracer.cli.calls:call", "Call a method of a running service."),
    "config": ("cliffracer.cli.look:config", "Show every setting and where it comes from."),
    "emit": ("cliffracer.cli.calls:emit", "Emit an event."),
    "health": ("cliffracer.cli.look:health", "Ask a service over HTTP whether it is ready."),
    "routes": ("cliffracer.cli.routes:routes", "List what an app declares."),
    "run": ("cliffracer.cli.run:run", "Run one or more apps."),
    "services": ("cliffracer.cli.look:services", "List the services that run now."),
}


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        found: click.Command = getattr(importlib.import_module(module), name)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][1]) for name in sorted(COMMANDS)])


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="cliffracer", prog_name="cliffracer", message="%(prog)s %(version)s")
def cli() -> None:
    """One file, one service: RPC, durable events, HTTP and WebSockets.

    Exit codes: 0 done, 1 failed, 2 wrong usage.
    """


def main(*args: Any, **kwargs: Any) -> None:
    """Run the command line."""
    cli(*args, **kwargs)
