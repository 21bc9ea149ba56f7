"""A database of its own for every test."""

from collections.abc import AsyncIterator, Iterator

import pytest

from cliffracer.database import Database
from cliffracer.database.stock import Stock
from tests.support.postgres import Server
from tests.support.postgres import postgres as postgres  # noqa: PLC0414 - a fixture, found by its name


@pytest.fixture(scope="session")
def stock(postgres: Server) -> Iterator[Stock]:
    """Empty databases, made ahead."""
    with Stock(postgres.url(), template="template1") as made:
        yield made


@pytest.fixture
def url(stock: Stock) -> Iterator[str]:
    """Address of an empty database that is gone after the test."""
    taken = stock.take()
    yield taken
    stock.give(taken)


@pytest.fixture
async def db(url: str) -> AsyncIterator[Database]:
    """An open, empty database."""
    async with Database.open(url) as opened:
        yield opened
