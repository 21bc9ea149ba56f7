"""Repositories and queries have the types of what they return."""

from typing import Annotated, Any, assert_type

from cliffracer import Database, Model, Repository, Unique
from cliffracer.database import Page


class User(Model):
    __tablename__ = "users"
    name: str
    email: Annotated[str, Unique()]
    age: int = 0


async def handler(name: str, *, db: Database, users: Repository[User]) -> None:
    user = User(name=name, email="a@x.org")
    assert_type(await users.create(user), User)
    assert_type(await users.find(name="x", order_by="-age", limit=5), list[User])
    assert_type(await users.first(), User | None)
    assert_type(await users.get(user.id), User)
    assert_type(await users.get(email="a@x.org"), User)
    assert_type(await users.page(), Page[User])
    assert_type(await db.fetch(User, "select * from users where name = %s", name), list[User])
    assert_type(await db.fetch_one(int, "select 1"), int | None)
    assert_type(await db.fetch_value(str, "select %s", name), str | None)
    assert_type(await db.execute("delete from users"), int)
    async for row in db.stream(User, "select * from users"):
        assert_type(row, User)
    async for plain in db.stream("select * from users where name = %s", name, size=10):
        assert_type(plain, dict[str, Any])
    async with db.transaction() as transaction:
        assert_type(await transaction.fetch(User, "select * from users"), list[User])
    assert_type(await db.retrying(users.get, user.id, attempts=3), User)
