"""Consumers whose function was renamed: reported with what waits for them, never deleted."""

from cliffracer.messaging.jetstream import JetStream
from cliffracer.messaging.orphans import orphans
from cliffracer.wire.subjects import Subjects
from tests.messaging.jetstream.support import consuming, publisher
from tests.messaging.notes import Notes
from tests.support.waiting import eventually


async def test_a_renamed_function_leaves_an_orphan_with_its_lag(jetstream: JetStream, subjects: Subjects):
    """Those of functions that are there, and of other services, are none."""
    assert await orphans(jetstream, "EVENTS", {"users": set()}) == []
    for function in ("welcome", "greet"):
        async with consuming(jetstream, subjects, Notes(), function=function):
            pass
    await publisher(jetstream, subjects).publish("events.user.created", b"1")
    [orphan] = await orphans(jetstream, "EVENTS", {"users": {"users-greet"}})
    assert (orphan.consumer, orphan.service, orphan.function, orphan.lag) == ("users-welcome", "users", "welcome", 1)
    assert await orphans(jetstream, "EVENTS", {"payments": set()}) == []
    assert len(await jetstream.consumers("EVENTS")) == 2


async def test_a_group_that_another_service_goes_on_with_is_no_orphan(jetstream: JetStream, subjects: Subjects):
    """Though the service that made its consumer has no such function any more: what it takes is wanted."""
    async with consuming(jetstream, subjects, Notes(), group="mails"):
        pass
    assert await orphans(jetstream, "EVENTS", {"users": set(), "letters": {"mails"}}) == []
    assert [orphan.consumer for orphan in await orphans(jetstream, "EVENTS", {"users": set(), "letters": set()})] == ["mails"]


async def test_a_function_takes_over_from_an_orphan_by_its_group(jetstream: JetStream, subjects: Subjects):
    """It gets what waits, under its new name."""
    async with consuming(jetstream, subjects, Notes(), function="welcome"):
        pass
    await publisher(jetstream, subjects).publish("events.user.created", b"1")
    handler = Notes()
    async with consuming(jetstream, subjects, handler, function="users-welcome", group="users-welcome"):
        await eventually(lambda: handler.payloads == [b"1"])
