"""Buckets of named values and of large objects: how they are named, and what is in them."""

import inspect
import re
from collections.abc import AsyncIterable
from datetime import datetime
from typing import Any, BinaryIO, Generic, TypeVar, get_args

import msgspec

from cliffracer.durations import seconds
from cliffracer.errors import InvalidInput, SetupError
from cliffracer.wire.subjects import check_name

T = TypeVar("T")
Data = bytes | AsyncIterable[bytes] | BinaryIO
"""What an object may be made of; a file is read in a thread."""
MOST_HISTORY = 64
"""Values of a key; clients of NATS keep no more (ADR-8)."""
REQUIRED: Any = object()
"""Marks that there is no default."""
_KEY = re.compile(r"[-/_=.a-zA-Z0-9]+")


class Bucket(msgspec.Struct, frozen=True):
    """Names and sizes the bucket of a provided store: ``sessions: Annotated[KeyValue[Session], Bucket("sessions", ttl="1h")]``."""

    name: str
    """Its name: every app of the namespace that uses it shares the bucket."""
    ttl: float | str | None = None
    """How long a value lives after it was written; for ever if not given."""
    history: int = 1
    """How many values of each key are kept, at most 64; of objects always one."""
    replicas: int = 1
    """How many servers of a cluster keep it, where that is more than ``nats_replicas``."""
    max_bytes: int | None = None
    """What all values may take; then the oldest are dropped for new ones, and new objects are refused. No limit if not given."""

    def __post_init__(self) -> None:
        """Check what was given; `SetupError` for what no bucket can have."""
        if wrong := self._wrong():
            raise SetupError(f"Bucket({self.name!r}): {wrong}.")

    def _wrong(self) -> str:
        try:
            nothing = self.ttl is not None and seconds(self.ttl) == 0
        except (TypeError, ValueError) as error:
            return f"ttl: {error}"
        if nothing:
            return "a ttl of 0 keeps nothing. Give some time, or leave it out"
        if not 1 <= self.history <= MOST_HISTORY:
            return f"history={self.history} is no number of values of a key. Give 1 to {MOST_HISTORY}"
        if self.max_bytes is not None and self.max_bytes < 1:
            return f"max_bytes={self.max_bytes} has room for nothing. Give some bytes, or leave it out"
        return ""


class Entry(msgspec.Struct, Generic[T], frozen=True):
    """A value as the bucket has it. A deleted key has entries too, with ``deleted`` and no value."""

    key: str
    """Its key."""
    value: T | None
    """The value; None of one that was removed."""
    revision: int
    """Rises with every change of the bucket; what `KeyValue.update` compares."""
    time: datetime
    """When it was written, by the clock of NATS."""
    deleted: bool = False
    """Whether it says that the key was removed."""


class ObjectInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the store knows of an object; field names are those on the wire."""

    name: str
    """The name it was put under."""
    bucket: str
    nuid: str
    """The id under which its chunks are stored."""
    size: int = 0
    """Bytes."""
    chunks: int = 0
    digest: str = ""
    """``SHA-256=`` and the digest in URL-safe base64."""
    mtime: str = ""
    """When it was written, RFC 3339."""
    description: str = ""
    """As it was given to `put`, and so is ``metadata``."""
    metadata: dict[str, str] = {}
    deleted: bool = False


def bucket_of(annotation: Any) -> tuple[Bucket, Any]:
    """Return (bucket, type argument) of ``KeyValue[Session]``, ``Annotated[KeyValue[dict], Bucket("x")]`` and the like."""
    markers: tuple[Any, ...] = ()
    if hasattr(annotation, "__metadata__"):
        markers, annotation = annotation.__metadata__, annotation.__origin__
    given = get_args(annotation)
    item = given[0] if given else Any
    for marker in markers:
        if isinstance(marker, Bucket):
            return msgspec.structs.replace(marker, name=check_name(marker.name)), item
    if not given and isinstance(annotation, type) and annotation.__name__ == "ObjectStore":
        return Bucket("objects"), Any
    if not given:
        raise SetupError(f"{annotation} needs the type of its values. Write KeyValue[Session], or KeyValue[Any] for what may be anything.")
    return Bucket(_bucket_for(item)), item


def _bucket_for(item: Any) -> str:
    """Return ``user_session`` for `UserSession`, ``dict_str_int`` for ``dict[str, int]``: the same wherever the type is defined."""
    bare = re.sub(r"[\w.<>]+\.", "", inspect.formatannotation(item))
    return snake(re.sub(r"\W+", "_", bare, flags=re.ASCII).strip("_")) or "values"


def check_key(key: str) -> str:
    """Return a key that may be part of a subject (ADR-8); `InvalidInput` otherwise."""
    if len(key) <= 512 and _KEY.fullmatch(key) and not key.startswith(".") and not key.endswith(".") and ".." not in key:
        return key
    raise InvalidInput(f"{key[:80]!r} is no key: letters, digits and -/_=. without empty parts, 512 at most")


def snake(name: str) -> str:
    """Return ``UserSession`` as ``user_session``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
