"""Samples, their medians and the ratios between contestants of the same round."""

from statistics import median, quantiles
from typing import Literal

import msgspec

from benchmarks.load.result import Result
from benchmarks.processes import Process

Measured = Literal["server", "driver", "both"]
Figure = Literal["rate", "cpu", "nats_cpu", "p50", "p99"]


class Sample(msgspec.Struct):
    """One contestant in one round: calls per second, processor time per call and latencies in microseconds."""

    errors: int = 0
    reason: str = ""
    rate: float = 0.0
    cpu: float = 0.0
    nats_cpu: float = 0.0
    p50: float | None = None
    p99: float | None = None


class Meter:
    """Processor time of the contestant's processes and of nats-server while a command runs."""

    def __init__(self, processes: list[Process], nats: Process) -> None:
        self.processes = processes
        self.nats = nats

    def take(self, driver: Process, command: dict[str, object]) -> tuple[Result, Sample]:
        """Run a command and return what came of it, as it was reported and as a sample."""
        before, nats_before = self._used(), self.nats.cpu()
        result = driver.ask(**command)
        used, nats_used = self._used() - before, self.nats.cpu() - nats_before
        if result.errors or not result.calls:
            gone = "".join(
                f"; {process.name} ended: {process.last_line()}" for process in self.processes if process.child.poll() is not None
            )
            return result, Sample(errors=max(1, result.errors), reason=result.reason + gone)
        micro = 1e6 / result.calls
        latency = [None if value is None else value * 1e6 for value in (result.p50, result.p99)]
        return result, Sample(0, "", result.calls / result.seconds, used * micro, nats_used * micro, *latency)

    def _used(self) -> float:
        return sum(process.cpu() for process in self.processes)


class Standing:
    """All samples of one contestant in one suite."""

    def __init__(self, label: str, missing: str = "") -> None:
        self.label = label
        self.missing = missing
        """Why it did not take part; empty when it did."""
        self.samples: list[Sample] = []

    @property
    def errors(self) -> int:
        """Failed calls over all rounds."""
        return sum(sample.errors for sample in self.samples)

    @property
    def reason(self) -> str:
        """Why there are no figures; empty when there are."""
        failed = next((sample.reason for sample in self.samples if sample.errors), "")
        return self.missing or (f"{self.errors} calls failed: {failed}" if self.errors else "" if self.samples else "not run")

    def median(self, figure: Figure) -> float | None:
        """Return the median over rounds; None when any call failed or the figure was not taken."""
        values = [getattr(sample, figure) for sample in self.samples]
        return None if self.reason or None in values else median(values)

    def ratios(self, base: "Standing", figure: Figure) -> list[float]:
        """Return this contestant's figure by the other's, round by round."""
        if self.reason or base.reason:
            return []
        pairs = [(getattr(a, figure), getattr(b, figure)) for a, b in zip(self.samples, base.samples, strict=True)]
        return [a / b for a, b in pairs if a is not None and b]


def middle(ratios: list[float]) -> float | None:
    """Return the median ratio."""
    return median(ratios) if ratios else None


def spread(ratios: list[float]) -> str:
    """Return the middle half of the ratios as text: ``0.61-0.66``."""
    if len(ratios) < 2:
        return ""
    low, _, high = quantiles(ratios, n=4, method="inclusive")
    return f"{low:.2f}-{high:.2f}"
