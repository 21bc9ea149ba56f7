"""How ``permissions`` and ``provision`` are parsed."""

from typing import Any

import click

from cliffracer.cli.commands import completed, do, json_option


@click.command(short_help="Write what apps may do on NATS, in PostgreSQL, on the network.")
@click.argument("apps", nargs=-1, shell_complete=completed("apps"))
@click.option("--format", "form", type=click.Choice(["nats", "sql", "k8s"]), default="nats", show_default=True, help="For which of them.")
@click.option("--together", is_flag=True, help="For one process that runs all of them, instead of one each.")
@click.option("--seen", is_flag=True, help="Print instead what running replicas were seen to do.")
@click.option("--output", "-o", metavar="FILE", type=click.Path(dir_okay=False), help="Write it there instead of printing it.")
@json_option
def permissions(**given: Any) -> None:
    """Write the least that APPS, named as for run, can work with, from what they declare. Nothing is connected or started.

    \b
    nats   users of nats-server, with the subjects of each
    sql    roles of PostgreSQL, with grants on the tables of each app's models
    k8s    network policies of Kubernetes
    """  # noqa: D301 - \b is click's mark for lines to be left alone
    do("permissions:permissions", **given)


@click.command(short_help="Make the streams, consumers and buckets that apps need.")
@click.argument("apps", nargs=-1, shell_complete=completed("apps"))
@json_option
def provision(**given: Any) -> None:
    """Make the streams, consumers and buckets that APPS need on NATS, for services that may not make them themselves.

    Run it before a new version, as a user of NATS without limits. What is there is widened, never narrowed or removed.
    """
    do("permissions:provide", **given)
