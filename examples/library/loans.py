"""Lends books: asks the other service over RPC, and tells everybody else by an event."""

from datetime import UTC, datetime, timedelta

from msgspec import Struct

from cliffracer import App, Event
from examples.library.books import take

app = App("loans", description="who has which book")

# Two ways to call another service. By name, with options that hold for every call; nothing of it need be installed here:
books = app.service("books", timeout=2.0)
# ... and by function, as `app.call(take, ...)` below: editors and type checkers see its parameters and what it returns.


class Loan(Struct):
    book: str
    reader: str
    due: datetime


# A typed event: emitter and subscriber share subject and shape.
class Borrowed(Event, subject="book.borrowed"):
    book_id: int
    title: str
    reader: str
    due: datetime


@app.rpc
@app.post("/loans", status=201)
async def borrow(book_id: int, reader: str) -> Loan:
    """Lend a book; what `books` raises (NotFound, Conflict) reaches our own caller as it is."""
    book = await app.call(take, book_id=book_id)
    due = datetime.now(UTC) + timedelta(days=14)
    await app.emit(Borrowed(book_id, book.title, reader, due))
    return Loan(book.title, reader, due)


@app.rpc
@app.post("/returns")
async def give_back(book_id: int) -> None:
    """Take a book back."""
    await books.put_back(book_id=book_id)
