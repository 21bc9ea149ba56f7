"""What one user can make of its permissions who publishes with reply subjects of its own choice, and hears itself."""

from collections.abc import Sequence

import nats

from cliffracer.permissions.nats import DEPLOY, Permissions
from cliffracer.wire.subjects import matches
from tests.support.nats import NatsServer

_SECRET = b"escaped "


def ways_of(found: Permissions) -> list[str]:
    """Return subjects that the user may both publish and hear: one for each pattern that leads there."""
    heard = [entry.partition(" ")[0] for entry in found.subscribe]
    some = {pattern.replace("*", "x").replace(">", "x") for pattern in (*found.publish, *heard)}
    return sorted(
        one for one in some if any(matches(pattern, one) for pattern in found.publish) and any(matches(pattern, one) for pattern in heard)
    )


async def escaped(server: NatsServer, found: Permissions, targets: Sequence[str]) -> set[str]:
    """Return the ``way -> target`` by which something was published that the user may not: nothing, if all is well."""
    seen: list[str] = []
    refused: list[str] = []

    async def see(message: nats.aio.msg.Msg) -> None:
        if message.data.startswith(_SECRET):
            seen.append(message.data.removeprefix(_SECRET).decode())

    async def note(error: Exception) -> None:
        refused.append(str(error))

    watching = await nats.connect(server.url, user=DEPLOY, password=f"{DEPLOY}-password")
    await watching.subscribe(">", cb=see)
    await watching.flush()
    client = await nats.connect(server.url, user=found.user, password=f"{found.user}-password", error_cb=note)
    for entry in found.subscribe:
        place, _, queue = entry.partition(" ")
        await client.subscribe(place, queue=queue)
    await client.flush()
    assert refused == []
    for way in ways_of(found):
        for target in targets:
            await client.publish(way, b"", reply=target)
            await client.publish(target, _SECRET + f"{way} -> {target}".encode())
        await client.flush()
    await client.close()
    await watching.flush()
    await watching.close()
    return set(seen)
