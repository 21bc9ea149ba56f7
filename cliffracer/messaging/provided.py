"""What handlers are given of JetStream's stores."""

from collections.abc import Callable
from typing import Any

from cliffracer.messaging.bus import Bus
from cliffracer.messaging.jetstream import JetStream
from cliffracer.messaging.keyvalue import KeyValue
from cliffracer.messaging.objects import ObjectStore
from cliffracer.messaging.stores import bucket_of


def given_by(bus: Bus, namespace: str) -> dict[str, Callable[[Any], Any]]:
    """Return what a handler is given for each annotation that a store answers; nothing is made on the server before it is used."""
    jetstream = JetStream(bus)

    def key_value(annotation: Any) -> KeyValue[Any]:
        bucket, of = bucket_of(annotation)
        return KeyValue(jetstream, bucket, of, namespace=namespace)

    def object_store(annotation: Any) -> ObjectStore:
        return ObjectStore(jetstream, bucket_of(annotation)[0], namespace=namespace)

    return {"cliffracer.messaging.keyvalue.KeyValue": key_value, "cliffracer.messaging.objects.ObjectStore": object_store}
