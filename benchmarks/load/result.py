"""What one stretch of load came to."""

import msgspec


class Result(msgspec.Struct):
    """Counts and times of one stretch; latencies in seconds, empty when a call failed or none were taken."""

    calls: int
    seconds: float
    errors: int = 0
    reason: str = ""
    p50: float | None = None
    p99: float | None = None

    @classmethod
    def of(cls, latencies: list[float], seconds: float, errors: int = 0, reason: str = "") -> "Result":
        """Return the result of calls whose latencies were taken; percentiles only if every call went well."""
        taken = sorted(latencies)
        if errors or not taken:
            return cls(len(taken), seconds, errors or int(not taken), reason or "no call was answered")
        return cls(len(taken), seconds, p50=taken[len(taken) // 2], p99=taken[min(len(taken) - 1, len(taken) * 99 // 100)])
