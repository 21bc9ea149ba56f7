"""Every decorator gives the function back with its type, bare and with options."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, assert_type

from cliffracer import Accounts, ApiKeys, App, BrowserLogin, Claims, Conflict, Context, Event, Group, Received, Tickets, public, requires

app = App("shop")
group = Group("admin", prefix="/admin")


class Placed(Event, subject="order.placed"):
    """An order."""

    number: int


class Mailer:
    """Something that is provided."""


@app.get("/a", status=200, tags=["a"], rate="10/s", deadline="2s")
@requires("a:read")
async def a(number: int) -> str:
    """A route, guarded."""
    return str(number)


@app.post("/b")
@app.put("/b")
@app.patch("/b/{number}")
@app.delete("/b/{number}")
@app.route("/c/{number}", methods=["GET", "HEAD"])
@public
def b(number: int) -> str:
    """Many routes of a plain function."""
    return str(number)


@app.websocket("/feed", limit=5, rate="5/m per address")
async def feed(said: AsyncIterator[str]) -> AsyncIterator[int]:
    """A socket."""
    async for text in said:
        yield len(text)


@app.on(Placed, retry=(1, 2), ordered=True)
@app.on("order.changed", once=True, rate="10/s per identity")
async def placed(order: Placed) -> None:
    """Two subscriptions."""


@app.on("order.>")
async def arrived(*, event: Received[Placed]) -> None:
    """Have the event as it arrived, with its types."""
    assert_type(event.data, Placed)
    assert_type(event.id, str)
    assert_type(event.attempt, int)


@app.every("1h", missed="skip")
@app.cron("0 3 * * *", tz="Europe/Rome")
async def tidy() -> int:
    """Timers."""
    return 1


@app.leader
async def lead() -> None:
    """Run by one replica."""


@app.leader(ttl="5s")
async def lead_briefly() -> None:
    """With options."""


@app.provide
async def mailer() -> Mailer:
    """Give what others ask for."""
    return Mailer()


@app.provide(scope="call")
def clerk() -> Mailer:
    """Give one for each call."""
    return Mailer()


@app.cached("30s", tags="prices")
async def price(sku: str) -> float:
    """Kept for a while."""
    return len(sku)


@app.middleware
async def around(context: Context, proceed: Any) -> Any:
    """Wrap every call."""
    return await proceed()


@app.middleware
async def stamp(context: Context, proceed: Callable[[], Awaitable[object]]) -> object:
    """Say precisely what it takes."""
    print(context.kind)
    return await proceed()


for part in (Accounts(), ApiKeys(), BrowserLogin(), Tickets()):
    app.use(part)
assert_type(app.provide(Claims()), Claims)


@app.on_error(KeyError)
def missing(error: KeyError) -> Conflict:
    """Map an exception."""
    return Conflict(str(error))


@app.on_startup
@app.on_shutdown
async def hook() -> None:
    """Run at start and at stop."""


@app.health_check("disk", critical=False)
def disk() -> bool:
    """Say whether it is well."""
    return True


@group.rpc
@requires(role="admin")
async def ban(user_id: int) -> bool:
    """Be declared on a group."""
    return user_id > 0


async def plain_calls(said: AsyncIterator[str]) -> None:
    """Each is what it was."""
    assert_type(await a(1), str)
    assert_type(b(number=1), str)
    assert_type(feed(said), AsyncIterator[int])
    assert_type(await placed(Placed(number=1)), None)
    assert_type(await tidy(), int)
    assert_type(await lead(), None)
    assert_type(await lead_briefly(), None)
    assert_type(await mailer(), Mailer)
    assert_type(clerk(), Mailer)
    assert_type(await price("a"), float)
    assert_type(missing(KeyError()), Conflict)
    assert_type(await hook(), None)
    assert_type(disk(), bool)
    assert_type(await ban(1), bool)
