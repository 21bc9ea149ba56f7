"""``cliffracer trace``: one trace as a waterfall, gathered from what the processes that run remember."""

import asyncio
import shutil
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime

import msgspec

from cliffracer.cli.output import bad, fitted, fitted_table, good, print_json, printable, say, soft, strong, width
from cliffracer.cli.reach import looked, looked_at, permitted, reach_settings
from cliffracer.client import AsyncClient
from cliffracer.errors import NotFound
from cliffracer.messaging.directory import Remembered
from cliffracer.observability.lines import trace_id
from cliffracer.observability.spans import KEPT, RECENT, SHORTEST, SLOW, Span, summary

_PATIENCE = 0.2
_BAR = 12  # columns at least
_LATEST = 1e11  # seconds since 1970 that are a date
_EIGHTHS = " ▏▎▍▌▋▊▉"


def trace(*, wanted: str, count: int, as_json: bool) -> None:
    """Print one trace, or the last ones."""
    wanted = trace_id(wanted) or wanted.strip()
    settings = reach_settings()
    nothing: tuple[list[Span], int] = ([], 0)
    spans, asked = asyncio.run(looked(settings, lambda client: gathered(client, wanted), nothing))
    if not wanted:
        _list(spans, count, f"No call is remembered {looked_at(settings)}.", as_json=as_json)
        return
    if not spans:
        memory = f"each remembers its last {RECENT} calls, and {KEPT} that failed or took over {SLOW * 1000:g} ms"
        part = f"; of an id that is longer, give {SHORTEST} characters at least" if len(wanted) < SHORTEST else ""
        raise NotFound(
            f"no trace {wanted}{part}: {asked} service{'s were' if asked != 1 else ' was'} asked {looked_at(settings)}; {memory}"
        )
    if as_json:
        print_json({**summary(spans), "calls": spans})
        return
    say("\n".join(waterfall(spans, _room())))


async def print_trace(client: AsyncClient, traceparent: str) -> None:
    """Print the calls of a trace that has just been made, on standard error."""
    await asyncio.sleep(_PATIENCE)  # what its events began is likely to be over then
    spans, _ = await gathered(client, trace_id(traceparent))
    if spans:
        say("\n".join(waterfall(spans, _room())), err=True)


def _room() -> int:
    return shutil.get_terminal_size((100, 24)).columns if sys.stderr.isatty() or sys.stdout.isatty() else 100


async def gathered(client: AsyncClient, wanted: str) -> tuple[list[Span], int]:
    """Return the calls that are remembered of a trace, oldest first, and how many services were asked.

    A correlation id names a trace as well: the calls of it that only know the other id are found by that.
    """
    spans, asked = await _ask(client, wanted)
    others = (
        {span.trace for span in spans if span.trace and (len(wanted) < SHORTEST or not span.trace.startswith(wanted))} if wanted else set()
    )
    for other in sorted(others)[:8]:
        spans = [span for span in spans if span.trace != other] + (await _ask(client, other))[0]
    return sorted(spans, key=lambda span: span.began), asked


async def _ask(client: AsyncClient, wanted: str) -> tuple[list[Span], int]:
    answers: list[Remembered] = await client.directory.ask("TRACE", patience=_PATIENCE, kind=Remembered, payload=wanted.encode())
    permitted(client, "$SRV.TRACE")
    return [_tame(span) for answer in answers for span in answer.spans if 0 < span.began < _LATEST and span.ms >= 0], len(answers)


def _tame(span: Span) -> Span:
    """Return a span whose words move no cursor: anybody on NATS may have answered."""
    words = {
        name: printable(getattr(span, name)) for name in ("service", "name", "kind", "trace", "id", "parent", "correlation", "outcome")
    }
    return msgspec.structs.replace(span, **words)


def _list(spans: Sequence[Span], count: int, nobody: str, *, as_json: bool) -> None:
    traces: dict[str, list[Span]] = {}
    for span in spans:
        traces.setdefault(span.trace or span.correlation, []).append(span)
    newest = sorted(traces.items(), key=lambda one: one[1][0].began)[-count:]
    if as_json:
        print_json([{"id": known, "name": _name(_first(found)), "began": found[0].began, **summary(found)} for known, found in newest])
        return
    rows = [
        [
            soft(f"{datetime.fromtimestamp(found[0].began):%H:%M:%S}"),  # noqa: DTZ006 - for whoever looks, in their time
            known,
            strong(_name(_first(found))),
            summary(found)["ms"],
            _outcome(_first(found)) or (bad("failed inside") if summary(found)["failed"] else good("ok")),
        ]
        for known, found in newest
    ]
    say("\n".join(fitted_table(["time", "id", "began with", "ms", ""], rows, whole=(1,))) if rows else soft(nobody))


