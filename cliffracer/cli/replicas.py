"""Tells who starts a service in development that it runs already: a second one takes half of the calls and events, which surprises."""

import logging

from cliffracer import runtime
from cliffracer.errors import ServiceError

log = logging.getLogger("cliffracer")


async def tell_replicas(up: runtime.Running) -> None:
    """Say of each service that others of its name answer on this NATS."""
    for service in up.services:
        name = service.frozen.name
        try:
            found = {one.id for one in await service.link.directory.ask("PING", name)}
        except ServiceError as error:  # whoever may not ask has nothing to be told
            log.debug("how often %s runs cannot be told: %s", name, error)
            continue
        if others := len(found - {service.id}):
            log.info("%s runs %d times now: its replicas share calls and events; cliffracer services %s", name, others + 1, name)
