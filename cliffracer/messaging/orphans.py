"""Orphaned consumers: their functions were renamed or removed, and events go on waiting for them."""

import msgspec

from cliffracer.errors import NotFound
from cliffracer.messaging.configurations import FUNCTION, SERVICE
from cliffracer.messaging.jetstream import JetStream


class Orphan(msgspec.Struct, frozen=True):
    """A consumer of a service that none of its functions uses."""

    consumer: str
    service: str
    function: str
    lag: int
    """Events that wait for it; it is never deleted automatically, since they may be wanted."""
    since: str
    """When it was made, RFC 3339."""


async def orphans(jetstream: JetStream, stream: str, services: dict[str, set[str]]) -> list[Orphan]:
    """Return the consumers of a stream that belong to some services and to no function of any of them: a group may be that of several.

    ``services``: for each service, the names of its functions' consumers (`durable_name`). Consumers of other services or clients
    are ignored.
    """
    try:
        found = await jetstream.consumers(stream)
    except NotFound:
        return []
    used = {name for names in services.values() for name in names}
    lost = []
    for info in found:
        metadata = info.config.get("metadata") or {}
        service = metadata.get(SERVICE, "")
        if service in services and info.name not in used:
            lag = info.num_pending + info.num_ack_pending
            lost.append(Orphan(info.name, service, metadata.get(FUNCTION, ""), lag, info.created))
    return lost
