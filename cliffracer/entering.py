"""What ``connect()`` and ``connect_async()`` return: context managers that explain themselves where they are used otherwise."""

from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, NoReturn, TypeVar

from cliffracer.errors import SetupError

T = TypeVar("T")
BLOCKING = "with cliffracer.connect() as c: c.user_service.get_user(user_id=7)"
ASYNC = "async with cliffracer.connect_async() as c: await c.user_service.get_user(user_id=7)"


class Blocking(AbstractContextManager[T]):
    """What ``connect()`` returns."""

    def __init__(self, opened: AbstractContextManager[T]) -> None:
        self._opened = opened
        self._entered = False

    def __enter__(self) -> T:
        """Connect, once."""
        if self._entered:
            raise SetupError("what connect() returned is entered once. Call connect() again for another connection.")
        self._entered = True
        return self._opened.__enter__()

    def __exit__(self, *raised: Any) -> bool | None:  # noqa: PYI036 - handed on as it came
        """Close the connection."""
        return self._opened.__exit__(*raised)

    async def __aenter__(self) -> NoReturn:
        """Raise the error that names the one for async code."""
        raise SetupError(f"connect() is not for async with. Write: {ASYNC}")

    async def __aexit__(self, *raised: object) -> None:
        """Do nothing: it is never entered."""

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"connect() has no {name} before it is entered. Write: {BLOCKING}")


class Async(AbstractAsyncContextManager[T]):
    """What ``connect_async()`` returns."""

    def __init__(self, opened: AbstractAsyncContextManager[T]) -> None:
        self._opened = opened
        self._entered = False

    async def __aenter__(self) -> T:
        """Connect, once."""
        if self._entered:
            raise SetupError("what connect_async() returned is entered once. Call connect_async() again for another connection.")
        self._entered = True
        return await self._opened.__aenter__()

    async def __aexit__(self, *raised: Any) -> bool | None:  # noqa: PYI036 - handed on as it came
        """Close the connection."""
        return await self._opened.__aexit__(*raised)

    def __enter__(self) -> NoReturn:
        """Raise the error that names the one for code that is not async."""
        raise SetupError(f"connect_async() is for async with. Write: {ASYNC}; or in code that is not async: {BLOCKING}")

    def __exit__(self, *raised: object) -> None:
        """Do nothing: it is never entered."""

    def __await__(self) -> NoReturn:
        """Raise the error that shows ``async with``."""
        raise SetupError(f"connect_async() is entered, not awaited. Write: {ASYNC}")

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"connect_async() has no {name} before it is entered. Write: {ASYNC}")
