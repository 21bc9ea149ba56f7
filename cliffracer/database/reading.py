"""Whether a database is for reading only on purpose: its address or its user says so; a server that has become a standby does not."""

from cliffracer.database.database import Database
from cliffracer.database.link import Statement

_SET = Statement(
    "SELECT 1 FROM pg_settings WHERE name = 'default_transaction_read_only' AND setting = 'on' "
    "AND source IN ('client', 'user', 'database user')"  # of the server or its database: providers set that when a disk is full
)


async def only_reads(database: Database) -> bool:
    """Say whether whoever set a database up wants to read it only: by its address, or by a default of its user."""
    return all([shard.pool.standby or bool(await shard.rows(_SET)) for shard in database.shards])
