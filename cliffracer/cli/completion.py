"""What a shell is told while a command is typed: apps of this folder; services, methods and arguments that run now."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import click
import msgspec
from click.shell_completion import get_completion_class
from loguru import logger

from cliffracer import embedded
from cliffracer.cli.arguments import order_of, resolved
from cliffracer.cli.loading import visible_apps
from cliffracer.cli.main import COMPLETE, cli
from cliffracer.cli.output import print_json
from cliffracer.client import AsyncClient, connect_async
from cliffracer.errors import CliffracerError
from cliffracer.messaging.directory import Info
from cliffracer.settings import Settings


def completion(*, shell: str, as_json: bool = False) -> None:
    """Print the script for a shell."""
    kind = get_completion_class(shell)
    assert kind is not None  # click has all that the option lets through
    script = kind(cli, {}, "cliffracer", COMPLETE).source()
    print_json({"shell": shell, "script": script}) if as_json else click.echo(script)


def apps(_context: click.Context, typed: str) -> list[str]:
    """Return the apps of this folder."""
    return [name for name in visible_apps(100) if name.startswith(typed)]


def names(_context: click.Context, typed: str) -> list[str]:
    """Return the services that run."""
    return sorted({info.name for info in _asked(_infos) if info.name.startswith(typed)})


def methods(_context: click.Context, typed: str) -> list[str]:
    """Return ``service.method`` of what runs."""
    found = {f"{info.name}.{endpoint.name}" for info in _asked(_infos) for endpoint in info.endpoints}
    return sorted(name for name in found if name.startswith(typed))


def arguments(context: click.Context, typed: str) -> list[str]:
    """Return ``name=`` of the arguments that a call does not have yet, in their order; those that stand first may be given by position."""
    service, _, method = str(context.params.get("target") or "").partition(".")
    texts = [text for text in context.params.get("arguments") or () if not text.startswith("-")]
    given = {text.partition("=")[0].rstrip(":") for text in texts if "=" in text}
    placed = len([text for text in texts if "=" not in text and not text.startswith("@")])

    async def ask(client: AsyncClient) -> list[str]:
        known = (await client.directory.schemas(service, method, timeout=0.5)).get(method, {})
        schema = msgspec.json.decode(known.get("request_schema", "{}"))
        order = order_of(known)
        return list(resolved(schema, schema).get("properties", {})) if order is None else order[placed:]

    return [f"{name}=" for name in _asked(ask) if name.startswith(typed) and name not in given]


async def _infos(client: AsyncClient) -> list[Info]:
    found: list[Info] = await client.directory.ask("INFO", patience=0.15)
    return found


def _asked(ask: Callable[[AsyncClient], Awaitable[list[Any]]]) -> list[Any]:
    """Return what a running service answers; nothing, silently and soon, where that cannot be asked. No server is started."""
    logger.remove()
    try:
        settings = Settings.load(wait=0.0)
        if settings.nats_url is None:
            running = next((s.url for s in embedded.status() if s.kind == "nats" and s.running), None)
            if running is None:
                return []
            settings = settings.changed("embedded", nats_url=running)
        return asyncio.run(_connected(settings, ask))
    except (CliffracerError, OSError, ValueError, TimeoutError):
        return []


async def _connected(settings: Settings, ask: Callable[[AsyncClient], Awaitable[list[Any]]]) -> list[Any]:
    async with asyncio.timeout(1.5), connect_async(settings=settings) as client:
        return await ask(client)
