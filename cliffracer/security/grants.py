"""A service's own token from an issuer, by client credentials (RFC 6749, 4.4), renewed in time."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from loguru import logger

from cliffracer.errors import ServiceError
from cliffracer.security.oauth import OAuth

_FIRST = 5.0  # seconds that a start waits for it
_AGAIN = (1.0, 5.0, 30.0, 60.0)  # seconds to the next try, after so many failures
_UNSTATED = 300.0
_SHARE = 0.6  # of its life after which a token is replaced: a message that carries it may wait in a stream


class Grant:
    """The token that a service's own calls and events carry; while the issuer is away, the last one is kept as long as it is good."""

    def __init__(self, oauth: OAuth, audience: str | None) -> None:
        self._oauth = oauth
        self._audience = audience
        self._token: str | None = None
        self._ends = 0.0

    @property
    def token(self) -> str | None:
        """The current token; None while there is none."""
        return self._token if time.monotonic() < self._ends else None

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Renew the token while the block runs; the start waits some seconds for the first one, then goes on without."""
        got = asyncio.Event()
        task = asyncio.create_task(self._keep(got), name="client credentials")
        try:
            try:
                async with asyncio.timeout(_FIRST):
                    await got.wait()
            except TimeoutError:
                logger.warning("the issuer gave no token to this service yet: its own calls go out without one")
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def _keep(self, got: asyncio.Event) -> None:
        failures = 0
        while True:
            try:
                wait = await self._ask()
            except ServiceError as error:
                logger.warning("this service gets no token of its own: {}", error.message)
                await asyncio.sleep(_AGAIN[min(failures, len(_AGAIN) - 1)])
                failures += 1
            else:
                got.set()
                failures = 0
                await asyncio.sleep(wait)

    async def _ask(self) -> float:
        """Take a new token; return the seconds until the next is due."""
        more = {} if self._audience is None else {"audience": self._audience}  # some issuers ask for it, all others ignore it
        found = await self._oauth.own(**more)
        stated = found.get("expires_in")
        lasts = float(stated) if isinstance(stated, int | float) and 0 < stated < 10**9 else _UNSTATED
        self._token, self._ends = found["access_token"], time.monotonic() + lasts
        return max(1.0, lasts * _SHARE)
