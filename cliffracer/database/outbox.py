"""Events that are emitted exactly when their transaction commits: stored by it, published after it (see `relay`).

The inbox is the other end: an event has its effect once if its mark in the inbox is part of the same transaction.
"""

# ruff: noqa: S608 - these texts are made of constants

import logging
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Protocol

import msgspec

from cliffracer.database.link import Params, Statement
from cliffracer.database.queries import Queries
from cliffracer.errors import Unavailable

log = logging.getLogger("cliffracer.database")

CHANNEL = "cliffracer_outbox"
_COLUMNS = "(message_id, subject, key, headers, payload)"
_STORE = f"INSERT INTO cliffracer_outbox {_COLUMNS} VALUES (%s, %s, %s, %s, %s)"
_TURN = "turn AS MATERIALIZED (SELECT pg_advisory_xact_lock(hashtextextended(%s, 0)))"
"""Transactions that emit for the same key take turns until they commit, so that the order of ids is the order of commits."""
_STORE_IN_TURN = f"INSERT INTO cliffracer_outbox {_COLUMNS} SELECT %s, %s, %s, %s::jsonb, %s FROM turn"
TELL = "SELECT pg_notify('cliffracer_outbox', '')"
"""PostgreSQL commits transactions that notify one after the other, each waiting for the disk: too slow to do for each event."""
ADD = {
    (False, False): Statement(_STORE),
    (False, True): Statement(f"WITH stored AS ({_STORE}) {TELL}"),
    (True, False): Statement(f"WITH {_TURN} {_STORE_IN_TURN}"),
    (True, True): Statement(f"WITH {_TURN}, stored AS ({_STORE_IN_TURN}) {TELL}"),
}
"""How an event is stored: with a key or not, and telling the relays elsewhere or not, each in one round trip."""
_SEE = Statement("INSERT INTO cliffracer_inbox (consumer, event_id) VALUES (%s, %s) ON CONFLICT DO NOTHING")
_SEE_EACH = Statement("INSERT INTO cliffracer_inbox (consumer, event_id) SELECT %s, unnest(%s::text[]) ON CONFLICT DO NOTHING")
_SEEN = Statement("SELECT event_id FROM cliffracer_inbox WHERE consumer = %s AND event_id = ANY(%s::text[])")
_FORGETTING = 0x636C6966_696E6278
"""The advisory lock for `forget`: two that delete the same rows in different orders would deadlock."""
_FORGET = Statement(
    "WITH turn AS MATERIALIZED (SELECT pg_try_advisory_xact_lock(%s) AS mine) "
    "DELETE FROM cliffracer_inbox USING turn WHERE mine AND seen_at < now() - make_interval(secs => %s)"
)
_LAG = Statement(
    "SELECT count(*) FILTER (WHERE parked_at IS NULL), count(*) FILTER (WHERE parked_at IS NOT NULL), "
    "coalesce(extract(epoch FROM now() - min(created_at) FILTER (WHERE parked_at IS NULL)), 0)::double precision FROM cliffracer_outbox"
)


_PARKED = Statement(
    "SELECT id, message_id, subject, key, created_at, attempts, error FROM cliffracer_outbox "
    "WHERE parked_at IS NOT NULL ORDER BY id LIMIT 1000"
)
_THESE = "WHERE parked_at IS NOT NULL AND (%s::bigint[] IS NULL OR id = ANY(%s::bigint[]))"
_CHOSEN = Statement(f"SELECT id FROM cliffracer_outbox {_THESE}")
_RELEASE = Statement(f"UPDATE cliffracer_outbox SET parked_at = NULL, attempts = 0, error = NULL {_THESE} RETURNING id")
_DISCARD = Statement(f"DELETE FROM cliffracer_outbox {_THESE} RETURNING id")


class Telling(Protocol):
    """A transaction as the outbox needs it."""

    def tell(self) -> bool:
        """Say whether the relays elsewhere still have to be told of this transaction."""

    async def run(self, statement: Statement, params: Params = None) -> int:
        """Run one statement and return how many rows it touched."""


