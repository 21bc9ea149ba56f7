"""Events as a program in any language may publish them."""

from cliffracer.wire.cloudevents import ID, KEY, SOURCE, SPEC, TIME, TYPE, VERSION, now_text
from cliffracer.wire.headers import MESSAGE_ID


def event_headers(event_id: str, kind: str, source: str, *, key: str = "") -> dict[str, str]:
    """Return the headers of an event that is emitted now, ``Nats-Msg-Id`` among them."""
    made = {ID: event_id, TYPE: kind, SOURCE: source, TIME: now_text(), VERSION: SPEC, MESSAGE_ID: event_id}
    return {**made, KEY: key} if key else made
