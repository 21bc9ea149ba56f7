"""``cliffracer call`` and ``cliffracer emit``."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import click
import msgspec

from cliffracer.cli.output import json_option, print_json, tells
from cliffracer.client import connect_async
from cliffracer.errors import SetupError
from cliffracer.settings import Settings


@click.command(short_help="Call a method of a running service.")
@click.argument("target", metavar="SERVICE.METHOD")
@click.argument("arguments", nargs=-1)
@click.option("--stream", is_flag=True, help="Print each item of a streaming method as it arrives.")
@click.option("--timeout", metavar="TIME", help="How long to wait, such as 500ms or 2s.")
@json_option
@tells
def call(target: str, arguments: tuple[str, ...], stream: bool, timeout: str | None, as_json: bool) -> None:  # noqa: ARG001 - JSON either way
    """Call SERVICE.METHOD with ARGUMENTS and print the reply as JSON.

    name=text   a string, or a number, true, false or null where the text is one
    name:=json  any JSON value
    name=@file  the content of a file; @file alone: all arguments as a JSON object, - reads standard input
    text        an argument by position
    """
    positional, named = parse_arguments(arguments)
    asyncio.run(_call(target, positional, named, stream=stream, timeout=timeout))


async def _call(target: str, positional: list[Any], named: dict[str, Any], *, stream: bool, timeout: str | None) -> None:
    async with connect_async(settings=Settings.load(), timeout=timeout) as client:
        try:
            if not stream:
                print_json(await client.call(target, *positional, **named))
                return
            async for item in client.stream(target, *positional, **named):
                click.echo(msgspec.json.encode(item))
        except (TypeError, ValueError) as error:
            raise SetupError(str(error)) from None


@click.command(short_help="Emit an event.")
@click.argument("subject")
@click.argument("data", default="null")
@click.option("--core", is_flag=True, help="Over core NATS: at most once, not stored.")
@click.option("--id", "event_id", metavar="ID", help="Its id: a second event of the same id is dropped.")
@json_option
@tells
def emit(subject: str, data: str, core: bool, event_id: str | None, as_json: bool) -> None:
    """Emit an event on SUBJECT with DATA as JSON (@file, or - for standard input)."""
    value = _json(data, "DATA")

    async def run() -> None:
        async with connect_async(settings=Settings.load()) as client:
            try:
                await client.emit(subject, value, durable=not core, id=event_id)
            except ValueError as error:
                raise SetupError(str(error)) from None

    asyncio.run(run())
    if as_json:
        print_json({"emitted": subject, "durable": not core})
    else:
        click.echo(f"emitted {subject}" + ("" if core else ", stored"))


def parse_arguments(texts: tuple[str, ...]) -> tuple[list[Any], dict[str, Any]]:
    """Return (positional, named) arguments of a call; `click.UsageError` for what cannot be read."""
    positional: list[Any] = []
    named: dict[str, Any] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if sign and name.removesuffix(":").isidentifier():
            found = _json(value, name.removesuffix(":")) if name.endswith(":") else _plain(value)
            if name.removesuffix(":") in named:
                raise click.UsageError(f"{name.removesuffix(':')} is given twice")
            named[name.removesuffix(":")] = found
        elif text.startswith("@") or text == "-":
            whole = _json(text, text)
            if not isinstance(whole, dict):
                raise click.UsageError(f"{text} holds no JSON object of named arguments")
            named.update(whole)
        else:
            positional.append(_plain(text))
    if positional and named:
        raise click.UsageError("give all arguments by name, or all by position")
    return positional, named


def _plain(text: str) -> Any:
    """Return a number, true, false or null where the text is one, else the text, or the content of ``@file``."""
    if text.startswith("@"):
        return _read(text)
    try:
        value = msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeEncodeError, RecursionError):
        return text
    return value if value is None or isinstance(value, bool | int | float) else text


def _json(text: str, name: str) -> Any:
    try:
        return msgspec.json.decode(_read(text) if text.startswith("@") or text == "-" else text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise click.UsageError(f"{name} is no JSON: {error}") from None


def _read(text: str) -> str:
    if text == "-":
        return sys.stdin.read()
    try:
        return Path(text[1:]).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise click.UsageError(f"{text[1:]} cannot be read: {error}") from None