class Sharded(Protocol):
    """A database, which may be made of several."""

    @property
    def shards(self) -> Sequence[Queries]:
        """The databases that it is made of: itself, or several."""


class Handled(Unavailable):
    """The event was handled by another transaction meanwhile: this one has nothing left to do."""


class Parked(msgspec.Struct, frozen=True):
    """An event that cannot be published as it is."""

    number: int
    id: str
    subject: str
    key: str | None
    created_at: datetime
    attempts: int
    error: str


class Lag(msgspec.Struct, frozen=True):
    """How far publishing is behind committing."""

    pending: int
    parked: int
    """Events that cannot be published as they are, and wait for an operator."""
    oldest: float
    """Age of the oldest pending one, in seconds."""

    def plus(self, other: "Lag") -> "Lag":
        """Return the lag of two outboxes together."""
        return Lag(self.pending + other.pending, self.parked + other.parked, max(self.oldest, other.oldest))


async def add(transaction: Telling, subject: str, payload: bytes, headers: dict[str, str], *, message_id: str, key: str | None) -> None:
    """Store an event with the transaction; it is published if and when that commits."""
    params = [message_id, subject, key, msgspec.json.encode(headers).decode(), payload]
    keyed = key is not None
    await transaction.run(ADD[keyed, transaction.tell()], [key, *params] if keyed else params)


async def mark(transaction: Queries, consumer: str, event_id: str) -> bool:
    """Put an event's mark into the inbox, with the transaction; False if it is there."""
    return await transaction.run(_SEE, [consumer, event_id]) > 0


async def mark_each(transaction: Queries, consumer: str, event_ids: Collection[str]) -> None:
    """Put the marks of several events into the inbox, with the transaction; `Handled` if one of them is there already."""
    ordered = sorted(event_ids)  # the same order for all, or two that wait for each other's marks would deadlock
    if ordered and await transaction.run(_SEE_EACH, [consumer, ordered]) < len(ordered):
        raise Handled("an event was handled by somebody else meanwhile")


async def marked(database: Queries, consumer: str, event_ids: Collection[str]) -> set[str]:
    """Return which of these events a database has marks of."""
    return {event_id for (event_id,) in await database.rows(_SEEN, [consumer, list(event_ids)])}


async def lag(database: Sharded) -> Lag:
    """Return how many events wait to be published, and for how long."""
    found = Lag(0, 0, 0.0)
    for shard in database.shards:
        ((pending, parked, oldest),) = await shard.rows(_LAG)
        found = found.plus(Lag(pending, parked, oldest))
    return found


async def forget(database: Queries, *, older_than: float = 7 * 86_400) -> int:
    """Delete marks that are older than so many seconds and return how many; none while another replica is at it."""
    return await database.run(_FORGET, [_FORGETTING, older_than])


async def parked(database: Sharded) -> list[Parked]:
    """Return the parked events, oldest first, of each shard a thousand at most."""
    return [Parked(*row) for shard in database.shards for row in await shard.rows(_PARKED)]


async def chosen(database: Sharded, numbers: Sequence[int] | None = None) -> list[int]:
    """Return the numbers of the parked events; of ``numbers``, those that are parked."""
    return await _each(database, _CHOSEN, numbers)


async def release(database: Sharded, numbers: Sequence[int] | None = None) -> list[int]:
    """Let parked events be tried again, all of them or those with these numbers, and return the numbers of those that were parked."""
    return await _each(database, _RELEASE, numbers)


async def discard(database: Sharded, numbers: Sequence[int] | None = None) -> list[int]:
    """Remove parked events for good, all of them or those with these numbers, and return the numbers of those that were parked.

    One that only waits to be published is never removed: its transaction was committed.
    """
    return await _each(database, _DISCARD, numbers)


async def _each(database: Sharded, statement: Statement, numbers: Sequence[int] | None) -> list[int]:
    given = None if numbers is None else list(numbers)
    return sorted([number for shard in database.shards for (number,) in await shard.rows(statement, [given, given])])
