"""CloudEvents 1.0 attributes as message headers, binary mode (NATS protocol binding, section 3.1).

The attribute ``id`` is also ``Nats-Msg-Id``, by which the stream suppresses duplicates.
"""

import hashlib
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from time import gmtime, strftime, time_ns
from typing import Any

import msgspec

from cliffracer.errors import Unsendable
from cliffracer.wire.headers import MESSAGE_ID, VIA

ID = "ce-id"
TYPE = "ce-type"
SOURCE = "ce-source"
TIME = "ce-time"
VERSION = "ce-specversion"
KEY = "ce-partitionkey"
SPEC = "1.0"
_LONGEST_KEPT = 500  # characters, of up to four bytes: an index of PostgreSQL takes 2,704
_key = re.compile(rb"\r\n" + KEY.encode() + rb"[ \t]*:[ \t]*([^\r\n]*)", re.IGNORECASE)
_latest = 0, ""  # the millisecond in which `now_text` was asked last, and its text


class Attributes(msgspec.Struct, frozen=True):
    """The CloudEvents attributes of a message; empty where they are missing."""

    id: str = ""
    type: str = ""
    source: str = ""
    time: datetime | None = None
    key: str = ""
    """Events of one key keep their order where the subscriber asks for it (extension ``partitionkey``)."""


def event_block(  # noqa: PLR0917 - called for every event, and keywords cost
    event_id: str,
    kind: str,
    source: str,
    correlation: str,
    traceparent: str,
    token: str | None = None,
    way: str | None = None,
    key: str | None = None,
) -> bytes:
    """Return the header block of an event that is emitted now: ``Nats-Msg-Id``, CloudEvents' attributes, and the context it is emitted in.

    `Unsendable` for an id or a key that would break out of its line.
    """
    more = "" if token is None else f"Authorization: Bearer {token}\r\n"
    if way is not None:
        more += f"{VIA}: {way}\r\n"
    values = event_id + kind
    if key:
        more += f"{KEY}: {key}\r\n"
        values += key
    if not values.isprintable():
        raise Unsendable("the id and the key of an event have no control characters or line breaks")
    return (  # the names themselves, not what they are called here: looking these up takes a quarter of the time
        f"NATS/1.0\r\nX-Correlation-ID: {correlation}\r\ntraceparent: {traceparent}\r\n{more}ce-id: {event_id}\r\n"
        f"ce-type: {kind}\r\nce-source: {source}\r\nce-time: {now_text()}\r\nce-specversion: 1.0\r\nNats-Msg-Id: {event_id}\r\n\r\n"
    ).encode()


def now_text() -> str:
    """Return the time, ``2026-11-22T21:56:43.584Z``; made once for each millisecond (isoformat costs three times as much)."""
    global _latest  # noqa: PLW0603 - a cache of one value
    now = time_ns() // 1_000_000
    known, text = _latest
    if now != known:
        second, milliseconds = divmod(now, 1000)
        whole = text[:19] if second == known // 1000 else strftime("%Y-%m-%dT%H:%M:%S", gmtime(second))
        text = f"{whole}.{milliseconds:03d}Z"
        _latest = now, text
    return text


def attributes(headers: Mapping[str, Any]) -> Attributes:
    """Return the attributes in the headers of any sender: a missing id is the message id, an unreadable time is None."""
    return Attributes(
        id=headers.get(ID) or headers.get(MESSAGE_ID) or "",
        type=headers.get(TYPE, ""),
        source=headers.get(SOURCE, ""),
        time=_time(headers.get(TIME)),
        key=headers.get(KEY, ""),
    )


def key_in(block: bytes | None) -> bytes:
    """Return the key in a header block, without parsing the rest; empty if there is none."""
    found = _key.search(block or b"")
    return b"" if found is None else found[1].rstrip()


def kept_id(event_id: str) -> str:
    """Return an id as a database can store it: a digest of one that is too long or has control characters."""
    if len(event_id) <= _LONGEST_KEPT and event_id.isprintable():
        return event_id
    return f"sha256:{hashlib.sha256(event_id.encode('utf-8', 'surrogatepass')).hexdigest()}"


def _time(text: str | None) -> datetime | None:
    try:
        found = datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
    return found.replace(tzinfo=UTC) if found is not None and found.tzinfo is None else found
