"""Cliffracer's own buckets, which apps need beside those that they name."""

from collections.abc import Iterator, Sequence

from cliffracer.declarations import Socket
from cliffracer.frozen import Frozen
from cliffracer.messaging import rates, revocations, tickets
from cliffracer.messaging.stores import Bucket


def own_buckets(frozen: Sequence[Frozen], *, identified: bool) -> Iterator[Bucket]:
    """Yield the buckets that apps need beside those that they name, and no others: NATS permissions may not allow more.

    ``identified``: whether callers show tokens, some of which may be revoked.
    """
    if any(getattr(d.record, "rate", None) is not None for app in frozen for d in app.declared):
        yield rates.BUCKET
    if identified:
        yield revocations.BUCKET
        if any(app.of(Socket) for app in frozen):
            yield tickets.BUCKET
