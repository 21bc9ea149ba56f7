"""A database of its own for every test."""

from collections.abc import AsyncIterator

import pytest

from cliffracer.database import Database
from cliffracer.database.templates import cloned
from tests.support.postgres import Server
from tests.support.postgres import postgres as postgres  # noqa: PLC0414 - a fixture, found by its name


@pytest.fixture
async def url(postgres: Server) -> AsyncIterator[str]:
    """Address of an empty database that is gone after the test."""
    async with cloned(postgres.url(), template="template1") as made:
        yield made


@pytest.fixture
async def db(url: str) -> AsyncIterator[Database]:
    """An open, empty database."""
    async with Database.open(url) as opened:
        yield opened
