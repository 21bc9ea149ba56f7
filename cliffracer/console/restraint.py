"""Whether the console may act, or only look: in production it acts when it was told to, and not otherwise."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cliffracer.console.lookout import Lookout
from cliffracer.errors import CliffracerError

PRODUCTION = "production"
_MOST = 3  # services that are named
_PATIENCE = 1.5  # seconds for the last to answer, at the beginning


class Restraint:
    """Why the console only reads. What counts is where the services run, wherever the console does.

    ``acts`` is what somebody asked for: to act in production as well, or nowhere. Once a service of production was seen it
    stays in mind until the console ends: when all of them are down is no time to act by mistake.
    """

    def __init__(self, lookout: Lookout, env: str, acts: bool | None = None) -> None:
        self._lookout = lookout
        self._env = env
        self._acts = acts
        self._seen: dict[str, None] = {}
        self._first: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def looking(self) -> AsyncIterator[None]:
        """Ask around with patience as the block begins, so that nothing is done before those have answered who are slow."""
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
        """Return why nothing may be changed, or an empty text; `Unavailable` if nobody can be asked."""
        if self._acts is None and self._env != PRODUCTION:
            if self._first is not None:
                await asyncio.wait([self._first])
            self._seen.update(dict.fromkeys(await self._lookout.names_in(PRODUCTION)))
        return self.known()

    def known(self) -> str:
        """Return the same, of what was seen so far."""
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
        """Return the same for showing: where nobody can be asked now, what was seen so far."""
        with contextlib.suppress(CliffracerError):
            if self._acts is None and self._env != PRODUCTION:
                self._seen.update(dict.fromkeys(await self._lookout.names_in(PRODUCTION)))
        return self.known()

    async def _look(self) -> None:
        with contextlib.suppress(CliffracerError):  # whoever acts is asked again, and told
            self._seen.update(dict.fromkeys(await self._lookout.names_in(PRODUCTION, patience=_PATIENCE)))
