"""Whether the console is read-only: in production it is, unless it was told otherwise."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cliffracer.console.catalog import Catalog
from cliffracer.errors import CliffracerError

PRODUCTION = "production"
_MOST = 3  # services that are named
_PATIENCE = 1.5  # seconds for the last to answer, at the beginning


class ReadOnly:
    """Why the console is read-only. What counts is the environment of the services, not that of the console.

    ``acts`` is what the command line asked for: True to write in production too, False never to write. A production service that was
    seen once counts until the console ends: a moment when all of them are down is no time to write by mistake.
    """

    def __init__(self, catalog: Catalog, env: str, acts: bool | None = None) -> None:
        self._catalog = catalog
        self._env = env
        self._acts = acts
        self._seen: dict[str, None] = {}
        self._first: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def looking(self) -> AsyncIterator[None]:
        """Ask once with a longer patience as the block begins, so that nothing is written before slow services have answered."""
        if self._acts is not None or self._env == PRODUCTION:
            yield
            return
        self._first = asyncio.create_task(self._look(), name="console: who is in production")
        try:
            yield
        finally:
            self._first.cancel()
            await asyncio.wait([self._first])

    async def reason(self) -> str:
        """Return why nothing may be written, or an empty text; asks again first. `Unavailable` if nobody can be asked."""
        if self._acts is None and self._env != PRODUCTION:
            if self._first is not None:
                await asyncio.wait([self._first])
            self._seen.update(dict.fromkeys(await self._catalog.names_in(PRODUCTION)))
        return self.known()

    def known(self) -> str:
        """Return the reason as far as it is known, without asking."""
        if self._acts is not None:
            return "" if self._acts else "it was started with --read-only"
        if self._env == PRODUCTION:
            return "CLIFFRACER_ENV is production; --write lets it act"
        if not self._seen:
            return ""
        names = [*self._seen]
        more = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
        return f"it is production for {', '.join(names[:_MOST])}{more}; --write lets it act"

    async def guess(self) -> str:
        """Return the reason for display: as `reason`, but without an error where nobody can be asked."""
        with contextlib.suppress(CliffracerError):
            if self._acts is None and self._env != PRODUCTION:
                self._seen.update(dict.fromkeys(await self._catalog.names_in(PRODUCTION)))
        return self.known()

    async def _look(self) -> None:
        with contextlib.suppress(CliffracerError):  # `reason` asks again, and raises
            self._seen.update(dict.fromkeys(await self._catalog.names_in(PRODUCTION, patience=_PATIENCE)))
