"""The provenance of a call, signed: the list of services that it came through, which any receiver can verify as a whole.

A service that got a verified list appends itself and signs the result; an unverified list is passed on unsigned, so that nobody can
have a claim of their own signed by us. The signature covers the list, the token that goes along and a time: it is of no use to another
caller, and not for long. It does not prove that nothing was left out: a service can pass a call on as if it were the first.
"""

import hashlib
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from typing import TypeVar

from joserfc.errors import JoseError

from cliffracer.context import Context, stored_at
from cliffracer.security.credentials import bearer
from cliffracer.security.keys import Key, signer

LIFE = 900.0
"""Seconds that a signature is good, so that it can be used again: at half of that another is made."""
LATE = 3600.0
"""Seconds after it is due that the signature of an event which was put off is good."""
_REMEMBERED = 4096
K = TypeVar("K")
V = TypeVar("V")
_LONGEST = 4096


class Provenance:
    """Signs and verifies provenance with the keys that sign and verify tokens."""

    def __init__(self, keys: Sequence[Key]) -> None:
        self._keys = keys
        self._signed: dict[tuple[str, str | None], tuple[str, float]] = {}
        self._verified: dict[tuple[str, str | None], float] = {}

    def onward(self, context: Context, token: str | None, due: float | None = None) -> str | None:
        """Return what goes along with a call's calls: the services that it came through and this one, signed if that is proven.

        ``token`` goes along, too; ``due`` is when it is delivered, if not now.
        """
        way = context.way()
        if way is None or (context.said_way() is not None and not self.proven(context)):
            return way
        key = signer(self._keys)
        if key is None:
            return way
        now = time.time()
        if due is not None:
            return _signed(key, way, int(max(due, now) + LATE), token)
        known = self._signed.get((way, token))
        if known is None or known[1] < now:
            known = _signed(key, way, int(now + LIFE), token), now + LIFE / 2
            _remember(self._signed, (way, token), known)
        return known[0]

    def proven(self, context: Context) -> bool:
        """Say whether each service that a call says it came through has signed for that; never of a call that names none."""
        said = context.said_way()
        if said is None or len(said) > _LONGEST:
            return False
        token = bearer(context.headers, context.kind)
        stored = stored_at(context)
        until = self._verified.get((said, token))
        if until is None:
            until = self._end_of(said, token) if context.via else 0.0
            if until:  # what strangers say is not kept: it may be as long as a message
                _remember(self._verified, (said, token), until)
        return until >= (time.time() if stored is None else stored)

    def _end_of(self, said: str, token: str | None) -> float:
        """Return until when a signature is good; 0 for one that is none of ours."""
        way, _, proof = said.partition(";")
        until, _, text = proof.partition(".")
        if not (until.isascii() and until.isdigit() and len(until) <= 12):
            return 0.0
        try:
            signature = urlsafe_b64decode(text + "=" * (-len(text) % 4))
        except ValueError:
            return 0.0
        return float(until) if any(_is_of(key, _message(way, int(until), token), signature) for key in self._keys) else 0.0


def _signed(key: Key, way: str, until: int, token: str | None) -> str:
    signature = urlsafe_b64encode(key.sign(_message(way, until, token))).rstrip(b"=").decode()
    return f"{way};{until}.{signature}"


def _is_of(key: Key, message: bytes, signature: bytes) -> bool:
    try:
        return key.verifies(message, signature)
    except (JoseError, ValueError, TypeError):  # not even a signature of its algorithm
        return False


def _message(way: str, until: int, token: str | None) -> bytes:
    """Return what is signed, which is no token's: those have no line breaks."""
    return f"cliffracer way\n{way}\n{until}\n{hashlib.sha256((token or '').encode()).hexdigest()}".encode()


def _remember(known: dict[K, V], key: K, value: V) -> None:
    while len(known) >= _REMEMBERED:
        del known[next(iter(known))]  # the oldest
    known[key] = value
