"""``app.cache``: what is done about answers that are kept."""

from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any, Protocol

from cliffracer.caching.cached import Cached, cached_of, uncallable
from cliffracer.caching.keys import tag_of
from cliffracer.errors import SetupError


class Forgets(Protocol):
    """What keeps answers while an app runs."""

    async def forget(self, tags: Iterable[str]) -> None:
        """Make everything with one of these tags good no more, in all replicas."""

    def call_tag(self, cached: Cached, positional: tuple[Any, ...], named: dict[str, Any]) -> str:
        """Return what tags the answers to one call."""


class Cache:
    """The answers that an app keeps: ``await app.cache.forget(tag="users")``."""

    def __init__(self, records: Callable[[], Iterator[Cached]], service: str) -> None:
        self._records = records
        self._service = service
        self.keeps: list[Forgets] = []
        """Who keeps them now; the runtime's business."""

    def forget(self, function: Any = None, /, *args: Any, tag: str | None = None, **kwargs: Any) -> Awaitable[None]:
        """Make answers good no more, in all replicas: those of a tag, of a function, or of a call of it, for whomever they were made.

        ``forget(tag="user:7")``, ``forget(get_user)``, ``forget(get_user, user_id=7)``. Inside a transaction it is done once that is
        committed. What is kept in NATS or Redis is good no more when this returns, and `Unavailable` says that it could not be told; what
        replicas keep in memory, a moment later.
        """
        if (function is None) == (tag is None):
            raise TypeError("name what to forget: tag='users', or a function and perhaps its arguments")
        if tag is not None:
            return self._keeper().forget([tag_of(tag)])
        record = cached_of(function)
        if record is None:
            raise uncallable(function)
        if not args and not kwargs:
            return self._keeper().forget([f"f:{record.name}"])
        return self._keeper().forget([self._keeper().call_tag(record, args, kwargs)])

    def clear(self) -> Awaitable[None]:
        """Make all answers of the app good no more, in all replicas."""
        return self._keeper().forget([f"f:{record.name}" for record in self._records()])

    def _keeper(self) -> Forgets:
        if not self.keeps:
            raise SetupError(f"{self._service} is not running, so it keeps no answers. Run it with `cliffracer run`.")
        return self.keeps[-1]
