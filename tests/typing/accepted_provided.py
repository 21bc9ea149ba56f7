"""A provided parameter has a default, so that a typed call need not give it."""

from collections.abc import AsyncIterator
from typing import assert_type

from cliffracer import App, Context, Model, Repository, provided

app = App("user_service")


class User(Model):
    """A row."""

    name: str


@app.rpc
async def create_user(name: str, *, users: Repository[User] = provided, context: Context = provided) -> User:
    """Take what the caller gives, be given the rest."""
    print(context.correlation_id)
    user = await users.create(User(name=name))
    assert_type(user, User)
    return user


@app.rpc
async def count(upto: int) -> AsyncIterator[int]:
    """Stream numbers."""
    for number in range(upto):
        yield number


async def calls() -> None:
    """Call both, typed."""
    assert_type(await app.call(create_user, name="Ada"), User)
    async for number in app.stream(count, upto=3):
        assert_type(number, int)
    users = app.repository(User)
    assert_type(await users.find(name="Ada"), list[User])
