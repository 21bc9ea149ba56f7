"""The deadline of the current call, for the database."""

from cliffracer.context import current


def deadline_now() -> float | None:
    """Return when the call that runs now must be over, by `time.monotonic`; None outside a call."""
    context = current.get()
    return None if context is None else context.deadline
