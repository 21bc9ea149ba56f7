"""How commands reach NATS: the settings' server or the embedded one of this folder, without waiting long for it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from typing import TypeVar

import click
from loguru import logger

from cliffracer import embedded
from cliffracer.cli.loading import start_one
from cliffracer.cli.output import printable
from cliffracer.client import AsyncClient, connect_async, place_of
from cliffracer.errors import Forbidden, Unavailable
from cliffracer.observability import logs
from cliffracer.settings import Settings
from cliffracer.wire.headers import checked_token

T = TypeVar("T")
_PATIENCE = 1.0  # seconds: who types a command wants to be told soon
_CONNECTING = "cliffracer.messaging.transport.link"


def reach_settings(url: str | None = None, *, quiet: bool = True) -> Settings:
    """Return the settings of a command that talks to services, at another NATS if given; SetupError in production without NATS_URL.

    ``quiet`` logs warnings and worse only, unless a level is set.
    """
    settings = Settings.load(nats_url=url)
    settings.require_servers(nats=True)
    if quiet and not settings.given("log_level"):
        settings = settings.changed(log_level="WARNING")
    logs.configure(settings)
    return soon(settings)


def soon(settings: Settings) -> Settings:
    """Return settings with which servers that are not there are not waited for as a service waits for them, unless that is set."""
    return settings if settings.given("wait") else settings.changed(wait=_PATIENCE)


@asynccontextmanager
async def reached(
    settings: Settings | None = None, *, timeout: float | str | None = None, token: str | None = None, starts: bool = False
) -> AsyncIterator[AsyncClient]:
    """Connect while the block runs; ``token`` is the identity that calls have.

    Unless it ``starts`` them, there is nothing to be looked at where no embedded servers ever were: `Unavailable` says so.
    """
    try:
        checked_token(token)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    given = settings or reach_settings()
    if not starts and never_ran(given):
        raise Unavailable(f"No service is running {looked_at(given)}. {start_one()}")
    logger.disable(_CONNECTING)  # what it would say, the error says that follows
    try:
        async with connect_async(settings=given, timeout=timeout, token=token) as client:
            logger.enable(_CONNECTING)
            yield client
    finally:
        logger.enable(_CONNECTING)


async def looked(settings: Settings, ask: Callable[[AsyncClient], Awaitable[T]], nothing: T) -> T:
    """Return what ``ask`` finds; ``nothing`` where nothing ever ran, and no server is started to find that."""
    if never_ran(settings):
        return nothing
    async with reached(settings) as client:
        return await ask(client)


def never_ran(settings: Settings) -> bool:
    """Say whether services would be on an embedded server that was never started."""
    return settings.nats_url is None and not embedded.known("nats")


def permitted(client: AsyncClient, *asked: str) -> None:
    """Raise `Forbidden` where NATS did not permit what was ``asked`` of it, or to hear answers: what was found is not all then."""
    for refusal in sorted(client.link.bus.refusals):
        if any(sign in refusal for sign in (*asked, 'Subscription to "_INBOX')):
            cure = "allow it to the user of these settings, or take another one"
            raise Forbidden(f"NATS does not permit that ({printable(refusal)}); {cure}.")


def looked_at(settings: Settings) -> str:
    """Return where services were looked for: ``on nats://host:4222 (NATS_URL, .env line 3)``."""
    if never_ran(settings):
        return f"here: nothing has run in {embedded.locate(None).parent} yet"
    return place_of(settings)


def nothing_at(settings: Settings, nothing: str) -> str:
    """Return what is said where nothing was found: also that nothing ever ran, which may be another folder's."""
    return f"{nothing} {looked_at(settings)}." if never_ran(settings) else f"{nothing}."


def with_servers(settings: Settings, stack: ExitStack, *, nats: bool = True, database: bool = False) -> Settings:
    """Return the settings with embedded servers, which the stack ends, in place of those that are not set."""
    nats, postgres = nats and settings.nats_url is None, database and not settings.databases
    if not nats and not postgres:
        return settings
    urls = stack.enter_context(embedded.servers(nats=nats, database=postgres))
    found = {"nats_url": urls.nats_url, "database_url": urls.database_url}
    return settings.changed("embedded", **{name: url for name, url in found.items() if url is not None})
