"""What to do about a server that does not answer, by where its address comes from."""

from typing import Any


def cure_of(settings: Any, name: str, otherwise: str) -> str:
    """Return where the URL in the setting of this name comes from, and what there is instead; ``otherwise`` where it has none."""
    origin = settings.origin(name) if hasattr(settings, "origin") else None
    if origin is not None and origin.place == "embedded":
        return "it is the embedded server of this folder: end what uses it, then cliffracer servers stop; the next run starts it anew."
    if origin is None or not origin.key:
        return otherwise
    place = "the environment" if origin.place == "environment" else origin.place
    instead = "Start a server there" if settings.env == "production" else "Unset it to use the embedded server, or start one"
    return f"{origin.key} is set in {place}. {instead}."
