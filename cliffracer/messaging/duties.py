"""What a broker does beside events: one-way calls, timers, locks and leaders, key-value and object stores.

Parts of the interface in `cliffracer.messaging.broker`; a backend proves them with the same tests.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Protocol, Self, TypeVar, overload

from cliffracer.messaging.stores import REQUIRED, Data, Entry, ObjectInfo

D = TypeVar("D")
T = TypeVar("T")


class Sending(Protocol):
    """The one-way calls of a service, at the service."""

    async def start(self) -> None:
        """Take calls that were sent while no replica was running, and new ones; each goes to one replica, at least once."""

    async def stored(self) -> int:
        """Return how many are stored and not done."""

    async def drain(self, seconds: float) -> None:
        """Take nothing more, and finish what is in hand."""


class Lasting(Protocol):
    """A function that runs without being called."""

    name: str

    async def start(self) -> None:
        """Begin."""

    async def drain(self, seconds: float) -> None:
        """End it here within some seconds, and let another replica take over at once."""


class Ticking(Lasting, Protocol):
    """A function that runs by a plan: once in all replicas together for each time that is due, and never beside itself.

    What was due while no replica was there is made up for once, unless that was to be left out.
    """

    @property
    def following(self) -> float:
        """When it is due next, POSIX time."""

    async def due(self) -> bool:
        """Say whether it is due or running, here or elsewhere."""


class Locking(Protocol):
    """A lock of the cluster: ``async with lock:`` holds it; the block is cancelled, and ends with `Unavailable`, when it is lost."""

    token: int
    """Larger than that of every earlier holder."""

    async def __aenter__(self) -> Self:
        """Hold it; `Unavailable` when it was not to be had in time."""

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object, /) -> None:
        """Release it at once."""


class Leading(Lasting, Protocol):
    """A function that runs in one replica, and begins in another when that one stops or dies."""

    leading: bool


class Values(Protocol[T]):
    """Typed values under keys; revisions rise with every change of the bucket."""

    @overload
    async def get(self, key: str) -> T: ...
    @overload
    async def get(self, key: str, default: D) -> T | D: ...
    async def get(self, key: str, default: Any = REQUIRED) -> Any:
        """Return the value of a key; the default if there is none, `NotFound` without one."""

    async def entry(self, key: str) -> Entry[T] | None:
        """Return value, revision and time of a key; None if it is not there."""

    async def put(self, key: str, value: T, *, ttl: float | str | None = None) -> int:
        """Set a key and return its revision; it is gone after the time to live."""

    async def create(self, key: str, value: T, *, ttl: float | str | None = None) -> int:
        """Set a key that is not there; `Conflict` if it is."""

    async def update(self, key: str, value: T, revision: int, *, ttl: float | str | None = None) -> int:
        """Set a key that is still at a revision; `Conflict` if it has changed."""

    async def delete(self, key: str, *, revision: int | None = None) -> None:
        """Remove a key, which may be absent; its history stays. With a revision, `Conflict` if it has changed."""

    async def purge(self, key: str) -> None:
        """Remove a key and its history."""

    async def keys(self, pattern: str = ">") -> list[str]:
        """Return the keys that are there, of those that fit a pattern."""

    async def history(self, key: str) -> list[Entry[T]]:
        """Return what is kept of a key's values and deletions, oldest first."""

    def watch(self, pattern: str = ">", *, caught_up: Callable[[], None] | None = None) -> AsyncIterator[Entry[T]]:
        """Yield the present entry of each key, then every change, deletions included, in order.

        ``caught_up()`` is called when whoever watches has dealt with all that there was; after an outage again.
        """

    async def destroy(self) -> None:
        """Remove the bucket and all that is in it."""


class Objects(Protocol):
    """Large objects by name, streamed in and out in flat memory, with a checked digest."""

    async def put(self, name: str, data: Data, *, description: str = "", metadata: Mapping[str, str] | None = None) -> ObjectInfo:
        """Store an object, replacing one of the same name; if its data cannot be read completely, the old one stays."""

    def get(self, name: str) -> AsyncIterator[bytes]:
        """Yield an object's bytes; `NotFound`."""

    async def read(self, name: str) -> bytes:
        """Return an object whole."""

    async def info(self, name: str) -> ObjectInfo:
        """Return what is known of an object; `NotFound` if it is not there."""

    async def list(self) -> list[ObjectInfo]:
        """Return what is known of all objects."""

    async def delete(self, name: str) -> None:
        """Remove an object; `NotFound` if it is not there."""

    async def destroy(self) -> None:
        """Remove the bucket and all that is in it."""
