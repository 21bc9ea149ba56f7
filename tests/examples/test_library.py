"""examples/library: three services that call each other and listen."""

import pytest

from cliffracer import Conflict, NotFound
from cliffracer.testing import running
from examples.library import books, loans, reminders


async def test_borrowing_takes_a_copy_and_is_noted():
    """RPC from loans to books, an event from loans to reminders, each in its own service."""
    async with running(books.app, loans.app, reminders.app) as t:
        number = await t.call("books.add", title="Dune")
        loan = await t.call("loans.borrow", book_id=number, reader="ada")
        assert loan["book"] == "Dune"
        assert (await t.call("books.get", book_id=number))["copies"] == 0
        await t.settled()
        assert "Dune is due on" in (await t.call("reminders.due", reader="ada"))[-1]


async def test_errors_of_the_called_service_reach_the_caller():
    """What books raises is raised at who called loans, as the same class."""
    async with running(books.app, loans.app, reminders.app) as t:
        with pytest.raises(NotFound, match="no book 99"):
            await t.call("loans.borrow", book_id=99, reader="ada")
        number = await t.call("books.add", title="Dune")
        await t.call("loans.borrow", book_id=number, reader="ada")
        with pytest.raises(Conflict, match="no copy of Dune"):
            await t.call("loans.borrow", book_id=number, reader="bob")
        await t.call("loans.give_back", book_id=number)
        assert (await t.call("loans.borrow", book_id=number, reader="bob"))["reader"] == "bob"


async def test_one_service_is_tested_alone():
    """The services that it calls are stubbed."""
    async with running(loans.app) as t:
        taken = t.stub("books.take", returns={"id": 1, "title": "Emma", "copies": 0})
        assert (await t.call("borrow", book_id=1, reader="ada"))["book"] == "Emma"
        assert taken.received == [{"book_id": 1}]
        assert [event.data["title"] for event in t.emitted("book.borrowed")] == ["Emma"]
