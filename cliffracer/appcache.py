"""The cache of a running app: opens the stores that its cached functions name, and tells other replicas what is invalid."""

import importlib
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from cliffracer.app import App
from cliffracer.caching.answers import Answers
from cliffracer.caching.outage import PATIENCE
from cliffracer.clock import Clock
from cliffracer.errors import SetupError
from cliffracer.frozen import Frozen
from cliffracer.messaging.bus import Bus
from cliffracer.messaging.caches import NatsStore, hearing
from cliffracer.messaging.jetstream import JetStream
from cliffracer.settings import Settings
from cliffracer.wire.subjects import Subjects


@asynccontextmanager
async def app_cache(  # noqa: PLR0917 - called in one place
    app: App, frozen: Frozen, bus: Bus, settings: Settings, clock: Clock, transaction: Callable[[], Any]
) -> AsyncIterator[None]:
    """Cache answers while the block runs; `SetupError` for a store that is not available."""
    provided = {provider.provides for provider in frozen.providers}
    answers = Answers(frozen.name, frozen.version, now=clock.now, provides=provided.__contains__, transaction=transaction)
    async with AsyncExitStack() as stack:
        for name in {record.store for record in frozen.cached} - {"memory"}:
            answers.use(name, await _opened(name, frozen, bus, settings, stack))
        memory, subjects = answers.memory, Subjects(settings.namespace)
        answers.say = await stack.enter_async_context(hearing(bus, subjects, frozen.name, memory.drop, memory.clear))
        for record in frozen.cached:
            record.forget_figures()
            record.live.append(answers)
        app.cache.keeps.append(answers)
        try:
            yield
        finally:
            app.cache.keeps.remove(answers)
            for record in frozen.cached:
                record.live.remove(answers)
            await answers.close()


async def _opened(name: str, frozen: Frozen, bus: Bus, settings: Settings, stack: AsyncExitStack) -> Any:
    if name == "nats":
        store = NatsStore(JetStream(bus), frozen.name, settings.namespace)
        await store.open()
        return store
    users = ", ".join(record.name for record in frozen.cached if record.store == "redis")
    if settings.redis_url is None:
        raise SetupError(f"{users} is kept in Redis, and REDIS_URL is not set. Set it, or use store='nats', which needs nothing more.")
    try:
        redis = importlib.import_module("cliffracer.caching.redisstore")
    except ImportError:
        raise SetupError('A cache in Redis needs cliffracer[redis]: pip install "cliffracer[redis]".') from None
    return await stack.enter_async_context(redis.redis_store(settings.redis_url, frozen.name, settings.namespace, PATIENCE))
