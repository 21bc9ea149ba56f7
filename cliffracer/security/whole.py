"""What changes rows and tells every process of it, such as a sign-out: done whole or not at all, whoever leaves meanwhile."""

import asyncio
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from loguru import logger

from cliffracer.context import current
from cliffracer.shielding import shielded

P = ParamSpec("P")
T = TypeVar("T")
Method = Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]


def whole(what: str) -> Callable[[Method[P, T]], Method[P, T]]:
    """Have a method of what has a ``_db`` go on to its end, though who called it is cancelled, or his deadline passes.

    In a transaction of the caller's it is part of that, which is his to end.
    """

    def wrap(method: Method[P, T]) -> Method[P, T]:
        @wraps(method)
        async def to_its_end(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> T:
            if self._db.joined() is not None:
                return await method(self, *args, **kwargs)
            left = False

            async def apart() -> T:
                current.set(None)  # of this task only: a deadline in the middle would leave half of it
                try:
                    return await method(self, *args, **kwargs)
                except Exception as error:  # whatever it raises: who has left does not hear of it, the log does
                    if left:
                        logger.warning("{what} failed, and who asked for it had left: {error!r}", what=what, error=error)
                    raise

            try:
                return await shielded(apart(), what)
            except asyncio.CancelledError:
                left = True
                raise

        return to_its_end

    return wrap
