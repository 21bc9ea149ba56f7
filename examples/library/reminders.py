"""Keeps what readers have to be reminded of. It calls nobody and nobody calls it to lend a book: it only listens."""

from collections import defaultdict

from cliffracer import App
from examples.library.loans import Borrowed

app = App("reminders", description="what is due when")

_due: dict[str, list[str]] = defaultdict(list)


# If this service is down when a book is lent, the event waits for it. A second service that subscribes gets its own copy.
@app.on(Borrowed)
async def note(loan: Borrowed) -> None:
    """Remember when a book is due."""
    _due[loan.reader].append(f"{loan.title} is due on {loan.due:%d %B}")


@app.rpc
@app.get("/readers/{reader}")
async def due(reader: str) -> list[str]:
    """Return what a reader has to bring back, and when."""
    return _due[reader]
