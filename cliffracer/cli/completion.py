"""What a shell is told while a command is typed: apps of this folder; services, methods and arguments that run now."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import click
from click.shell_completion import get_completion_class
from loguru import logger

from cliffracer import embedded
from cliffracer.cli.arguments import order_of, resolved, schema_of
from cliffracer.cli.loading import visible_apps
from cliffracer.cli.main import COMPLETE, cli
from cliffracer.cli.output import print_json
from cliffracer.client import AsyncClient, connect_async
from cliffracer.errors import CliffracerError
from cliffracer.messaging.directory import Info
from cliffracer.settings import Settings

_ADD = "        compadd -U -V unsorted -a completions\n"
_NO_SPACE = {
    "bash": ("    return 0\n", "    [[ ${COMPREPLY[0]} == *= ]] && compopt -o nospace\n    return 0\n"),
    "zsh": (_ADD, f"        [[ ${{completions[1]}} == *= ]] && compadd -S '' -U -V unsorted -a completions && return\n{_ADD}"),
}
"""What click's scripts lack: no blank between ``name=`` and its value. fish makes none there."""


def completion(*, shell: str, as_json: bool = False) -> None:
    """Print the script for a shell."""
    kind = get_completion_class(shell)
    assert kind is not None  # click has all that the option lets through
    script = kind(cli, {}, "cliffracer", COMPLETE).source()
    script = script.replace(*_NO_SPACE.get(shell, ("", "")))
    print_json({"shell": shell, "script": script}) if as_json else click.echo(script)


def apps(_context: click.Context, typed: str) -> list[str]:
    """Return the apps of this folder."""
    return [name for name in visible_apps() if name.startswith(typed)]


def names(_context: click.Context, typed: str) -> list[str]:
    """Return the services that run."""
    return sorted({info.name for info in _asked(_infos) if info.name.startswith(typed)})


def methods(_context: click.Context, typed: str) -> list[str]:
    """Return ``service.method`` of what runs."""
    found = {f"{info.name}.{endpoint.name}" for info in _asked(_infos) for endpoint in info.endpoints}
    return sorted(name for name in found if name.startswith(typed))


def subjects(_context: click.Context, typed: str) -> list[str]:
    """Return the subjects and patterns that somebody subscribes to."""
    heard = {subject for info in _asked(_infos) for subject in (info.metadata or {}).get("events", "").split(",")}
    return sorted(subject for subject in heard if subject and subject.startswith(typed))


def arguments(context: click.Context, typed: str) -> list[str]:
    """Return ``name=`` of the arguments that a call does not have yet, in their order, or what may stand behind one."""
    service, _, method = str(context.params.get("target") or "").partition(".")
    *given, last = _joined([*(context.params.get("arguments") or ()), typed])

    async def ask(client: AsyncClient) -> list[str]:
        known = (await client.directory.schemas(service, method, timeout=0.5)).get(method, {})
        schema = schema_of(known.get("request_schema")) or {}
        properties = resolved(schema, schema).get("properties", {})
        name, sign, value = last.partition("=")
        if sign:
            found = [choice for choice in _choices(properties.get(name, {}), schema) if choice.startswith(value)]
            return [f"{name}={choice}" if sign in typed else choice for choice in found]
        named = {text.partition("=")[0].rstrip(":") for text in given if "=" in text}
        placed = len([text for text in given if "=" not in text and not text.startswith(("@", "-"))])
        order = order_of(known) or list(properties)
        return [f"{one}=" for one in order[placed:] if one.startswith(last) and one not in named]

    return _asked(ask)


def _joined(words: list[str]) -> list[str]:
    """Return words as they were typed: bash takes ``name=value`` for three."""
    found: list[str] = []
    behind = False
    for word in words:
        sign = word in {"=", ":="}
        if found and (sign or behind):
            found[-1] += word
        else:
            found.append(word)
        behind = sign
    return found


def _choices(schema: dict[str, Any], root: dict[str, Any]) -> list[str]:
    whole = resolved(schema, root)
    if whole.get("type") == "boolean":
        return ["true", "false"]
    return [one for one in whole.get("enum", ()) if isinstance(one, str)]


async def _infos(client: AsyncClient) -> list[Info]:
    found: list[Info] = await client.directory.ask("INFO", patience=0.15)
    return found


def _asked(ask: Callable[[AsyncClient], Awaitable[list[Any]]]) -> list[Any]:
    """Return what a running service answers; nothing, silently and soon, where that cannot be asked. No server is started."""
    logger.remove()
    try:
        settings = Settings.load(wait=0.0)
        if settings.nats_url is None:
            running = embedded.running("nats")
            if running is None:
                return []
            settings = settings.changed("embedded", nats_url=running)
        return asyncio.run(_connected(settings, ask))
    except (CliffracerError, OSError, ValueError, TimeoutError):
        return []


async def _connected(settings: Settings, ask: Callable[[AsyncClient], Awaitable[list[Any]]]) -> list[Any]:
    async with asyncio.timeout(1.5), connect_async(settings=settings) as client:
        return await ask(client)
