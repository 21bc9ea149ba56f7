"""Users: one function answers HTTP and RPC, rows are in PostgreSQL, and what happens is told by durable events.

```sh
cliffracer run examples.users:app
```

With no NATS_URL and no DATABASE_URL set, that starts a real NATS server and a real PostgreSQL for this folder. Then:

```sh
$ curl -s http://127.0.0.1:8000/users --json '{"name": "Ada", "email": "ada@example.org"}'
{"id":"...","created_at":"...","updated_at":"...","name":"Ada","email":"ada@example.org","status":"active"}
$ cliffracer call user_service.find_users status=active
[ { "id": "...", ... "name": "Ada", "email": "ada@example.org", "status": "active" } ]
$ curl -s http://127.0.0.1:8000/users --json '{"name": "", "email": "nowhere"}'
{...,"status":422,...,"errors":[{"path":"name","message":"..."},{"path":"email","message":"..."}]}
```
"""

from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal
from uuid import UUID

from loguru import logger
from msgspec import Meta

from cliffracer import App, Context, Database, Model, Repository, Unique

app = App("user_service", version="1.0.0", description="who uses the product")

# Types say what is let in: as parameters they are checked before a handler runs, as columns by the database too.
Name = Annotated[str, Meta(min_length=1, max_length=100, description="full name")]
Email = Annotated[str, Meta(pattern="@")]
Status = Literal["active", "suspended"]


# A Model is a typed row: its annotations give the columns. `id` (a UUIDv7), `created_at` and `updated_at` come with it.
class User(Model):
    __tablename__ = "users"
    name: Name
    email: Annotated[Email, Unique()]
    status: Status = "active"


# Positional parameters come from the caller, whoever that is; keyword-only ones (after the *) are provided by the app.
@app.rpc
@app.post("/users", status=201)
async def create_user(name: Name, email: Email, *, users: Repository[User]) -> User:
    """Create a user; a second one with the same email is a conflict (409)."""
    user = await users.create(User(name=name, email=email))
    await app.emit("user.created", user)  # returns once NATS has stored it
    return user


@app.rpc
@app.get("/users/{user_id}")
async def get_user(user_id: UUID, *, users: Repository[User]) -> User:
    """Return one user; NotFound is a 404 over HTTP, and raised as NotFound at an RPC caller."""
    return await users.get(user_id)


@app.rpc
@app.get("/users")
async def find_users(
    status: Status | None = None, limit: Annotated[int, Meta(ge=1, le=500)] = 50, *, users: Repository[User]
) -> list[User]:
    """Return users, newest first: /users?status=active&limit=10."""
    chosen: dict[str, Any] = {} if status is None else {"status": status}
    return await users.find(order_by="-created_at", limit=limit, **chosen)


@app.post("/users/{user_id}/suspend")
async def suspend_user(user_id: UUID, reason: str, *, users: Repository[User], db: Database) -> User:
    """Suspend a user: row and event change together, or neither does."""
    async with db.transaction():
        user = await users.update(user_id, status="suspended")
        await app.emit("user.suspended", {"id": user.id, "reason": reason})  # inside a transaction: sent when it commits
    return user


# Durable: delivered at least once, also if this service was down meanwhile; retried after a failure, then parked.
@app.on("user.created")
async def send_welcome(user: User, *, context: Context) -> None:
    """Write to a new user."""
    logger.info("welcome, {}! (this was caused by call {})", user.name, context.correlation_id)


# What an async generator yields goes to the WebSocket's client as JSON: every created user, live.
@app.websocket("/users/feed")
async def feed() -> AsyncIterator[User]:
    """Send users as they are created."""
    async for event in app.events("user.created", User):
        yield event.data


# Once an hour in the whole cluster, however many replicas run.
@app.every("1h")
async def purge(*, db: Database) -> None:
    """Forget users that were suspended a year ago."""
    await db.execute("delete from users where status = 'suspended' and updated_at < now() - interval '1 year'")
