"""The ``cliffracer`` command; each subcommand is imported when it is used, so that ``--help`` is quick.

A command is a line of `SECTIONS`, how it is parsed a function of that module of `cliffracer.cli.commands`, and what it does stands in a
module of its own beside this one.
"""

import importlib
import os
import sys
from collections.abc import Callable, Sequence

import click

from cliffracer.cli.early import importing
from cliffracer.cli.output import encodable, message_of, print_json, tell
from cliffracer.cli.stdio import complain, flushed, printing, ready, silence
from cliffracer.cli.suggestions import IN_OTHER_TOOLS, suggestion
from cliffracer.errors import CliffracerError, SetupError

COMPLETE = "_CLIFFRACER_COMPLETE"
"""Set by the shell that asks how a word goes on."""
SECTIONS = {
    "Develop": {
        "new": ("making", "Make a folder with a service, its test and its Dockerfile."),
        "run": ("serving", "Run one or more apps."),
        "routes": ("serving", "List what apps declare."),
        "shell": ("serving", "Open a Python prompt with an app connected."),
        "servers": ("keeping", "Look after the embedded servers."),
    },
    "Talk to services": {
        "call": ("talking", "Call a method of a running service."),
        "emit": ("talking", "Emit an event."),
        "cancel": ("talking", "Take back an event that is not due yet."),
        "tail": ("talking", "Print events as they happen."),
        "bench": ("talking", "Measure how fast a method answers."),
    },
    "Look": {
        "services": ("looking", "List the services that run now."),
        "top": ("looking", "Watch the services that run now."),
        "trace": ("looking", "Show where the time of one call went."),
        "console": ("looking", "Look at everything that runs, in a browser."),
        "health": ("looking", "Ask a service over HTTP whether it is ready."),
        "config": ("looking", "Show every setting and where it comes from."),
        "doctor": ("looking", "Find what is wrong with this set-up."),
    },
    "Keep": {
        "token": ("identity", "Issue and inspect tokens."),
        "users": ("identity", "Look after the accounts of an app that has them."),
        "keys": ("identity", "Issue and revoke API keys of an app that takes them."),
        "delayed": ("talking", "List the events that are not due yet."),
        "dead": ("keeping", "Show, replay or discard events that could not be handled."),
        "db": ("keeping", "Plan and apply database migrations."),
        "replay": ("keeping", "Give stored events to a function again."),
    },
    "Hand over": {
        "check": ("looking", "Say whom the apps as they stand here would break."),
        "docs": ("making", "Write the OpenAPI or AsyncAPI document of apps."),
        "client": ("making", "Write a typed client for a running service."),
        "permissions": ("guarding", "Write what apps may do on NATS, in PostgreSQL, on the network."),
        "provision": ("guarding", "Make the streams, consumers and buckets that apps need."),
        "deploy": ("making", "Write a Dockerfile, a compose file or Kubernetes manifests."),
        "completion": ("making", "Print what makes your shell complete commands."),
    },
}
DEPLOYED = (["run"], ["db", "apply"], ["provision"])
"""Commands that a deployment runs, rather than somebody who reads what they say."""
COMMANDS = {name: entry for section in SECTIONS.values() for name, entry in section.items()}


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        if cmd_name not in COMMANDS:
            return None
        with importing():
            module = importlib.import_module(f"cliffracer.cli.commands.{COMMANDS[cmd_name][0]}")
        found: click.Command = getattr(module, cmd_name)
        return _described(found)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            ctx.fail(f"There is no command {args[0]!r}.{suggestion(args[0], IN_OTHER_TOOLS, list(COMMANDS))}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        for section, entries in SECTIONS.items():
            with formatter.section(section):
                formatter.write_dl([(name.ljust(11), text) for name, (_, text) in entries.items()])


def _described(command: click.Command) -> click.Command:
    if sys.flags.optimize > 1:  # docstrings are gone
        importlib.import_module("cliffracer.cli.described").describe(command)
    return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="cliffracer", prog_name="cliffracer", message="%(prog)s %(version)s")
