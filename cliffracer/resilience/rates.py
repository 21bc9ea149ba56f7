"""Rate limits: ``rate="10/s per identity"``, parsed and enforced."""

import re
from collections.abc import Awaitable, Callable
from ipaddress import IPv6Address, IPv6Network
from typing import Any, Literal

import msgspec

from cliffracer.durations import seconds, worded
from cliffracer.errors import Overloaded
from cliffracer.resilience.verdicts import RATE

_RATE = re.compile(r"(\d{1,9})\s*/\s*(\d*(?:\.\d+)?)\s*(ms|s|m|h|d)(?:\s+per\s+(identity|address))?")
_ONE = frozenset({"1s", "1m", "1h", "1d"})
Take = Callable[[str, "Rate"], Awaitable[float]]
"""Takes one call from the allowance of a key, which all replicas share; returns 0, or the seconds until there is more."""


class Rate(msgspec.Struct, frozen=True):
    """So many calls in so many seconds: for all callers together, or for each identity or address."""

    calls: int
    seconds: float
    per: Literal["identity", "address"] | None = None

    @classmethod
    def read(cls, text: str) -> "Rate":
        """Parse a rate; ValueError for an invalid one."""
        found = _RATE.fullmatch(text.strip())
        if found is None or int(found[1]) < 1:
            raise ValueError(f"{text!r} is no rate: write '10/s', '100/m per identity' or '5/10s per address'")
        length = seconds(f"{found[2] or 1}{found[3]}")
        if length <= 0:
            raise ValueError(f"{text!r} is no rate: its time is nothing")
        return cls(int(found[1]), length, found[4])  # type: ignore[arg-type]  # the pattern knows no other

    def __str__(self) -> str:
        """Return the rate as it is written."""
        length = worded(self.seconds)
        return f"{self.calls}/{length[1:] if length in _ONE else length}{f' per {self.per}' if self.per else ''}"

    def whose(self, context: Any, source: Any) -> str:
        """Return the key of the allowance for a call; an anonymous caller is identified by the address, if there is one."""
        if self.per is None:
            return ""
        if self.per == "identity" and context.identity is not None:
            return f"identity {context.identity.subject}"
        client = getattr(source, "client", None)
        return f"address {network_of(client.host)}" if client is not None else "unknown"


def network_of(host: str) -> str:
    """Return the address that calls are counted for; for IPv6 the network, since everybody has 2^64 addresses (RFC 6177)."""
    if ":" not in host:  # IPv4, or none
        return host
    try:
        address = IPv6Address(host)
    except ValueError:
        return host
    return str(address.ipv4_mapped or IPv6Network((int(address), 64), strict=False))


def limited(rate: Rate, name: str, take: Take, inner: Callable[[Any], Awaitable[Any]]) -> Callable[[Any], Awaitable[Any]]:
    """Return a step that lets calls through as often as the rate allows; `Overloaded` says when to come back.

    Its context's ``verdict`` is `RATE` then: it was not let in.
    """

    async def step(call: Any) -> Any:
        wait = await take(f"{name} {rate.whose(call.context, call.source)}", rate)
        if wait > 0:
            call.context.verdict = RATE
            raise Overloaded("called too often", retry_after=round(wait, 3), reason=RATE)
        return await inner(call)

    return step
