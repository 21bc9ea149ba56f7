"""The connection of one app to NATS.

    bus = await connect(settings, name="user_service")
    subscription = await bus.subscribe("user_service.get_user", receive, queue="user_service")
    reply = await bus.request(b"payment_service.charge", b"{}", timeout=2.0)
    bus.publish(b"events.user.created", b"{}")
    await bus.close()

Two implementations behave alike: ``fast`` (the default) takes over the socket once nats-py has connected and authenticated,
``stock`` leaves it to nats-py.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from loguru import logger

from cliffracer.errors import SetupError, Unavailable
from cliffracer.messaging.transport.dial import Dialer
from cliffracer.messaging.transport.fast import FastBus
from cliffracer.messaging.transport.interface import Bus, Inbox, Receive, Reply, Subscription, closed, is_closed
from cliffracer.messaging.transport.link import Unfit
from cliffracer.messaging.transport.reconnecting import ReconnectingBus, check_inbox_prefix
from cliffracer.settings import cures

__all__ = ["Bus", "Inbox", "Receive", "Reply", "Subscription", "closed", "connect", "is_closed", "publish"]

CURE = "start one there, or set NATS_URL; without NATS_URL an embedded server is used in development."


async def connect(
    settings: Any,
    *,
    name: str,
    on_lost: Callable[[str], None] = lambda _: None,
    on_back: Callable[[float], None] = lambda _: None,
    on_wait: Callable[[str], None] = logger.warning,
    inbox_prefix: str = "_INBOX",
    cure: str | None = None,
    refresh: Callable[[], Any] | None = None,
    ping: float = 5.0,
) -> Bus:
    """Connect to the first of the settings' NATS servers that answers, and stay connected until `Bus.close`.

    ``on_lost(reason)`` and ``on_back(seconds)`` tell of outages, which are logged here; ``on_wait(line)`` once if a server is not
    there yet. ``refresh`` returns newly read settings before each reconnect, so that a rotated password is used. ``cure`` ends the
    message of the error that is raised when no server answers within ``settings.wait`` seconds; by default where the URL comes from.

    Raises `Unavailable` when no server answers, `SetupError` at once when one refuses the credentials or a setting cannot work.
    """
    if settings.nats_transport not in ("fast", "stock"):
        raise SetupError(f"NATS_TRANSPORT is {settings.nats_transport!r}: it can be fast or stock.")
    dialer = Dialer(refresh or (lambda: settings), name, ping)

    async def opened(kind: type[ReconnectingBus]) -> ReconnectingBus:
        bus = kind(dialer, name, check_inbox_prefix(inbox_prefix), on_lost=on_lost, on_back=on_back)
        bus.replicas = getattr(settings, "nats_replicas", Bus.replicas)  # callers such as benchmarks may pass less than all settings
        bus.largest = getattr(settings, "nats_max_message", Bus.largest)
        try:
            await bus.link.open(settings.wait, cure or cure_of(settings), on_wait)
        except GeneratorExit:  # its loop is gone, as when a process ends: nothing can be awaited any more
            raise
        except BaseException:  # refused, or cancelled while it waited: no socket is left behind
            await asyncio.shield(bus.close())
            raise
        return bus

    if settings.nats_transport == "stock":
        return await opened(_stock())
    try:
        return await opened(FastBus)
    except Unfit as error:
        logger.warning("NATS transport stock is used instead of fast: {reason}", reason=error)
        return await opened(_stock())


def _stock() -> type[ReconnectingBus]:
    from cliffracer.messaging.transport.stock import StockBus  # noqa: PLC0415 - only who chooses it, or has to use it, pays for importing it

    return StockBus


async def publish(bus: Bus, subject: bytes, payload: bytes, block: bytes | None, *, within: float) -> None:
    """Publish; while the buffer is full, wait until NATS has taken some. `Unavailable` at once if NATS is away."""
    try:
        bus.publish(subject, payload, block)
    except Unavailable as error:
        if error.details.get("reason") != "full" or not bus.connected:
            raise
        await bus.ready(time.monotonic() + within)
        bus.publish(subject, payload, block)


def without_streams(bus: Bus) -> str:
    """Say that the server keeps no streams, and where it is; empty where it does, or is away."""
    if not bus.connected or bus.info.get("jetstream", False):
        return ""
    return f"JetStream is not enabled on {bus.info.get('host', 'the server')}:{bus.info.get('port', '')}"


def cure_of(settings: Any) -> str:
    """Return what to do about a server that does not answer: where its URL comes from, and what there is instead."""
    if hasattr(settings, "origin") and settings.origin("nats_url").place == "argument":
        return "start one there, or give the address of another."
    return cures.cure_of(settings, "nats_url", CURE)
