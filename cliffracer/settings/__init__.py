"""The configuration of a service: its settings, where each comes from, and the secrets among them."""

from cliffracer.settings.secret import MASK, Discreet, Secret, decode_secret, encode_secret, masked
from cliffracer.settings.settings import Setting, Settings
from cliffracer.settings.sources import OTHER_VARIABLES, Origin

__all__ = [
    "MASK", "OTHER_VARIABLES", "Discreet", "Origin", "Secret", "Setting", "Settings", "decode_secret", "encode_secret", "masked",
]  # fmt: skip
