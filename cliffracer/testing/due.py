"""Delayed events in a test whose clock was moved: the server, which stores them, has its own clock."""

import importlib

from cliffracer.messaging.emitter import Emitter
from cliffracer.settings import Settings
from cliffracer.testing.clock import MovableClock
from cliffracer.wire.cloudevents import attributes
from cliffracer.wire.headers import AUTHORIZATION

LASTING = 600.0
"""Seconds that a token lives which replaces one that is not valid yet."""


async def hasten(emitter: Emitter, clock: MovableClock, settings: Settings) -> bool:
    """Emit the events that are due by a test's clock, with their emitters' identity; say whether there were any."""
    found = []
    async for note, due, subject in emitter.notes():
        emitted = attributes(note.headers).time
        if clock.past(0.0 if emitted is None else emitted.timestamp(), due.timestamp()):
            found.append((note, due, subject))
    for note, due, subject in found:
        shown = note.headers.get(AUTHORIZATION)
        more = {} if shown is None else {AUTHORIZATION: _good_now(shown, due.timestamp(), settings)}
        await emitter.bring_forward(note, subject, more)
    return bool(found)


def _good_now(shown: str, due: float, settings: Settings) -> str:
    security = importlib.import_module("cliffracer.security.authority")  # by name: most tests need no tokens
    tokens = security.tokens_of(settings)
    scheme, _, token = shown.partition(" ")
    try:
        claims = tokens.verify(token, now=due)
    except security.RefusedToken:  # the test wants to see that it is
        return shown
    subject, roles, permissions = claims.pop("sub"), claims.pop("roles", ()), claims.pop("permissions", ())
    return f"{scheme} {tokens.issue(subject, ttl=LASTING, roles=roles, permissions=permissions, claims=claims)}"
