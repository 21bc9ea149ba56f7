"""Whether any function follows an event: for who emits one by hand and may have mistyped it."""

from cliffracer.client import AsyncClient
from cliffracer.contract import Contract
from cliffracer.errors import CliffracerError, NotFound
from cliffracer.messaging.jetstream import JetStream
from cliffracer.nearest import nearest
from cliffracer.wire.subjects import matches

_PATIENCE = 0.3  # seconds that the last of many replicas may take
_SOON = 2.0  # seconds for the answer of JetStream: the event is out, and this is a remark


async def unfollowed(client: AsyncClient, subject: str) -> str:
    """Return what to say of an event that no function follows, with what was perhaps meant; nothing if one does, or nobody can tell.

    A durable one is known by its consumer, also while its service is down; others by what the services tell that run.
    """
    try:
        followed = await _stored(client)
        if any(matches(pattern, subject) for pattern in followed):
            return ""
        told: list[Contract] = await client.directory.ask("CONTRACT", patience=_PATIENCE, kind=Contract)
    except CliffracerError:
        return ""
    followed |= {heard.subject for contract in told for heard in contract.hears}
    if any(matches(pattern, subject) for pattern in followed) or client.link.bus.refusals or any(contract.error for contract in told):
        return ""
    near = nearest(subject, sorted(one for one in followed if not {"*", ">"} & set(one)))
    return f"No function follows {subject}." + (f" Did you mean {near}?" if near else "")


async def _stored(client: AsyncClient) -> set[str]:
    """Return the patterns of events that consumers take."""
    subjects = client.link.subjects
    try:
        found = await JetStream(client.link.bus, timeout=_SOON).consumers(subjects.stream)
    except NotFound:
        return set()
    patterns = {one for info in found for one in (*(info.config.get("filter_subjects") or ()), info.config.get("filter_subject") or "")}
    return {one.removeprefix(subjects.events) for one in patterns if one.startswith(subjects.events)}
