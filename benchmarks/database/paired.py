"""Contestants in turns, round after round, and the ratios between them."""

import gc
import time
from collections.abc import Awaitable, Callable
from statistics import median

import msgspec

Work = Callable[[], Awaitable[None]]


class Row(msgspec.Struct):
    """One contestant: microseconds of this process's CPU and of the clock per operation, round by round."""

    label: str
    cpu: list[float] = []
    wall: list[float] = []


class Table(msgspec.Struct):
    """One comparison; the first row is what the others are compared with."""

    title: str
    unit: str
    rows: list[Row]
    note: str = ""

    def text(self) -> str:
        """Return the table in Markdown."""
        base = self.rows[0]
        lines = [f"### {self.title}", "", f"| {self.unit} | CPU µs | CPU × | clock µs | clock × |", "| --- | --- | --- | --- | --- |"]
        for row in self.rows:
            cpu, wall = ratio(row.cpu, base.cpu), ratio(row.wall, base.wall)
            lines.append(f"| {row.label} | {median(row.cpu):.1f} | {cpu:.2f} | {median(row.wall):.1f} | {wall:.2f} |")
        return "\n".join([*lines, "", self.note, ""])


class Target(msgspec.Struct):
    """What must be reached: one row of a table beside another, at most so many times it."""

    words: str
    table: str
    row: str
    beside: str
    most: float
    figure: str = "cpu"

    def line(self, tables: list[Table]) -> str:
        """Return whether it is, as a line of Markdown."""
        rows = {row.label: row for table in tables if table.title == self.table for row in table.rows}
        found = ratio(getattr(rows[self.row], self.figure), getattr(rows[self.beside], self.figure))
        figure = {"cpu": "CPU", "wall": "clock"}[self.figure]
        return f"| {self.words} | {figure} ≤ {self.most:.2f} × | {found:.2f} | {'yes' if found <= self.most else '**no**'} |"


def ratio(ours: list[float], theirs: list[float]) -> float:
    """Return the median over rounds of one contestant's figure by another's."""
    return median(mine / other for mine, other in zip(ours, theirs, strict=True))


async def compare(title: str, unit: str, contestants: dict[str, tuple[Work, int]], *, rounds: int, note: str = "") -> Table:
    """Run each contestant once per round, in turns; its work is so many operations. An error ends the run: no figures."""
    rows = {label: Row(label, [], []) for label in contestants}
    for work, _ in contestants.values():
        await work()
    for number in range(rounds):
        order = list(contestants.items())
        for label, (work, count) in reversed(order) if number % 2 else order:
            gc.collect()
            cpu, wall = time.process_time(), time.perf_counter()
            await work()
            rows[label].cpu.append((time.process_time() - cpu) / count * 1e6)
            rows[label].wall.append((time.perf_counter() - wall) / count * 1e6)
    return Table(title, unit, list(rows.values()), note)
