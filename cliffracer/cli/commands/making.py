"""How ``new``, ``docs``, ``client``, ``deploy`` and ``completion`` are parsed."""

from typing import Any

import click

from cliffracer.cli.commands import completed, do, json_option, named


@click.command(short_help="Make a folder with a service, its test and its Dockerfile.")
@click.argument("name")
@click.option("--with", "parts", metavar="PARTS", default="", help="Also with these, comma-separated: db, auth.")
@json_option
def new(**given: Any) -> None:
    """Make the folder NAME with a one-file service, its test, pyproject.toml, Dockerfile, .env.example and README.md.

    With . as NAME, they are made in this folder, and the service is called as it is.
    """
    do("new:new", **given)


@click.command(short_help="Write the OpenAPI or AsyncAPI document of apps.")
@click.argument("apps", nargs=-1, shell_complete=completed("apps"))
@click.option("--openapi", "as_openapi", is_flag=True, help="OpenAPI 3.1 of their HTTP; what is written by default.")
@click.option("--asyncapi", "as_asyncapi", is_flag=True, help="AsyncAPI 3.0 of their RPC, events and sockets.")
@click.option("--output", "-o", metavar="FILE", type=click.Path(dir_okay=False), help="Write it there instead of printing it.")
@json_option
def docs(*, as_openapi: bool, as_asyncapi: bool, **given: Any) -> None:
    """Print a document that describes APPS, named as for run. Nothing is connected or started."""
    if as_openapi and as_asyncapi:
        raise click.UsageError("--openapi or --asyncapi: each is a document of its own, so run this once for each")
    do("docs:docs", kind="asyncapi" if as_asyncapi else "openapi", **given)


@click.command(short_help="Write a typed client for a running service.")
@click.argument("service", callback=named, shell_complete=completed("names"))
@click.option("--output", "-o", metavar="FILE", type=click.Path(dir_okay=False), help="Write it there instead of printing it.")
@json_option
def client(**given: Any) -> None:
    """Write a Python module with the types and methods of a SERVICE that runs now; it passes mypy --strict."""
    do("stubs:client", **given)


@click.group(short_help="Write a Dockerfile, a compose file or Kubernetes manifests.")
def deploy() -> None:
    """Write what deploys an app, from what the app itself declares."""


_image = click.option(
    "--image", "name", metavar="NAME", default="", help="What the image is called; name and version of the app if not given."
)
_output = click.option("--output", "-o", metavar="FILE", type=click.Path(dir_okay=False), help="Write it there instead of printing it.")


@deploy.command("docker", short_help="Write a Dockerfile.")
@click.argument("apps", nargs=-1, shell_complete=completed("apps"))
@_output
@json_option
def deploy_docker(**given: Any) -> None:
    """Write a Dockerfile for APPS, named as for run: slim, not root, with a health check.

    It installs requirements.txt, else what pyproject.toml depends on, else cliffracer, and the extras of it that the apps need.
    With -o a .dockerignore is written as well if there is none.
    """
    do("deploy:deploy", kind="docker", name="", **given)


@deploy.command("compose", short_help="Write a compose file.")
@click.argument("apps", nargs=-1, shell_complete=completed("apps"))
@_image
@_output
@json_option
def deploy_compose(**given: Any) -> None:
    """Write a compose file for APPS, named as for run, with NATS and, if they use one, PostgreSQL."""
    do("deploy:deploy", kind="compose", **given)


@deploy.command("k8s", short_help="Write Kubernetes manifests.")
@click.argument("apps", nargs=-1, shell_complete=completed("apps"))
@_image
@click.option("--keda", is_flag=True, help="Scale by events that wait (KEDA), not by CPU.")
@_output
@json_option
def deploy_k8s(**given: Any) -> None:
    """Write Kubernetes manifests for APPS, named as for run.

    Deployment with probes and time to drain, Service, autoscaler, disruption budget, network policy. Secrets are referred to.
    """
    do("deploy:deploy", kind="k8s", **given)


@click.command(short_help="Print what makes your shell complete commands.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@json_option
def completion(**given: Any) -> None:
    """Print what makes SHELL complete commands, options, and the names of services, methods and arguments that run now.

    \b
    bash   cliffracer completion bash >> ~/.bashrc
    zsh    cliffracer completion zsh >> ~/.zshrc
    fish   cliffracer completion fish > ~/.config/fish/completions/cliffracer.fish
    """  # noqa: D301 - \b is click's mark for lines to be left alone
    do("completion:completion", **given)
