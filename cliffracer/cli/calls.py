"""``cliffracer call`` and ``cliffracer emit``."""

import asyncio
import re
from typing import Any

import click

from cliffracer.cli.arguments import by_name, fitted, json_of, order_of, parse, schema_of, unfitted
from cliffracer.cli.following import unfollowed
from cliffracer.cli.loading import start_one
from cliffracer.cli.login import Login, token_of
from cliffracer.cli.output import good, odd, print_json, print_line, printable, say, soft
from cliffracer.cli.reach import looked_at, reach_settings, reached
from cliffracer.cli.reader import while_read
from cliffracer.cli.traces import print_trace
from cliffracer.client import AsyncClient
from cliffracer.context import Context, current
from cliffracer.durations import seconds
from cliffracer.errors import Unavailable
from cliffracer.settings import Settings
from cliffracer.wire.subjects import check_name


def call(
    *,
    target: str,
    arguments: tuple[str, ...],
    stream: bool,
    timeout: str | None,
    traced: bool,
    token: str | None,
    login: str | None,
    login_url: str | None,
    client_id: str | None,
    login_scope: str,
    as_json: bool,  # noqa: ARG001 - it prints JSON either way
) -> None:
    """Call and print."""
    checked_target(target)
    settings = reach_settings()
    positional, named = parse(arguments)
    token = token_of(settings, token, Login(login, login_url, client_id, login_scope))

    async def run() -> None:
        async with reached(settings, timeout=checked_time(timeout), token=token, starts=True) as client:
            args, kwargs, streams = await prepared(client, target, positional, named)
            context = Context(kind="script")
            context.token = token
            current.set(context)
            try:
                if not stream or not streams:  # of a method that does not stream, the reply is the one item
                    (print_line if stream else print_json)(await client.call(target, *args, **kwargs))
                    return
                async for item in client.stream(target, *args, **kwargs):
                    print_line(item)
            except Unavailable as error:
                raise _with_place(error, settings) from None
            finally:
                if traced:
                    await print_trace(client, context.onward())

    asyncio.run(while_read(run()) if stream else run())


async def prepared(
    client: AsyncClient, target: str, positional: list[Any], named: dict[str, Any]
) -> tuple[list[Any], dict[str, Any], bool]:
    """Return the arguments as the method takes them, checked by its schema where it publishes one, and whether it may stream."""
    service, _, method = target.partition(".")
    known = (await client.directory.schemas(service, method)).get(method, {})
    streams = "streams" in known or "parameters" not in known  # who does not publish the one does not publish the other
    schema = schema_of(known.get("request_schema"))
    given = named if schema is None or not positional else by_name(target, positional, named, schema, order_of(known))
    if schema is not None and given is not None:
        return [], fitted(target, given, schema), streams
    if positional and named:
        raise click.UsageError(f"give all arguments by name, or all by position: {target} does not publish their order")
    return [unfitted(value) for value in positional], {name: unfitted(value) for name, value in named.items()}, streams


def emit(
    *,
    subject: str,
    data: tuple[str, ...],
    core: bool,
    event_id: str | None,
    key: str | None,
    delay: str | None,
    token: str | None,
    login: str | None,
    login_url: str | None,
    client_id: str | None,
    login_scope: str,
    as_json: bool,
) -> None:
    """Emit and say so."""
    settings = reach_settings()
    value = _event_data(data)
    token = token_of(settings, token, Login(login, login_url, client_id, login_scope))
    options: dict[str, Any] = {"durable": not core, "id": event_id, "key": key, "delay": delay}

    async def run() -> None:
        async with reached(settings, token=token, starts=True) as client:
            try:
                made = await client.emit(subject, value, **{name: option for name, option in options.items() if option is not None})
            except ValueError as error:
                raise click.UsageError(str(error)) from None
            if as_json:
                print_json({"emitted": subject, "id": made, "durable": not core})
                return
            late = f"and due in {delay}; to take it back: cliffracer cancel {printable(made)}"
            kept = f"{'to whoever listens now' if core else 'and stored'}, id {printable(made)}"
            kept += ", unless one with this id was in the last two minutes" if event_id and not core else ""
            say(f"{good('emitted')} {subject} {soft(late if delay else kept)}")
            if remark := await unfollowed(client, subject):
                say(odd(printable(remark)), err=True)

    asyncio.run(run())


def checked_target(target: str) -> None:
    """Raise `click.UsageError` unless it is ``service.method``."""
    service, dot, method = target.partition(".")
    if not (service and dot and method):
        raise click.UsageError(f"{target} names no method: write service.method, as in user_service.get_user")
    try:
        check_name(service)
        check_name(method)
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def checked_time(text: str | None) -> str | None:
    """Return a length of time as given; `click.UsageError` if it is none."""
    try:
        if text is not None:
            seconds(text)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    return text


def _event_data(texts: tuple[str, ...]) -> Any:
    if not texts:
        return None
    if len(texts) == 1 and not re.match(r"[^\W\d]\w*:?=", texts[0]):
        return json_of(texts[0], "DATA", "a text is written as '\"text\"', a field as name=value")
    positional, named = parse(texts)
    if positional:
        raise click.UsageError("DATA is one JSON value, or name=value pairs")
    return {name: unfitted(value) for name, value in named.items()}


def _with_place(error: Unavailable, settings: Settings) -> Unavailable:
    """Return the error, and where was looked if nothing at all runs there."""
    if not error.message.endswith("No service is running."):
        return error
    told = error.message.removesuffix("No service is running.")
    return Unavailable(f"{told}No service is running {looked_at(settings)}. {start_one()}")
