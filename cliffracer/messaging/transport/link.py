"""Keeping one connection alive: the first connect, what is said of an outage, and the way back, for ever."""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from typing import Any

import nats.errors
from loguru import logger

from cliffracer.errors import CliffracerError, SetupError, Unavailable
from cliffracer.messaging.transport.dial import Dialer, Refused, reason
from cliffracer.messaging.transport.guard import GuardedClient

_FIRST_PAUSE = 0.05  # seconds; doubles
_LONGEST_PAUSE = 2.0
_STABLE = 5.0  # seconds of connection after which the pauses begin anew
_chance = secrets.SystemRandom()


class Unfit(CliffracerError):
    """The installed nats-py is not built as a transport needs it."""


Attach = Callable[[GuardedClient], Awaitable[None]]


class Link:
    """Holds the present client. ``attach`` puts it to use, ``detach`` takes it out of use."""

    def __init__(
        self,
        dialer: Dialer,
        attach: Attach,
        detach: Callable[[], None],
        *,
        confirm: Callable[[], Awaitable[None]],
        on_lost: Callable[[str], None],
        on_back: Callable[[float], None],
    ) -> None:
        self.client: GuardedClient | None = None
        """In use, and perhaps not confirmed yet."""
        self.connected = False
        self._dialer = dialer
        self._attach = attach
        self._detach = detach
        self._confirm = confirm
        self._on_lost = on_lost
        self._on_back = on_back
        self._redialing: asyncio.Task[None] | None = None
        self._attempting = False
        self._pause = _FIRST_PAUSE
        self._back_at = 0.0
        self._closed = False
        self._variables = copy_context()  # for every connection: what it receives is handled among them

    async def open(self, wait: float, cure: str, on_wait: Callable[[str], None]) -> None:
        """Connect for the first time, within ``wait`` seconds; one line through ``on_wait`` if that takes more than one try."""
        until = time.monotonic() + wait
        told = False
        while True:
            try:
                await self._connect()
            except Refused as error:
                raise SetupError(f"NATS at {self._dialer.label} refuses us ({error}); check the NATS_ settings.") from error
            except (SetupError, Unfit):
                raise
            except Exception as error:  # whatever it is, it may pass
                failure = f"Cannot reach NATS at {self._dialer.label} ({reason(error)})"
                left = until - time.monotonic()
                if left <= 0:
                    raise Unavailable(f"{failure}; {cure}", reason="away") from error
                if not told:
                    told = True
                    on_wait(f"{failure}; trying for another {left:.0f} s.")
                await asyncio.sleep(min(left, self._next_pause()))
            else:
                return

    async def close(self) -> GuardedClient | None:
        """Stop: no connection is made any more. Returns the client that is still open, for its owner to close."""
        self._closed = True
        while self._redialing is not None and not self._redialing.done():
            self._redialing.cancel()
            await asyncio.wait([self._redialing], timeout=0.1)  # again and again: nats-py may swallow a cancellation
        client, self.client, self.connected = self.client, None, False
        return client

    async def _connect(self) -> None:
        """Make one round of attempts; the connection counts when it has survived a round trip."""
        client = await self._dialer.dial(self._lost)
        client.leaving = lambda: self._leaving(client)
        client.discovered = lambda servers: self._dialer.discover(client, servers)
        self._attempting = True
        try:
            await self._attach(client)
            self.client = client
            await self._confirm()
        except BaseException:  # failed or cancelled: not one socket is left behind
            self._abandon(client)
            raise
        finally:
            self._attempting = False
        if client.over or self._closed:  # accepted and ended at once, as with a token that expires now
            self._abandon(client)
            raise self._dialer.told(nats.errors.Error(client.why), client.address)
        self.connected = True
        self._back_at = time.monotonic()

    def _abandon(self, client: GuardedClient) -> None:
        self.client = None
        self._detach()
        client.abort()

    def _lost(self, client: GuardedClient, why: str) -> None:
        """Take note that a client's connection is over, and begin to make another one."""
        if client is not self.client or self._closed:
            return
        self.client = None
        self.connected = False
        self._detach()
        client.abort()
        if self._attempting:  # whoever attempts it sees that it is over
            return
        logger.warning("NATS connection lost: {reason}", reason=why, server=self._dialer.label)
        _tell(self._on_lost, why)
        if time.monotonic() - self._back_at > _STABLE:
            self._pause = _FIRST_PAUSE
        # whoever has found out, by writing, may be a call: its variables are not for all that come over the next connection
        redial = self._redial(client, time.monotonic())
        self._redialing = asyncio.get_running_loop().create_task(redial, context=self._variables)

    def _leaving(self, client: GuardedClient) -> None:
        """Take note that this server announced its end: the next dial tries the others first."""
        logger.info("NATS server {server} is about to go away", server=self._dialer.label)
        self._dialer.leave(client)

    async def _redial(self, old: GuardedClient, since: float) -> None:
        await old.bury()
        refused = False
        while not self._closed:
            await asyncio.sleep(self._next_pause())
            try:
                await self._connect()
            except Refused as error:  # a password or token may be under rotation
                if not refused:
                    refused = True
                    logger.error("NATS refuses us: {reason}; still trying", reason=str(error))
            except Exception as error:  # noqa: BLE001 - nothing that goes wrong here may end the attempts
                logger.debug("NATS is still away: {reason}", reason=reason(error))
            else:
                self._returned(since)
                return

    def _returned(self, since: float) -> None:
        after = time.monotonic() - since
        logger.info("NATS connection is back after {seconds} s", seconds=round(after, 2), server=self._dialer.label)
        _tell(self._on_back, after)

    def _next_pause(self) -> float:
        """Return how long to wait now: irregular, because a whole fleet comes back at once; longer each time."""
        pause, self._pause = self._pause, min(2 * self._pause, _LONGEST_PAUSE)
        return _chance.uniform(pause / 2, pause)


def _tell(listener: Callable[[Any], None], value: Any) -> None:
    try:
        listener(value)
    except Exception as error:  # noqa: BLE001 - a listener of the app must not end the reconnection
        logger.opt(exception=error).error("a listener of the NATS connection failed")
