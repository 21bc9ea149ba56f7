"""ASGI applications under a path, as Starlette's `Mount` has them."""

from typing import Any

from loguru import logger

from cliffracer.context import new_id
from cliffracer.errors import Internal
from cliffracer.web.answers import correlation_of, send_problem


class Mounted:
    """One application; its scope has the path (``root_path``), and its failure becomes a problem document."""

    def __init__(self, path: str, application: Any) -> None:
        self.path = path
        self._application = application

    def serves(self, path: str) -> bool:
        """Say whether a path is below this one; the path itself is not, so that relative links work."""
        return path.startswith(self.path + "/")

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request or socket."""
        inside = {**scope, "root_path": scope.get("root_path", "") + self.path}
        begun = False

        async def watched(message: Any) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._application(inside, receive, watched)
        except Exception as error:  # a mounted application may raise anything
            if begun or scope["type"] != "http":
                raise
            error_id = new_id()
            logger.bind(error_id=error_id).opt(exception=error).error("what is mounted at {} failed", self.path)
            await send_problem(send, Internal(error_id=error_id), correlation_of(scope))
