"""What handlers are given of the broker's stores."""

from collections.abc import Callable
from typing import Any

from cliffracer.messaging.contract import Backend
from cliffracer.messaging.stores import bucket_of


def given_by(backend: Backend) -> dict[str, Callable[[Any], Any]]:
    """Return what a handler is given for each annotation that a store answers; nothing is made on the server before it is used."""
    return {
        "cliffracer.messaging.keyvalue.KeyValue": lambda annotation: backend.values(*bucket_of(annotation)),
        "cliffracer.messaging.objects.ObjectStore": lambda annotation: backend.objects(bucket_of(annotation)[0]),
    }
