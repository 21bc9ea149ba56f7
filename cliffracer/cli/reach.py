"""How commands reach NATS: the settings' server or the embedded one of this folder, without waiting long for it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import click

from cliffracer import embedded
from cliffracer.client import AsyncClient, connect_async
from cliffracer.settings import Settings
from cliffracer.wire.headers import checked_token

_PATIENCE = 2.0  # seconds: who types a command wants to be told soon


def reach_settings() -> Settings:
    """Return the settings of a command that talks to services; SetupError in production without NATS_URL."""
    settings = Settings.load()
    settings.require_servers(nats=True)
    return settings if settings.given("wait") else settings.changed(wait=_PATIENCE)


@asynccontextmanager
async def reached(
    settings: Settings | None = None, *, timeout: float | str | None = None, token: str | None = None
) -> AsyncIterator[AsyncClient]:
    """Connect while the block runs."""
    try:
        checked_token(token)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    async with connect_async(settings=settings or reach_settings(), timeout=timeout, token=token) as client:
        yield client


def looked_at(settings: Settings) -> str:
    """Return where services were looked for: ``on nats://host:4222 (NATS_URL, .env line 3)``."""
    if settings.nats_url is None:
        return f"on the embedded NATS of {embedded.locate(None)}"
    origin = settings.origin("nats_url")
    shown = next(s.value for s in settings.sources() if s.name == "nats_url")
    return f"on {shown} ({origin.key or 'nats_url'}, {origin.place})"
