"""API keys in PostgreSQL: issued once, kept as hashes, exchanged for an identity and a token that lives for minutes.

A key is ``cr_<id>_<secret><checksum>``. The secret has 256 random bits, so that a plain SHA-256 of it tells nothing; the checksum
refuses what was mistyped or guessed before the database is asked.
"""

import asyncio
import hashlib
import re
import secrets
import time
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime, timedelta
from importlib import resources
from typing import Any
from weakref import WeakValueDictionary

import msgspec

from cliffracer.declarations import names_of
from cliffracer.durations import seconds
from cliffracer.errors import NotFound, Overloaded, SetupError
from cliffracer.security.authority import Authority
from cliffracer.security.completion import runs_to_completion
from cliffracer.security.credentials import API_KEY
from cliffracer.security.identity import Identity
from cliffracer.security.tokens import MAX_LIFE, RefusedToken

LIFE = 300.0
"""Seconds that the token of a key lives: other services verify it without the key."""
FRESH = 60.0
"""Seconds after which the database is asked again; a revoked key is refused at once everywhere all the same."""
REMEMBERED = 4096
STRANGE = 50
"""Unknown keys, in one second, for which the database is asked: guesses must not keep it busy."""
AT_ONCE = 10
"""Lookups of keys not seen before that run at the same time; after a restart the clients wait their turn."""
_SHAPE = re.compile(r"cr_([0-9a-f]{16})_([0-9a-f]{64})([0-9a-f]{8})")
_NEVER = 253_402_300_799.0  # the end of year 9999
_LOCK = 0x636C696B  # advisory lock: two replicas that make the table at once would collide
_SHOWN = "id, name, subject, roles, permissions, created_at, expires_at, last_used_at, revoked_at"


class ApiKey(msgspec.Struct, frozen=True):
    """A key as it is stored, without its secret."""

    id: str
    name: str
    subject: str
    roles: list[str]
    permissions: list[str]
    created_at: datetime
    expires_at: datetime | None = None
    last_used_at: datetime | None = None
    """To within a minute."""
    revoked_at: datetime | None = None


async def make_table(db: Any, *, create: bool) -> None:
    """Create the table if it does not exist; without ``create``, as in production, `SetupError` says how to."""
    if await db.fetch_value("SELECT to_regclass('cliffracer_api_keys') IS NOT NULL"):
        return
    if not create:
        raise SetupError("The table of API keys is not there, and production makes none by itself. Make it by: cliffracer keys ls")
    text = resources.files("cliffracer.security").joinpath("apikeys.sql").read_text(encoding="utf-8")
    async with db.transaction():
        await db.fetch("SELECT pg_advisory_xact_lock(%s)", _LOCK)
        await db.execute(text)


