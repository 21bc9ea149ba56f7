"""How ``services``, ``top``, ``trace``, ``health``, ``check``, ``config``, ``doctor`` and ``console`` are parsed."""

from typing import Any

import click

from cliffracer.cli.commands import Seconds, Whole, completed, do, env_file_option, json_option, named

_interval = click.option(
    "--interval", type=Seconds(0.2, 60), default=1.0, show_default=True, metavar="S", help="Seconds between two looks."
)
_count = click.option("--count", "-n", type=Whole(1), metavar="N", help="Stop after so many looks.")


@click.command(short_help="List the services that run now.")
@click.argument("name", default="", callback=named, shell_complete=completed("names"))
@click.option("--watch", "-w", is_flag=True, help="Look again and again, until Ctrl-C; figures are then since the last look.")
@_interval
@_count
@json_option
def services(**given: Any) -> None:
    """List the services on NATS: replicas, calls a second, share of errors, durations. With NAME, the handlers of that service.

    p50 and p95 of a handler are those of its slowest replica, of a service those of its slowest handler. Where no NAME runs, the exit
    code is 1, unless it is watched for.
    """
    do("services:services", **given)


@click.command(short_help="Watch the services that run now.")
@click.argument("name", default="", callback=named, shell_complete=completed("names"))
@_interval
@_count
@json_option
def top(**given: Any) -> None:
    """Show the busiest services, or handlers of NAME, first: calls a second, errors and durations, until Ctrl-C.

    p50 and p95 of a handler are those of its slowest replica, of a service those of its slowest handler.
    """
    do("services:top", **given)


@click.command(short_help="Show where the time of one call went.")
@click.argument("wanted", metavar="[ID]", default="")
@click.option("--count", "-n", type=Whole(1, 500), default=20, show_default=True, metavar="N", help="Without ID: so many.")
@json_option
def trace(**given: Any) -> None:
    """Show the calls of one trace through all services as a waterfall; without ID, list the last traces.

    ID is a trace id, a traceparent or a correlation id (as logs, HTTP answers and tail show it), or how one begins.
    Every process remembers its last calls by itself: no collector is needed.
    """
    do("traces:trace", **given)


@click.command(short_help="Ask a service over HTTP whether it is ready.")
@click.option("--host", metavar="H", help="Where it serves HTTP.")
@click.option("--port", type=Whole(1, 65535), metavar="N", help="The port it serves on.")
@click.option("--live", is_flag=True, help="Ask only whether the process lives.")
@json_option
def health(**given: Any) -> None:
    """Exit with 0 if the service on this machine is ready (or, with --live, alive), else with 1. For HEALTHCHECK and probes."""
    do("health:health", **given)


@click.command(short_help="Say whom the apps as they stand here would break.")
@click.argument("apps", nargs=-1, shell_complete=completed("apps"))
@click.option("--against", metavar="NATS_URL", help="The NATS where they are to run; that of the settings if not given.")
@json_option
def check(**given: Any) -> None:
    """Compare APPS, named as for run, with what runs: methods, HTTP routes, sockets and events with those who use them.

    Live callers and subscribers that a change would break are named; of HTTP it is known how often it was asked. Exits with 1 if there
    are some, with 0 if a change breaks nobody who was seen. Callers are known from what they called since they started.
    """
    do("check:check", **given)


@click.command(short_help="Show every setting and where it comes from.")
@env_file_option
@json_option
def config(**given: Any) -> None:
    """Show every setting, its value (secrets masked) and where it comes from.

    Order: arguments, environment, .env, cliffracer.toml or [tool.cliffracer], default.
    """
    do("health:config", **given)


@click.command(short_help="Find what is wrong with this set-up.")
@click.argument("apps", nargs=-1, shell_complete=completed("apps"))
@json_option
def doctor(**given: Any) -> None:
    """Check versions, settings, servers, streams and, where they can be found, APPS. Exits with 1 if something is wrong."""
    do("doctor:doctor", **given)


@click.command(short_help="Look at everything that runs, in a browser.")
@click.option("--port", type=Whole(0, 65535), default=0, metavar="N", help="The port to serve it on; a free one if not given.")
@click.option("--open", "open_browser", is_flag=True, help="Open it in your browser.")
@click.option("--write/--read-only", "acts", default=None, help="Act in production as well, or only look anywhere.")
@json_option
def console(**given: Any) -> None:
    """Serve a page that shows what runs on NATS, and acts on it, until Ctrl-C.

    Services and who calls whom, methods with forms to call them, events, dead letters, streams, timers, traces, health and settings.
    It is served on this machine only, under an address that is good once. Where CLIFFRACER_ENV is production, or a service says that it
    runs there, it only looks: no calls, events, replays.
    """
    do("console:console", **given)
