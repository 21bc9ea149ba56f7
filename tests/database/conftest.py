"""A database of its own for every test."""

from collections.abc import AsyncIterator, Iterator

import pytest

from cliffracer.database import Database
from cliffracer.database.clones import Clones
from tests.support.postgres import Server
from tests.support.postgres import postgres as postgres  # noqa: PLC0414 - a fixture, found by its name


@pytest.fixture(scope="session")
def clones(postgres: Server) -> Iterator[Clones]:
    """Empty databases, made ahead."""
    with Clones(postgres.url(), template="template1") as made:
        yield made


@pytest.fixture
def url(clones: Clones) -> Iterator[str]:
    """Address of an empty database that is gone after the test."""
    taken = clones.take()
    yield taken
    clones.give(taken)


@pytest.fixture
async def db(url: str) -> AsyncIterator[Database]:
    """An open, empty database."""
    async with Database.open(url) as opened:
        yield opened
