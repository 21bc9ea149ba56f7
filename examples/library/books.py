"""Knows the books and how many copies are on the shelf. It keeps them in memory: see examples/users.py for a database."""

from typing import Annotated

from msgspec import Meta, Struct

from cliffracer import App, Conflict, NotFound, provided

app = App("books", description="what is on the shelf")


class Book(Struct):
    id: int
    title: str
    copies: int


class Shelf:
    """All books; the one object that the handlers below share."""

    def __init__(self) -> None:
        self.books: dict[int, Book] = {}

    def find(self, book_id: int) -> Book:
        """Return a book; a NotFound raised here is raised as NotFound at whoever called, in any service."""
        if book_id not in self.books:
            raise NotFound(f"no book {book_id}", book_id=book_id)
        return self.books[book_id]


# What the return annotation names is given to every handler that asks for it by that type. It is made once at start;
# an async generator could also close it at the end. A test replaces it: running(app, overrides={Shelf: full_shelf}).
@app.provide
def shelf() -> Shelf:
    return Shelf()


@app.rpc
async def add(title: str, copies: Annotated[int, Meta(ge=1)] = 1, *, shelf: Shelf) -> int:
    """Put a book on the shelf and return its number."""
    book = Book(len(shelf.books) + 1, title, copies)
    shelf.books[book.id] = book
    return book.id


@app.rpc
async def get(book_id: int, *, shelf: Shelf) -> Book:
    """Return one book."""
    return shelf.find(book_id)


# `= provided` changes nothing at run time: it tells type checkers that `app.call(take, book_id=1)` is complete.
@app.rpc
async def take(book_id: int, *, shelf: Shelf = provided) -> Book:
    """Take a copy off the shelf."""
    book = shelf.find(book_id)
    if book.copies == 0:
        raise Conflict(f"no copy of {book.title} is left", book_id=book_id)
    book.copies -= 1
    return book


@app.rpc
async def put_back(book_id: int, *, shelf: Shelf) -> None:
    """Put a copy back."""
    shelf.find(book_id).copies += 1
