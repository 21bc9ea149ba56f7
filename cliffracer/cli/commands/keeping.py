"""How ``servers``, ``replay``, ``dead`` and ``db`` are parsed."""

from typing import Any

import click

from cliffracer.cli.commands import Whole, completed, do, json_option
from cliffracer.cli.suggestions import DatabaseCommands

_letter = Whole(1, listed="cliffracer dead ls")
_yes = click.option("--yes", "-y", is_flag=True, help="Do not ask.")


@click.group(short_help="Look after the embedded servers.")
def servers() -> None:
    """Look after the NATS and PostgreSQL that are embedded for development, one of each per project folder."""


@servers.command("up", short_help="Keep them running until Ctrl-C.")
@click.option("--database/--no-database", default=True, help="Start PostgreSQL too.")
@json_option
def servers_up(**given: Any) -> None:
    """Start the servers, print their URLs and keep them running until Ctrl-C."""
    do("servers:up", **given)


@servers.command("status", short_help="Say whether they run, and where.")
@json_option
def servers_status(**given: Any) -> None:
    """Say whether the servers of this folder run, where, and where their logs are."""
    do("servers:status", **given)


@servers.command("stop", short_help="Stop them now.")
@json_option
def servers_stop(**given: Any) -> None:
    """Stop the servers now instead of some seconds after their last user; fails if somebody uses them."""
    do("servers:stop", **given)


@servers.command("reset", short_help="Forget everything that they stored.")
@_yes
@json_option
def servers_reset(**given: Any) -> None:
    """Stop the servers and forget everything that they stored: all streams and all tables."""
    do("servers:reset", **given)


@servers.command("logs", short_help="Print the end of their logs.")
@click.argument("kind", type=click.Choice(["nats", "postgres"]), required=False)
@click.option("--lines", "-n", type=Whole(1, 100_000), default=20, show_default=True, metavar="N", help="So many of each.")
@json_option
def servers_logs(**given: Any) -> None:
    """Print the end of the servers' logs."""
    do("servers:logs", **given)


@click.command(short_help="Give stored events to a function again.")
@click.argument("app")
@click.argument("function")
@click.option("--since", default="all", show_default=True, metavar="WHEN", help="How long ago (1h), a time, a sequence's number, or all.")
@click.option("--dry-run", is_flag=True, help="Only say which events there are.")
@json_option
def replay(**given: Any) -> None:
    """Give the events that are stored to a function of APP again, in this process; nobody else sees them.

    For example: cliffracer replay orders:app send_receipt --since 1h
    """
    do("replays:run", **given)


@click.group(short_help="Show, replay or discard events that could not be handled.")
def dead() -> None:
    """Show, replay or discard events that could not be handled: each retry failed, or its data does not fit."""


def _filters(command: Any) -> Any:
    for option in (
        click.option("--subject", default="", metavar="S", help="Only events on this subject or pattern."),
        click.option("--function", default="", metavar="F", help="Only those that this function could not handle."),
        click.option("--service", default="", metavar="S", help="Only those of this service."),
    ):
        command = option(command)
    return command


@dead.command("ls", short_help="List them, oldest first.")
@_filters
@click.option("--limit", type=Whole(1), default=100, show_default=True, metavar="N", help="So many at most.")
@json_option
def dead_ls(**given: Any) -> None:
    """List what could not be handled, oldest first."""
    do("dead:ls", **given)


@dead.command("show", short_help="Show one: data, headers, error, traceback.")
@click.argument("number", type=_letter)
@json_option
def dead_show(**given: Any) -> None:
    """Show everything about one: data, headers, what went wrong."""
    do("dead:show", **given)


@dead.command("replay", short_help="Hand them to the function that failed again.")
@click.argument("numbers", nargs=-1, type=_letter)
@click.option("--all", "everything", is_flag=True, help="Every one that the filters let through.")
@_filters
@click.option("--data", metavar="JSON", help="Replay with other data: JSON, @file, or - for standard input.")
@click.option("--edit", is_flag=True, help="Open the data in your editor first.")
@click.option("--token", metavar="TOKEN", help="Who replays them, in place of who emitted them: that one's token may have expired.")
@click.option("--dry-run", is_flag=True, help="Only say which.")
@json_option
def dead_replay(**given: Any) -> None:
    """Hand events to the function that failed, and to no other, again; NUMBERS are those of ls.

    What fails again is parked again, under a new number.
    """
    do("dead:replay", **given)


@dead.command("discard", short_help="Remove them for good.")
@click.argument("numbers", nargs=-1, type=_letter)
@click.option("--all", "everything", is_flag=True, help="Every one that the filters let through.")
@_filters
@click.option("--dry-run", is_flag=True, help="Only say which.")
@_yes
@json_option
def dead_discard(**given: Any) -> None:
    """Remove events for good; NUMBERS are those of ls. On a terminal it asks before it removes --all."""
    do("dead:discard", **given)


@click.group(cls=DatabaseCommands, short_help="Plan and apply database migrations.")
def db() -> None:
    """Plan and apply database migrations: ordered .sql files in migrations/."""


@db.command("plan", short_help="Write the next migration from the Models.")
@click.argument("apps", nargs=-1, shell_complete=completed("apps"))
@click.option("--name", default="", metavar="NAME", help="What the file is called, after its number.")
@click.option("--dry-run", is_flag=True, help="Print it, write nothing.")
@json_option
def db_plan(**given: Any) -> None:
    """Write the next migration, migrations/NUMBER_NAME.sql: what the Models of APPS have and the database has not."""
    do("migrations:plan", **given)


@db.command("apply", short_help="Apply the migrations that are pending.")
@click.argument("apps", nargs=-1, shell_complete=completed("apps"))
@json_option
def db_apply(**given: Any) -> None:
    """Apply the migrations that are pending, in order, under a lock. They are those of the folder, so APPS need not be named."""
    do("migrations:apply", **given)


@db.command("status", short_help="Say which migrations are applied.")
@click.argument("apps", nargs=-1, shell_complete=completed("apps"))
@json_option
def db_status(**given: Any) -> None:
    """Say which migrations are applied and which are pending. They are those of the folder, so APPS need not be named.

    Exits with 1 if one was changed or removed after it was applied.
    """
    do("migrations:status", **given)


@db.command("outbox", short_help="Show events that wait to be published.")
@click.argument("numbers", nargs=-1, type=Whole(1, listed="cliffracer db outbox"))
@click.option("--release", is_flag=True, help="Have those that could not be published tried again, or those NUMBERS only.")
@click.option("--discard", is_flag=True, help="Remove those NUMBERS for good.")
@click.option("--all", "everything", is_flag=True, help="Every one that could not be published.")
@click.option("--shard", type=Whole(0), metavar="N", help="Only this one of several databases, counted from 0.")
@click.option("--dry-run", is_flag=True, help="Only say which.")
@_yes
@json_option
def db_outbox(**given: Any) -> None:
    """Show how many events of committed transactions wait to be published, and those that cannot be as they are.

    On a terminal it asks before it discards --all.
    """
    do("outbox:outbox", **given)


@db.command("psql", short_help="Open psql on the database.", context_settings={"ignore_unknown_options": True})
@click.option("--shard", type=Whole(0), metavar="N", help="Which of several databases, counted from 0; the first if not given.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@json_option
def db_psql(**given: Any) -> None:
    """Open psql on the database of the settings, or the embedded one; ARGUMENTS are psql's own.

    For example: cliffracer db psql -c "select count(*) from users". With --json and -c, the rows are printed as JSON objects.
    """
    do("psql:psql", **given)
