"""Rows that do not fit their model are found by the type checker."""

from cliffracer import Model, Repository


class User(Model):
    name: str
    age: int = 0


async def handler(*, users: Repository[User]) -> None:
    await users.create(5)  # E: Argument 1 to "create" of "Repository" has incompatible type "int"; expected "User"
    await users.create(User(nam="x"))  # E: Unexpected keyword argument "nam" for "User"
    await users.create(User(name=5))  # E: Argument "name" to "User" has incompatible type "int"; expected "str"
    number: int = await users.find(name="x")  # E: Incompatible types in assignment
    print(number)
