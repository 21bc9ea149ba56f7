"""Cliffracer's own tables, and the lock for changing the schema."""

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic

from cliffracer.errors import Unavailable

LOCK = 0x636C6966
"""The key of the advisory lock ("clif") that is held while the schema is changed, by one process at a time."""
PATIENCE = 60.0
LONGEST_PAUSE = 0.5

OUTBOX, INBOX, HISTORY = "cliffracer_outbox", "cliffracer_inbox", "cliffracer_migrations"
FOREIGN = {"alembic_version": "Alembic", "schema_migrations": "dbmate"}
"""Tables in which other tools keep their history of migrations."""
TABLES = {
    OUTBOX: """
CREATE TABLE cliffracer_outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    message_id text NOT NULL,
    subject text NOT NULL,
    key text,
    headers jsonb NOT NULL,
    payload bytea NOT NULL,
    created_at timestamp with time zone NOT NULL DEFAULT now(),
    attempts integer NOT NULL DEFAULT 0,
    parked_at timestamp with time zone,
    error text
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000)
""",
    INBOX: """
CREATE TABLE cliffracer_inbox (
    consumer text NOT NULL,
    event_id text NOT NULL,
    seen_at timestamp with time zone NOT NULL DEFAULT now(),
    PRIMARY KEY (consumer, event_id)
)
""",
}
HISTORY_TABLE = """
CREATE TABLE cliffracer_migrations (
    name text PRIMARY KEY,
    checksum text NOT NULL,
    applied_at timestamp with time zone NOT NULL DEFAULT now(),
    seconds double precision NOT NULL
)
"""


async def turn(
    attempt: Callable[[], Awaitable[bool]], within: float = PATIENCE, waiting: Callable[[], Awaitable[None]] | None = None
) -> None:
    """Wait until an attempt to take the lock succeeds; ``waiting`` is called once if that takes a while.

    It is polled, not waited for in the server: a waiting statement holds a snapshot, and CREATE INDEX CONCURRENTLY, run by
    the holder of the lock, would wait for that.
    """
    end, pause = monotonic() + within, 0.01
    while not await attempt():
        if monotonic() > end:
            raise Unavailable("somebody else has been changing the schema for too long")
        if waiting is not None and pause >= LONGEST_PAUSE:
            await waiting()
            waiting = None
        await asyncio.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE)
