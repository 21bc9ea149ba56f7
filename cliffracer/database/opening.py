"""Opening the pool of a server: the first connection shows whether it is there, and is waited for."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from time import monotonic

from cliffracer.database.away import is_away, reason, unreached
from cliffracer.database.link import Link
from cliffracer.database.options import Options
from cliffracer.database.pool import Pool
from cliffracer.errors import Unavailable

STANDBYS = frozenset({"read-only", "standby", "prefer-standby"})
"""Values of libpq's ``target_session_attrs`` for who does without changes."""

log = logging.getLogger("cliffracer.database")


@asynccontextmanager
async def opened(url: str, options: Options, name: str, wait: float) -> AsyncGenerator[Pool, None]:
    """Give the pool of one server while the block runs; one that is not there is waited for up to ``wait`` seconds."""
    from cliffracer.database import postgres, session  # noqa: PLC0415 - not needed to declare a Model

    async def connect() -> Link:
        return await postgres.open_link(url, name)

    given = session.parsed(url)
    place = session.place_of(given)
    first = await _first(connect, place, wait, options.cure)
    pool = Pool(connect, smallest=options.smallest, largest=options.largest, patience=options.patience, name=place)
    pool.standby = given.get("target_session_attrs") in STANDBYS
    await pool.open(first)
    try:
        yield pool
    finally:
        await pool.close()


async def _first(connect: Callable[[], Awaitable[Link]], place: str, wait: float, cure: str) -> Link:
    end, pause, told = monotonic() + wait, 0.05, False
    while True:
        try:
            link = await connect()
        except Exception as error:  # whatever the library calls it that the server is away; all else is raised
            if not is_away(error):
                raise
            trouble = error
        else:
            return link
        left = end - monotonic()
        if left <= 0:
            raise Unavailable(unreached(place, trouble, cure)) from trouble
        if not told:
            told = True
            log.warning("PostgreSQL at %s is not there yet (%s); waiting up to %g s", place, reason(trouble), wait)
        await asyncio.sleep(min(pause, left))
        pause = min(pause * 2, 1.0)