def waterfall(spans: Sequence[Span], room: int) -> list[str]:
    """Return the lines of a trace: its calls as a tree, each with a bar where it ran and how long that took."""
    whole = summary(spans)
    rows = list(_tree(spans))
    begin = min(began for _, _, began in rows)
    total = max(1e-6, *(began - begin + span.ms / 1000 for _, span, began in rows))
    labels = [f"{branch}{printable(_name(span))}" for branch, span, _ in rows]
    kinds = max(width(span.kind) for span in spans)
    label = min(max(map(width, labels)), max(16, room - kinds - _BAR - 14))
    bar = max(_BAR, room - label - kinds - 18 - max(len(span.outcome) + 1 if span.outcome != "ok" else 0 for span in spans))
    services = f"{len(whole['services'])} service{'s' if len(whole['services']) != 1 else ''}"
    calls = f"{len(spans)} call{'s' if len(spans) != 1 else ''}"
    ids = [f"{soft('trace')} {strong(whole['trace'])}"] if whole["trace"] else []
    ids += [f"{soft('correlation id')} {printable(whole['correlation'])}"] if whole["correlation"] else []
    when = f"{datetime.fromtimestamp(begin):%Y-%m-%d %H:%M:%S}"  # noqa: DTZ006 - for whoever looks, in their time
    lines = [*ids, soft(f"{when}, {calls} in {services}, {_duration(total * 1000)}"), ""]
    for text, (_, span, began) in zip(labels, rows, strict=True):
        shown = fitted(text, label)
        drawn = _bar((began - begin) / total, span.ms / 1000 / total, bar)
        drawn = bad(drawn) if span.outcome != "ok" else good(drawn)
        kind = soft(span.kind.ljust(kinds))
        lines.append(f"{shown}{' ' * (label - width(shown))}  {kind}  {drawn} {_duration(span.ms).rjust(9)} {_outcome(span)}".rstrip())
    return lines


def _tree(spans: Sequence[Span]) -> Iterator[tuple[str, Span, float]]:
    """Yield (branch, span, began), parents before children; a child cannot begin before its parent, whatever its machine's clock says."""
    known = {span.id for span in spans if span.id}
    children: dict[str, list[Span]] = {}
    for span in spans:
        children.setdefault(span.parent if span.parent in known and span.parent != span.id else "", []).append(span)
    seen: set[int] = set()

    def walk(parent: str, stem: str, since: float, shift: float, *, top: bool) -> Iterator[tuple[str, Span, float]]:
        below = [span for span in children.get(parent, []) if id(span) not in seen]
        for number, span in enumerate(below):
            seen.add(id(span))
            last = number == len(below) - 1
            later = max(shift, since - span.began)
            yield ("" if top else f"{stem}{'└ ' if last else '├ '}", span, span.began + later)
            if span.id:
                yield from walk(span.id, "" if top else f"{stem}{'  ' if last else '│ '}", span.began + later, later, top=False)

    yield from walk("", "", float("-inf"), 0.0, top=True)
    for span in spans:  # of a circle, which only a forged id can make
        if id(span) not in seen:
            yield ("", span, span.began)


def _bar(start: float, share: float, columns: int) -> str:
    """Return a bar from ``start`` over ``share`` of so many columns, at least an eighth of one wide."""
    left = min(int(start * columns), columns - 1)
    eighths = max(1, min(round(share * columns * 8), (columns - left) * 8))
    drawn = " " * left + "█" * (eighths // 8) + (_EIGHTHS[eighths % 8] if eighths % 8 else "")
    return drawn.ljust(columns)


def _first(spans: Sequence[Span]) -> Span:
    return next((span for span in spans if not span.parent), spans[0])


def _name(span: Span) -> str:
    return f"→ {span.name}" if span.kind == "call" else f"{span.service}.{span.name}"


def _outcome(span: Span) -> str:
    return "" if span.outcome == "ok" else bad(span.outcome)


def _duration(ms: float) -> str:
    return f"{ms / 1000:.2f} s" if ms >= 1000 else f"{ms:.1f} ms" if ms >= 1 else f"{ms:.2f} ms"
