"""Operations that change rows and tell every process of it, such as a sign-out: they run to completion though their caller is cancelled."""

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


def runs_to_completion(what: str) -> Callable[[Method[P, T]], Method[P, T]]:
    """Have a method run to completion even if its caller is cancelled or its deadline passes; ``what`` names it in the log.

    The object needs a ``_db``. Inside the caller's own transaction the method is part of that, and the caller decides how it ends.
    """

    def wrap(method: Method[P, T]) -> Method[P, T]:
        @wraps(method)
        async def to_its_end(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> T:
            if self._db.joined() is not None:
                return await method(self, *args, **kwargs)
            left = False

            async def apart() -> T:
                current.set(None)  # in this task only: a deadline in the middle would leave it half done
                try:
                    return await method(self, *args, **kwargs)
                except Exception as error:  # whatever it raises: a caller that has left does not see it, so it is logged
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
