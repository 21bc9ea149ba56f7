"""Revoked tokens: those that are refused although they have not expired."""

import time
from collections.abc import Mapping
from typing import Any

_FEW = 256
"""So many are kept, expired or not, before any are looked through."""


class Revocations:
    """Single tokens by ``jti``, and sessions by ``sid``, now or from a moment on.

    Looked up on every call, so each is a dict.
    """

    def __init__(self) -> None:
        self._tokens: dict[str, float] = {}
        self._later: dict[str, tuple[float, float]] = {}
        self._many = _FEW

    def apply(self, key: str, until: float, since: float | None = None) -> None:
        """Add a revocation from here or elsewhere, of a token or session: now, or from ``since`` on."""
        if since is not None:
            self.revoke_later(key, since, until)
        else:
            self.revoke(key, until)

    def revoke(self, jti: str, until: float) -> None:
        """Refuse one token, or all of a session, until they have expired anyway (``until``)."""
        self._tokens[jti] = max(until, self._tokens.get(jti, 0.0))
        self._forget()

    def revoke_later(self, session: str, since: float, until: float) -> None:
        """Refuse all tokens of a session from a moment on, which may be in the future."""
        known = self._later.get(session, (since, until))
        self._later[session] = (min(since, known[0]), max(until, known[1]))
        self._forget()

    def holds(self, claims: Mapping[str, Any]) -> bool:
        """Say whether a verified token is revoked."""
        if claims.get("jti") in self._tokens or ("sid" in claims and claims["sid"] in self._tokens):
            return True
        found = self._later.get(claims["sid"]) if self._later and "sid" in claims else None
        return found is not None and found[0] <= time.time()

    def __len__(self) -> int:
        return len(self._tokens) + len(self._later)

    def _forget(self) -> None:
        """Forget expired ones whenever there are twice as many as were left the last time: each is looked at a few times only."""
        if len(self) < self._many:
            return
        now = time.time()
        self._tokens = {jti: until for jti, until in self._tokens.items() if until > now}
        self._later = {session: found for session, found in self._later.items() if found[1] > now}
        self._many = max(_FEW, 2 * len(self))
