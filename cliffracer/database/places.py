"""Names for several databases, so that messages say which one is meant."""

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from cliffracer.database.database import Database
from cliffracer.errors import ServiceError, SetupError


class Place(msgspec.Struct, frozen=True):
    """One of the databases of the settings."""

    number: int
    where: str
    """``host:port/name``."""
    database: Database

    def __str__(self) -> str:
        return f"database {self.number} ({self.where})"

    @contextmanager
    def named(self) -> Iterator[None]:
        """Add the database to errors that are raised in the block."""
        try:
            yield
        except SetupError as error:
            raise SetupError(f"{self}: {error}") from error
        except ServiceError as error:
            error.args = (f"{self}: {error.message}",)
            error.message = error.args[0]
            raise


class Only(Place, frozen=True):
    """The only database: errors need not name it."""

    @contextmanager
    def named(self) -> Iterator[None]:
        """Leave errors as they are."""
        yield


def places(database: Database) -> list[Place]:
    """Return the databases that this one is made of, in the order of the settings."""
    kind = Place if len(database.shards) > 1 else Only
    return [kind(number, shard.pool.name, shard) for number, shard in enumerate(database.shards)]
