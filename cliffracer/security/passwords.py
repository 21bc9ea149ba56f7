"""Passwords: argon2id (RFC 9106) in a few threads, so that many sign-ins at once take time and not memory."""

import asyncio
import secrets
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

from cliffracer.errors import InvalidInput, Overloaded, SetupError

SHORTEST = 8
LONGEST = 1024
"""Bytes of a password at most, so that hashing cannot be made expensive."""
_THREADS = 2
_WAITING = 64


class Passwords:
    """Hashes and checks passwords by OWASP's parameters: 19 MiB, two passes, one lane."""

    def __init__(self) -> None:
        self._hasher = _hasher()
        self._threads = ThreadPoolExecutor(_THREADS, "passwords")
        self._waiting = 0
        self.nobody = self._hasher.hash(secrets.token_urlsafe())
        """The hash of a random password, to check against where there is no account."""

    async def hash(self, password: str) -> str:
        """Return the hash of a new password; `InvalidInput` for one that is too short or too long."""
        text = _normal(password)
        if len(text) < SHORTEST:
            raise InvalidInput("the password is too short", errors=[{"path": "password", "message": f"{SHORTEST} characters at least"}])
        made: str = await self._run(self._hasher.hash, text)
        return made

    async def check(self, password: str, known: str | None) -> bool:
        """Say whether a password matches a hash; without a hash it takes as long and returns False."""
        text = _normal(password)
        good: bool = await self._run(_verifies, self._hasher, known or self.nobody, text)
        return good and known is not None

    def outdated(self, known: str) -> bool:
        """Say whether a hash has outdated parameters, so that it should be made again."""
        return bool(self._hasher.check_needs_rehash(known))

    async def _run(self, work: Any, *args: Any) -> Any:
        if self._waiting >= _WAITING:
            raise Overloaded("too many are signing in", retry_after=2.0)
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work, *args)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)


@cache
def _hasher() -> Any:
    try:
        from argon2 import PasswordHasher  # noqa: PLC0415 - only who keeps accounts needs it
    except ImportError:
        raise SetupError('Accounts need cliffracer[accounts]: pip install "cliffracer[accounts]".') from None
    return PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)


def _verifies(hasher: Any, known: str, text: str) -> bool:
    from argon2.exceptions import InvalidHashError, VerificationError  # noqa: PLC0415 - as above

    try:
        return bool(hasher.verify(known, text))
    except (VerificationError, InvalidHashError):
        return False


def _normal(password: str) -> str:
    """Return a password in its normal form, the same however a keyboard composes it."""
    text = unicodedata.normalize("NFKC", password) if len(password) <= LONGEST else password  # a megabyte of accents is minutes
    if len(text.encode("utf-8", "surrogatepass")) > LONGEST or "\0" in text:
        raise InvalidInput("the password is too long", errors=[{"path": "password", "message": f"{LONGEST} bytes at most, without NUL"}])
    return text
