"""Attempts to sign in, counted in PostgreSQL for all replicas."""

import hashlib
import secrets
from typing import Any

from cliffracer.errors import Overloaded

WINDOW = 300
"""Seconds in which so many attempts to sign in are allowed: of one account, and from one address."""
PER_ACCOUNT, PER_ADDRESS, PER_RESET = 10, 100, 3
_SWEEP = 200
"""Attempts between two removals of old ones, on average."""


class Attempts:
    """The attempts of the last minutes. ``db`` is the open database."""

    def __init__(self, db: Any) -> None:
        self._db = db

    async def count(self, key: str, most: int) -> None:
        """Count an attempt; `Overloaded` over the limit."""
        row = await self._db.fetch_one(
            "INSERT INTO cliffracer_attempts AS a (key) VALUES (%s) ON CONFLICT (key) DO UPDATE SET "
            "tried = CASE WHEN a.began_at < now() - make_interval(secs => %s) THEN 1 ELSE a.tried + 1 END, "
            "began_at = CASE WHEN a.began_at < now() - make_interval(secs => %s) THEN now() ELSE a.began_at END "
            "RETURNING tried, extract(epoch FROM began_at + make_interval(secs => %s) - now())::float AS wait",
            digest(key), WINDOW, WINDOW, WINDOW,
        )  # fmt: skip
        if secrets.randbelow(_SWEEP) == 0:  # strangers can try any name, so old attempts must not pile up
            await self._db.execute("DELETE FROM cliffracer_attempts WHERE began_at < now() - make_interval(secs => %s)", WINDOW)
        if row["tried"] > most:
            raise Overloaded("too many attempts", retry_after=max(1.0, row["wait"]))

    async def forget(self, key: str) -> None:
        """Reset the count after a successful sign-in."""
        await self._db.execute("DELETE FROM cliffracer_attempts WHERE key = %s", digest(key))


def digest(key: str) -> str:
    """Return a digest under which a name or a hash is kept where it need not be read."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