class Keyring:
    """The keys in a database. ``db`` is the open database."""

    def __init__(self, db: Any, authority: Authority) -> None:
        self._db = db
        self._authority = authority
        self._known: dict[str, tuple[Identity, float]] = {}
        self._tokens: dict[str, tuple[Identity, str, float]] = {}
        self._asking: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._strange: deque[float] = deque(maxlen=STRANGE)
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def issue(
        self,
        name: str,
        *,
        subject: str = "",
        roles: str | Iterable[str] = (),
        permissions: str | Iterable[str] = (),
        ttl: float | str | timedelta | None = None,
    ) -> tuple[str, ApiKey]:
        """Return a new key, which is shown now and never again, and what is kept of it; ``subject`` is ``key:<name>`` if not given.

        ``ttl`` is how long it is good: seconds, or as ``"90d"``; None for as long as nobody revokes it. ValueError for a key that would
        be good for no time or for more than a hundred years, or if no token could be made from it for calls to other services.
        """
        lasting = None if ttl is None else _life(ttl)
        if lasting == 0:
            raise ValueError(f"{ttl!r} leaves the key no time: give more than 0, or leave it out")
        text, id, hashed = _new()  # noqa: A001 - its word
        claims = {"sid": _session(id, hashed), "key": id, "exp": _NEVER}
        made = Identity(subject or f"key:{name}", names_of(roles), names_of(permissions), claims)
        self.onward(made)  # else whoever shows it would learn it
        row = await self._db.fetch_one(
            "INSERT INTO cliffracer_api_keys (id, name, subject, roles, permissions, hash, expires_at) "  # noqa: S608 - a constant
            f"VALUES (%s, %s, %s, %s, %s, %s, now() + make_interval(secs => %s)) RETURNING {_SHOWN}",
            id, name, made.subject, list(made.roles), list(made.permissions), hashed, lasting,
        )  # fmt: skip
        return text, msgspec.convert(row, ApiKey)

    async def all(self) -> list[ApiKey]:
        """Return all keys, the newest first."""
        rows = await self._db.fetch(f"SELECT {_SHOWN} FROM cliffracer_api_keys ORDER BY created_at DESC, id")  # noqa: S608 - a constant
        return msgspec.convert(rows, list[ApiKey])

    @runs_to_completion("a rotation of an API key")
    async def rotate(self, id: str, *, overlap: float | str | timedelta = 0.0) -> str:
        """Return a new secret for a key, shown once; the old one, and tokens made from it, are refused everywhere ``overlap`` later.

        ``overlap`` is in seconds, or as ``"1h"``; ValueError for more than a hundred years. `NotFound` if there is no such key, or it is
        revoked. If other processes cannot be told (`Unavailable`), nothing is changed.
        """
        text, _, hashed = _new(id)
        both = _life(overlap)
        async with self._db.transaction():  # locked before it is read: the second of two replaces what the first made
            old = await self._db.fetch_one(
                "WITH o AS (SELECT id, hash, previous FROM cliffracer_api_keys WHERE id = %s AND revoked_at IS NULL FOR UPDATE) "
                "UPDATE cliffracer_api_keys k SET hash = %s, previous = o.hash, previous_until = now() + make_interval(secs => %s) "
                "FROM o WHERE o.id = k.id RETURNING o.hash, o.previous, extract(epoch FROM k.previous_until)::float AS ends",
                id, hashed, both,
            )  # fmt: skip
            if old is None:
                raise NotFound(f"there is no key {id}, or it is revoked")
            await self._end(id, old["previous"])
            await self._end(id, old["hash"], since=old["ends"] if both > 0 else None)
        return text

    @runs_to_completion("a revocation of an API key")
    async def revoke(self, id: str) -> None:
        """Refuse a key everywhere from now on; `NotFound` if there is none."""
        row = await self._db.fetch_one(
            "UPDATE cliffracer_api_keys SET revoked_at = coalesce(revoked_at, now()) WHERE id = %s RETURNING hash, previous", id
        )
        if row is None:
            raise NotFound(f"there is no key {id}")
        for one in (row["hash"], row["previous"]):
            await self._end(id, one)

    async def exchange(self, text: str) -> Identity:
        """Return whose key this is; `RefusedToken` for one that is not good, `Overloaded` where there are too many unknown ones."""
        now = time.time()
        hashed = _hash_of(text)
        if hashed is None:
            raise RefusedToken("no API key")
        found = self._known.get(hashed)
        if found is None or found[1] <= now:
            lock = self._asking.setdefault(hashed, asyncio.Lock())
            async with lock:  # one lookup for all callers that show it at once
                found = self._known.get(hashed)
                if found is None:
                    found = await self._first(_id_of(text), hashed)
                elif found[1] <= now:
                    found = await self._fetch(_id_of(text), hashed, now)
        if self._authority.revocations.holds(found[0].claims):
            raise RefusedToken("revoked")
        return found[0]

    def onward(self, identity: Identity) -> str | None:
        """Return a token for calls to other services, which do not know the key; None if none can be signed here."""
        if not self._authority.signs:
            return None
        now, claims = time.time(), identity.claims
        known = self._tokens.get(claims["sid"])
        if known is not None and known[0] is identity and known[2] > now:
            return known[1]
        ends = min(now + LIFE, claims["exp"])
        named = {"sid": claims["sid"], "key": claims["key"]}
        token = self._authority.tokens.issue(
            identity.subject, ttl=ends - now, roles=identity.roles, permissions=identity.permissions, claims=named
        )
        _make_room(self._tokens)
        self._tokens[claims["sid"]] = (identity, token, min(now + LIFE / 2, ends))
        return token

    async def _first(self, id: str, hashed: str) -> tuple[Identity, float]:
        """Look up a key that was not seen before, unless there were too many unknown ones."""
        async with self._turns:
            now = time.time()
            if len(self._strange) == STRANGE and now - self._strange[0] < 1.0:
                raise Overloaded("too many keys that nobody knows come now", retry_after=1.0)
            self._strange.append(now)
            strange = False
            try:
                return await self._fetch(id, hashed, now)
            except RefusedToken:
                strange = True
                raise
            finally:
                if not strange:
                    with suppress(ValueError):  # others have come since
                        self._strange.remove(now)

    async def _fetch(self, id: str, hashed: str, now: float) -> tuple[Identity, float]:
        """Look up a key in the database, and record that it was used."""
        row = await self._db.fetch_one(
            "UPDATE cliffracer_api_keys SET last_used_at = now() WHERE id = %s AND revoked_at IS NULL "
            "AND (expires_at IS NULL OR expires_at > now()) AND (hash = %s OR (previous = %s AND previous_until > now())) "
            "RETURNING subject, roles, permissions, least("
            "extract(epoch FROM expires_at), CASE WHEN hash <> %s THEN extract(epoch FROM previous_until) END)::float AS until",
            id, hashed, hashed, hashed,
        )  # fmt: skip
        if row is None:
            self._known.pop(hashed, None)
            raise RefusedToken("an API key that is not good")
        claims = {"sub": row["subject"], "iat": now, "exp": row["until"] or _NEVER, "sid": _session(id, hashed), "key": id}
        identity = Identity(row["subject"], tuple(row["roles"]), tuple(row["permissions"]), claims)
        _make_room(self._known)
        found = self._known[hashed] = (identity, min(now + FRESH, claims["exp"]))
        return found

    async def _end(self, id: str, hashed: str | None, since: float | None = None) -> None:
        if hashed is not None:
            self._known.pop(hashed, None)
            await self._authority.revoke(_session(id, hashed), (since or time.time()) + LIFE + 60, since=since)


