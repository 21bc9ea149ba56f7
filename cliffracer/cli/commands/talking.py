"""How ``call``, ``emit``, ``cancel``, ``delayed``, ``tail`` and ``bench`` are parsed."""

from typing import Any

import click

from cliffracer.cli.commands import Seconds, Whole, completed, do, json_option


def identity_options(command: Any) -> Any:
    """Add what says who calls."""
    for option in (
        click.option("--login-scope", metavar="SCOPE", default="openid profile email", help="What to ask OIDC_ISSUER for."),
        click.option("--client-id", metavar="ID", help="Who we are at OIDC_ISSUER, if not OIDC_CLIENT_ID."),
        click.option("--login-url", metavar="URL", help="Where the app has Accounts, if not at /auth/login on http_port here."),
        click.option("--login", metavar="NAME", help="Who calls: sign in first, at OIDC_ISSUER or where the app has Accounts."),
        click.option("--token", metavar="TOKEN", help="Who calls: a token or an API key."),
    ):
        command = option(command)
    return command


@click.command(short_help="Call a method of a running service.")
@click.argument("target", metavar="SERVICE.METHOD", shell_complete=completed("methods"))
@click.argument("arguments", nargs=-1, shell_complete=completed("arguments"))
@click.option("--stream", is_flag=True, help="Print each item of a streaming method as it arrives.")
@click.option("--timeout", metavar="TIME", help="How long to wait, such as 500ms or 2s.")
@click.option("--trace", "traced", is_flag=True, help="Then show the calls that it took, as `cliffracer trace` does.")
@identity_options
@json_option
def call(**given: Any) -> None:
    """Call SERVICE.METHOD with ARGUMENTS and print the reply as JSON.

    \b
    name=value   what the method takes under that name: text, a number, true, null
    name:=json   any JSON value
    name=@file   the text of a file, or its JSON where no text is taken
    name:=@file  its JSON
    {"name": …}  all arguments, as JSON; also @file, or - for standard input
    value        an argument by position

    What is missing, unknown or of the wrong type is told before anything is sent.
    """  # noqa: D301 - \b is click's mark for lines to be left alone
    do("calls:call", **given)


@click.command(short_help="Emit an event.")
@click.argument("subject", shell_complete=completed("subjects"))
@click.argument("data", nargs=-1)
@click.option("--core", is_flag=True, help="Over core NATS: at most once, not stored.")
@click.option("--id", "event_id", metavar="ID", help="Its id: a second event of the same id within two minutes is not stored.")
@click.option("--key", metavar="KEY", help="Events of one key are handled in order, by functions with ordered=True.")
@click.option("--delay", metavar="TIME", help="Deliver it later, such as 30s or 2h.")
@identity_options
@json_option
def emit(**given: Any) -> None:
    """Emit an event on SUBJECT with DATA.

    DATA is one JSON value, @file, - for standard input, or name=value and name:=json as for call.
    """
    do("calls:emit", **given)


@click.command(short_help="Take back an event that is not due yet.")
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@json_option
def cancel(**given: Any) -> None:
    """Take back events that were emitted with a delay, by the IDs that emit printed; `cliffracer delayed` lists them.

    Exit code 1 if one of them is not there, or not any more.
    """
    do("delayed:cancel", **given)


@click.command(short_help="List the events that are not due yet.")
@click.argument("pattern", default=">", shell_complete=completed("subjects"))
@json_option
def delayed(**given: Any) -> None:
    """List the events that match PATTERN and are not due yet; those that a transaction emits, once it has committed."""
    do("delayed:ls", **given)


@click.command(short_help="Print events as they happen.")
@click.argument("pattern", default=">", shell_complete=completed("subjects"))
@click.option("--since", metavar="TIME", help="Begin with those of so long ago, such as 10m.")
@click.option("--count", "-n", type=Whole(1), metavar="N", help="Stop after so many.")
@json_option
def tail(**given: Any) -> None:
    """Print the events that match PATTERN, such as 'user.*' or 'order.>', until Ctrl-C."""
    do("tail:tail", **given)


@click.command(short_help="Measure how fast a method answers.")
@click.argument("target", metavar="SERVICE.METHOD", shell_complete=completed("methods"))
@click.argument("arguments", nargs=-1, shell_complete=completed("arguments"))
@click.option("--seconds", type=Seconds(0.1, 600), default=5.0, show_default=True, metavar="S", help="How long to measure.")
@click.option("--concurrency", "-c", type=Whole(1, 10_000), default=16, show_default=True, metavar="N", help="Calls in flight.")
@json_option
def bench(**given: Any) -> None:
    """Call SERVICE.METHOD again and again, as call does, and print calls a second and how long they took.

    A bare request to NATS and back is measured beside it. No duration is printed if a call failed.
    """
    do("bench:bench", **given)
