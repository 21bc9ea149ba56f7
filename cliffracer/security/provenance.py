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
"""Seconds that a signature is valid, so that it can be reused; after half of that a new one is made."""
LATE = 3600.0
"""Seconds after its time that the signature of a delayed event is valid."""
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
        """Return the provenance for calls that this call makes: the services it came through and this one, signed if they are proven.

        ``token`` is the one that goes along; ``due`` is when a delayed event is delivered.
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
        """Say whether the services that a call claims to have come through are signed; False if it names none."""
        said = context.said_way()
        if said is None or len(said) > _LONGEST:
            return False
        token = bearer(context.headers, context.kind)
        stored = stored_at(context)
        until = self._verified.get((said, token))
        if until is None:
            until = self._end_of(said, token) if context.via else 0.0
            if until:  # only valid ones are cached: strangers could send any, of any length
                _remember(self._verified, (said, token), until)
        return until >= (time.time() if stored is None else stored)

    def _end_of(self, said: str, token: str | None) -> float:
        """Return until when a signature is valid; 0 for one that is not ours."""
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
    """Return the signed bytes; they contain line breaks, so they can never be those of a token."""
    return f"cliffracer way\n{way}\n{until}\n{hashlib.sha256((token or '').encode()).hexdigest()}".encode()


def _remember(known: dict[K, V], key: K, value: V) -> None:
    while len(known) >= _REMEMBERED:
        del known[next(iter(known))]  # the oldest
    known[key] = value