def cli() -> None:
    """One file, one service: RPC, durable events, HTTP and WebSockets.

    Exit codes: 0 done, 1 failed, 2 wrong usage, 130 stopped by Ctrl-C; run, which stops in order, has done what it should: 0.
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code. A mistake of the user's is a message, never a traceback.

    Standard output that takes no more (a full disk) is one, too. Characters that it cannot show, in the encoding that it has, are escaped.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    ready()
    try:
        code = _told(given)
        flushed()
    except (KeyboardInterrupt, click.Abort):
        code = 130
    except BrokenPipeError:  # the reader has seen enough, as `head` has
        code = 0
        silence()
    except Exception as error:  # noqa: BLE001 - a full standard output, or a mistake of ours, which is raised again unless it is a line
        code = _unforeseen(error, given)
    return code


def _told(given: list[str]) -> int:
    """Run the command, and say what the user got wrong."""
    as_json = "--json" in given
    try:
        return _run(given)
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.Abort as error:
        complain("")  # the line of the prompt that was left
        if not isinstance(error.__context__, EOFError):
            raise
        tell(SetupError("Aborted: nothing was typed."), as_json=as_json)
        return 1
    except click.ClickException as error:
        return _misused(error, given)
    except CliffracerError as error:
        if line := _line_for(given):
            line(message_of(error), type(error).__name__, 1)
        else:
            tell(error, as_json=as_json)
        return 1
    except UnicodeEncodeError as error:  # bytes of the command line that are no UTF-8 got to where they cannot go
        word = next((word for word in given if encodable(word) != word), None)
        if word is None:
            raise
        refused = click.UsageError(f"{encodable(word)} is not UTF-8")
        refused.__cause__ = error
        return _misused(refused, given)


def _unforeseen(error: Exception, given: list[str]) -> int:
    """Say what nobody got wrong; raise it where it is no matter of the output and no line of JSON is wanted."""
    if isinstance(error, OSError) and printing(error):
        silence()
        complain(f"Error: standard output cannot be written: {error.strerror or error}.")
    elif line := _line_for(given):
        line(f"{type(error).__name__}: {error}", type(error).__name__, 1, error)
    else:
        raise error
    return 1


def _line_for(given: list[str]) -> Callable[..., None] | None:
    """Return what logs the end of a command as a line of JSON, where a deployment runs it and collects such lines."""
    words = [word for word in given if not word.startswith("-")]
    if "--json" in given or not any(words[: len(command)] == command for command in DEPLOYED):
        return None
    collected = importlib.import_module("cliffracer.cli.collected")  # only these pay for importing the log
    found: Callable[..., None] | None = collected.tell_line if collected.collects() else None
    return found


def _misused(error: click.ClickException, given: list[str]) -> int:
    message = encodable(error.format_message())
    if "--json" in given:
        print_json({"error": {"type": "UsageError", "message": message}})
    elif line := _line_for(given):
        line(message, "UsageError", error.exit_code)
    else:
        error.show()
    return error.exit_code


def _run(given: list[str]) -> int:
    """Do what click's own ``main`` does, but let every exception out; `SystemExit` is an exit code, also of a hook of users."""
    asked = os.environ.get(COMPLETE)
    if asked:
        from click.shell_completion import shell_complete  # noqa: PLC0415 - only who presses tab pays for it

        return shell_complete(cli, {}, "cliffracer", COMPLETE, asked)
    if given[:1] in (["help"], ["version"]):  # what people try first
        given = [*given[1:], f"--{given[0]}"]
    try:
        with _described(cli).make_context("cliffracer", given, obj=tuple(given)) as context:  # obj: a mistake is told with what was typed
            cli.invoke(context)
    except SystemExit as end:
        if isinstance(end.code, str):
            line(end.code, "SystemExit", 1) if (line := _line_for(given)) else click.echo(end.code, err=True)
        return end.code if isinstance(end.code, int) else 1 if end.code else 0
    return 0
