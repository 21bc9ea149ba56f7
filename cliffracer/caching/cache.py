"""``app.cache``: invalidation of cached answers."""

from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any, Protocol

from cliffracer.caching.cached import Cached, cached_of, uncallable
from cliffracer.caching.keys import tag_of
from cliffracer.errors import SetupError


class Forgets(Protocol):
    """The cache of a running app, for invalidation."""

    async def forget(self, tags: Iterable[str]) -> None:
        """Invalidate everything with one of these tags, in all replicas."""

    def call_tag(self, cached: Cached, positional: tuple[Any, ...], named: dict[str, Any]) -> str:
        """Return the tag of the answers to one call."""


class Cache:
    """The cached answers of an app: ``await app.cache.forget(tag="users")``."""

    def __init__(self, records: Callable[[], Iterator[Cached]], service: str) -> None:
        self._records = records
        self._service = service
        self.keeps: list[Forgets] = []
        """The caches of the running app; set by the runtime."""

    def forget(self, function: Any = None, /, *args: Any, tag: str | None = None, **kwargs: Any) -> Awaitable[None]:
        """Invalidate answers in all replicas: those with a tag, of a function, or of one call of it, for all callers.

        ``forget(tag="user:7")``, ``forget(get_user)``, ``forget(get_user, user_id=7)``. Inside a transaction it is done after the
        commit. Answers in NATS or Redis are invalid when this returns (`Unavailable` if the store cannot be told); those in the memory of
        replicas, a moment later.
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
        """Invalidate all answers of the app, in all replicas."""
        return self._keeper().forget([f"f:{record.name}" for record in self._records()])

    def _keeper(self) -> Forgets:
        if not self.keeps:
            raise SetupError(f"{self._service} is not running, so it keeps no answers. Run it with `cliffracer run`.")
        return self.keeps[-1]
