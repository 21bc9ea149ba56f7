"""How ``new``, ``docs``, ``client``, ``deploy`` and ``completion`` are parsed."""

from typing import Any

import click

from cliffracer.cli.commands import do


@click.command(short_help="Make a folder with a service, its test and its Dockerfile.")
@click.argument("name")
@click.option("--with", "parts", metavar="PARTS", default="", help="Also with these, comma-separated: db, auth.")
def new(**given: Any) -> None:
    """Make the folder NAME with a one-file service, its test, pyproject.toml, Dockerfile, .env.example and README.md."""
    do("new:new", **given)


@click.command(short_help="Write OpenAPI or AsyncAPI documents.")
@click.argument("apps", nargs=-1)
@click.option("--openapi", "kind", flag_value="openapi", default="openapi", help="OpenAPI 3.1, of HTTP (the default).")
@click.option("--asyncapi", "kind", flag_value="asyncapi", help="AsyncAPI 3, of RPC and events.")
@click.option("--output", "-o", metavar="FILE", type=click.Path(dir_okay=False), help="Write it there instead of printing it.")
def docs(**given: Any) -> None:
    """Print the document that describes APPS, named as for run. Nothing is connected or started."""
    do("docs:docs", **given)


@click.command(short_help="Write a typed client for a running service.")
@click.argument("service")
@click.option("--output", "-o", metavar="FILE", type=click.Path(dir_okay=False), help="Write it there instead of printing it.")
def client(**given: Any) -> None:
    """Write a Python module with the types and methods of a SERVICE that runs now; it passes mypy --strict."""
    do("stubs:client", **given)


@click.group(short_help="Write a Dockerfile, a compose file or Kubernetes manifests.")
def deploy() -> None:
    """Write what deploys an app, from what the app itself declares."""


def _deployed(name: str, text: str) -> None:
    @deploy.command(name, short_help=text)
    @click.argument("apps", nargs=-1)
    @click.option("--image", metavar="NAME", default="", help="What the image is called; the service's name if not given.")
    @click.option("--output", "-o", metavar="FILE", type=click.Path(dir_okay=False), help="Write it there instead of printing it.")
    def command(**given: Any) -> None:
        do("deploy:deploy", kind=name, **given)

    command.help = f"{text} APPS are named as for run."


_deployed("docker", "Write a Dockerfile: slim, not root, with a health check.")
_deployed("compose", "Write a compose file with the app, NATS and, if it uses one, PostgreSQL.")
_deployed("k8s", "Write Kubernetes manifests: Deployment, Service, autoscaler, network policy.")


@click.command(short_help="Print what makes your shell complete commands.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(**given: Any) -> None:
    """Print what makes SHELL complete commands, options, and the names of services, methods and arguments that run now.

    \b
    bash   cliffracer completion bash >> ~/.bashrc
    zsh    cliffracer completion zsh >> ~/.zshrc
    fish   cliffracer completion fish > ~/.config/fish/completions/cliffracer.fish
    """  # noqa: D301 - \b is click's mark for lines to be left alone
    do("completion:completion", **given)
