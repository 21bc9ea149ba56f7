"""What handlers are given of the broker's stores, and which of its buckets we need ourselves."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from cliffracer.declarations import Socket
from cliffracer.frozen import Frozen
from cliffracer.messaging import rates, revocations, tickets
from cliffracer.messaging.broker import Backend
from cliffracer.messaging.stores import Bucket, bucket_of


def given_by(backend: Backend) -> dict[str, Callable[[Any], Any]]:
    """Return what a handler is given for each annotation that a store answers; nothing is made on the server before it is used."""
    return {
        "cliffracer.messaging.keyvalue.KeyValue": lambda annotation: backend.values(*bucket_of(annotation)),
        "cliffracer.messaging.objects.ObjectStore": lambda annotation: backend.objects(bucket_of(annotation)[0]),
    }


def buckets_of_ours(frozen: Sequence[Frozen], authority: Any) -> Iterator[Bucket]:
    """Yield the buckets that apps need beside those that they name, and no others: NATS may not let them ask for these."""
    if any(getattr(d.record, "rate", None) is not None for app in frozen for d in app.declared):
        yield rates.BUCKET
    if authority is not None:
        yield revocations.BUCKET
        if any(app.of(Socket) for app in frozen):
            yield tickets.BUCKET