def _life(given: float | str | timedelta) -> float:
    """Return a length of time in seconds; ValueError for one whose end the database or Python could not write down."""
    if (found := seconds(given)) > MAX_LIFE:
        raise ValueError(f"{given!r} is too long: an API key is good for a hundred years at most")
    return found


def _make_room(known: dict[str, Any]) -> None:
    while len(known) >= REMEMBERED:
        del known[next(iter(known))]  # the oldest


def _new(id: str | None = None) -> tuple[str, str, str]:
    """Return (key, id, hash)."""
    name, secret = id or secrets.token_hex(8), secrets.token_hex(32)
    head = f"{API_KEY}{name}_{secret}"
    return f"{head}{_checksum(head)}", name, _digest(secret)


def _hash_of(text: str) -> str | None:
    found = _SHAPE.fullmatch(text)
    return _digest(found[2]) if found is not None and _checksum(text[:-8]) == found[3] else None


def _id_of(text: str) -> str:
    return text[len(API_KEY) : len(API_KEY) + 16]


def _session(id: str, hashed: str) -> str:
    """Return the session id of tokens made from this secret; a rotated key has another one."""
    return f"key:{id}:{hashed[:16]}"


def _checksum(head: str) -> str:
    return hashlib.sha256(b"cliffracer key " + head.encode()).hexdigest()[:8]


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
