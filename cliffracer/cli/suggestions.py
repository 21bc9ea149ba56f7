"""Suggestions: which command is meant by one that is not there, mistyped or called as other tools call it."""

import click

from cliffracer.nearest import nearest

IN_OTHER_TOOLS = {
    **dict.fromkeys(("dev", "runserver", "serve", "start", "up", "worker", "workers"), "run"),
    **dict.fromkeys(("makemigrations", "revision"), "db plan"),
    **dict.fromkeys(("migrate", "upgrade"), "db apply"),
    **dict.fromkeys(("asyncapi", "openapi", "schema"), "docs"),
    **dict.fromkeys(("events", "listen", "subscribe"), "tail"),
    **dict.fromkeys(("inspect", "list", "ps", "status"), "services"),
    **dict.fromkeys(("pub", "publish", "send"), "emit"),
    **dict.fromkeys(("invoke", "request"), "call"),
    "init": "new",
    "logs": "servers logs",
}
DB_IN_OTHER_TOOLS = {
    **dict.fromkeys(("generate", "init", "makemigrations", "migration", "revision"), "plan"),
    **dict.fromkeys(("migrate", "up", "upgrade"), "apply"),
    **dict.fromkeys(("current", "history", "show"), "status"),
    **dict.fromkeys(("connect", "shell"), "psql"),
}
"""Of `cliffracer db`."""


def suggestion(typed: str, known: dict[str, str], commands: list[str]) -> str:
    """Return what to say behind an error that names the command which is not there; empty where nothing comes near it."""
    near = known.get(typed) or nearest(typed, commands, cutoff=0.66)
    return f" Did you mean {near}?" if near else ""


class DatabaseCommands(click.Group):
    """The commands of `cliffracer db`."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """Refuse what is no command."""
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            ctx.fail(f"There is no command db {args[0]}.{suggestion(args[0], DB_IN_OTHER_TOOLS, list(self.commands))}")
        return super().resolve_command(ctx, args)
