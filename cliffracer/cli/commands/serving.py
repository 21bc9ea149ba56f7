"""How ``run``, ``routes`` and ``shell`` are parsed."""

from typing import Any

import click

from cliffracer.cli.commands import Whole, completed, do, env_file_option, json_option


@click.command(short_help="Run one or more apps.")
@click.argument("apps", nargs=-1, shell_complete=completed("apps"))
@click.option("--reload", is_flag=True, help="Run anew when a file changes; for development.")
@click.option("--workers", type=Whole(1, 256), metavar="N", help="Run so many processes; they share the HTTP port.")
@click.option("--host", metavar="H", help="Address to serve HTTP on.")
@click.option("--port", type=Whole(0, 65535), metavar="N", help="Port to serve HTTP on; 0 takes a free one.")
@env_file_option
@json_option
def run(**given: Any) -> None:
    """Run APPS, such as users:app or orders/main.py, until Ctrl-C, SIGTERM or SIGHUP.

    With --json, being ready is told as one JSON object on standard output, and logs are JSON lines on standard error.

    Without APPS: the app that pyproject.toml names ([tool.cliffracer] app = "users:app"), else that of app.py or main.py.
    Without NATS_URL or DATABASE_URL, real embedded servers are started for development.
    """
    do("running:run", **given)


@click.command(short_help="List what apps declare.")
@click.argument("apps", nargs=-1, shell_complete=completed("apps"))
@json_option
def routes(**given: Any) -> None:
    """List the HTTP routes, RPC subjects, events, sockets and timers of APPS, each with the line that declares it.

    APPS are named as for run. Nothing is connected or started.
    """
    do("routes:routes", **given)


@click.command(short_help="Open a Python prompt with an app connected.")
@click.argument("app", default="", shell_complete=completed("apps"))
@click.option("--command", "-c", metavar="CODE", help="Run this instead of asking; await works in it.")
@json_option
def shell(**given: Any) -> None:
    """Open a prompt where await works and services can be called, with or without an APP of yours.

    \b
    app          your app, connected: await app.emit(...)
    rpc          services: await rpc.user_service.get_user(user_id=7)
    db           the database, if the app uses one: await db.fetch(...)

    IPython is used when it is installed.
    """  # noqa: D301 - \b is click's mark for lines to be left alone
    do("shell:shell", **given)
