"""The services that run, by discovery: figures of all every few seconds, everything about one; cached for all who look."""

import asyncio
import time
from collections.abc import Iterable
from typing import Any

import msgspec

from cliffracer.client import AsyncClient
from cliffracer.detail import Detail, Handled
from cliffracer.errors import NotFound
from cliffracer.messaging.directory import Figures, Info, Stats

_FRESH = 1.5  # seconds that one look is good for
_PATIENCE = 0.3  # for the last of many replicas
_LATE = 2.5  # for replicas whose health checks take their time
_SEVERAL = 8  # unknown services that are asked one by one
Row = dict[str, Any]


class Catalog:
    """Asks when somebody looks; INFO, which cannot change, once per replica."""

    def __init__(self, client: AsyncClient) -> None:
        self._directory = client.directory
        self._infos: dict[str, Info] = {}
        self._rows: list[Row] = []
        self._details: list[Detail] = []
        self._counts: dict[str, tuple[float, int, int]] = {}
        self._looked = self._asked = float("-inf")
        self._looking, self._asking = asyncio.Lock(), asyncio.Lock()

    async def services(self) -> list[Row]:
        """Return one row per service: its replicas together, calls and errors a second since the last look."""
        async with self._looking:
            if time.monotonic() - self._looked > _FRESH:
                stats: list[Stats] = await self._patiently("STATS", "", Stats)
                await self._learn(stats)
                self._rows = self._rated(stats, time.monotonic())
                self._looked = time.monotonic()
            return self._rows

    async def names_in(self, env: str, *, patience: float | None = None) -> list[str]:
        """Return the services that say they run in an environment; with ``patience``, asked for that alone, also of those who are slow."""
        if patience is None:
            await self.services()
        infos = self._infos.values() if patience is None else await self._asked_of("INFO", "", Info, patience)
        return sorted({info.name for info in infos if (info.metadata or {}).get("env") == env})

    async def details(self) -> list[Detail]:
        """Return what every replica tells of itself: timers, health, settings."""
        async with self._asking:
            if time.monotonic() - self._asked > _FRESH:
                ours = sum(_ours(info) for info in self._infos.values())
                self._details = await self._asked_of("DETAIL", "", Detail, _LATE, expected=ours or None)
                self._asked = time.monotonic()
            return self._details

    async def service(self, name: str) -> Row:
        """Return everything about one service; `NotFound` if it does not run."""
        infos = await self._patiently("INFO", name, Info)
        if not infos:
            raise NotFound(f"no service {name} is running")
        stats, details = await asyncio.gather(
            self._asked_of("STATS", name, Stats, expected=len(infos)),
            self._asked_of("DETAIL", name, Detail, _LATE, expected=len(infos)),
        )
        schemas = {} if all(_has_schemas(info) for info in infos) else await self._directory.schemas(name)
        first: Info = infos[0]
        figures = {one.id: one for one in stats}
        told = {one.id: one for one in details}
        return {
            "name": name,
            "description": first.description,
            "versions": sorted({info.version for info in infos}),
            "ours": _ours(first),
            "events": _events(first),
            "replicas": [_replica(info, figures.get(info.id, Stats()), told.get(info.id)) for info in sorted(infos, key=lambda i: i.id)],
            "methods": _methods(infos, stats, schemas),
            "handlers": _handlers(details),
            "timers": details[0].timers if details else [],
            "settings": details[0].settings if details else [],
        }

    async def _patiently(self, verb: str, name: str, kind: type[Any]) -> list[Any]:
        """Ask, and once more with patience if nobody answers in time; where nobody is there NATS says so at once."""
        return await self._asked_of(verb, name, kind) or await self._asked_of(verb, name, kind, _LATE)

    async def _asked_of(
        self, verb: str, name: str, kind: type[Any], patience: float = _PATIENCE, *, expected: int | None = None
    ) -> list[Any]:
        """Ask; answers that do not say whose they are, or are somebody else's, are left out."""
        found = await self._directory.ask(verb, name, kind=kind, patience=patience, expected=expected)
        return [one for one in found if one.id and (one.name == name if name else one.name)]

    async def _learn(self, stats: list[Stats]) -> None:
        here = {one.id for one in stats}
        self._infos = {replica: info for replica, info in self._infos.items() if replica in here}
        unknown = sorted({one.name for one in stats if one.id not in self._infos})
        names = unknown if len(unknown) <= _SEVERAL else [""]
        for found in await asyncio.gather(*(self._asked_of("INFO", name, Info) for name in names)):
            self._infos.update({info.id: info for info in found})

    def _rated(self, stats: list[Stats], now: float) -> list[Row]:
        rows: dict[str, Row] = {}
        before, self._counts = self._counts, {}
        for one in sorted(stats, key=lambda found: (found.name, found.id)):
            all_of_it = [*one.endpoints, *one.handlers]
            calls, errors = _total(all_of_it, "num_requests"), _total(all_of_it, "num_errors")
            self._counts[one.id] = (now, calls, errors)
            then, calls_then, errors_then = before.get(one.id, (now, calls, errors))
            seconds = now - then
            row = rows.setdefault(one.name, self._row(one))
            row["replicas"] += 1
            row["calls"] += calls
            row["errors"] += errors
            if seconds > 0:
                row["rate"] = round(row["rate"] + max(0, calls - calls_then) / seconds, 2)
                row["failing"] = round(row["failing"] + max(0, errors - errors_then) / seconds, 2)
            timed = [figures for figures in all_of_it if not figures.lasting]
            row["p50_ms"] = max(row["p50_ms"], _slowest(timed, "p50_ms"))
            row["p95_ms"] = max(row["p95_ms"], _slowest(timed, "p95_ms"))
            row["started"] = min(filter(None, (row["started"], one.started)), default="")
        return list(rows.values())

    def _row(self, one: Stats) -> Row:
        info = self._infos.get(one.id, Info())
        zeros = {"replicas": 0, "calls": 0, "errors": 0, "rate": 0.0, "failing": 0.0, "p50_ms": 0.0, "p95_ms": 0.0}
        known = {"version": info.version, "description": info.description, "methods": len(one.endpoints), "events": len(_events(info))}
        return {"name": one.name, **known, "started": "", **zeros}


def _ours(info: Info) -> bool:
    return bool((info.metadata or {}).get("cliffracer"))


def _total(figures: Iterable[Figures], field: str) -> int:
    return sum(getattr(one, field) for one in figures)


def _slowest(figures: Iterable[Figures], field: str) -> float:
    """Return the slowest method's figure."""
    return max((one.ms(field) for one in figures), default=0.0)


def _events(info: Info) -> list[str]:
    return [subject for subject in (info.metadata or {}).get("events", "").split(",") if subject]


def _has_schemas(info: Info) -> bool:
    return all("request_schema" in (endpoint.metadata or {}) for endpoint in info.endpoints) or not info.metadata


def _replica(info: Info, stats: Stats, told: Detail | None) -> Row:
    failing = [] if told is None else [check for check in told.health if check.reason]
    return {
        "id": info.id,
        "version": info.version,
        "started": stats.started,
        "calls": _total([*stats.endpoints, *stats.handlers], "num_requests"),
        "errors": _total([*stats.endpoints, *stats.handlers], "num_errors"),
        "health": None if told is None else [f"{check.name}: {check.reason}" for check in failing],
        "ready": not any(check.critical for check in failing),
        "draining": told is not None and told.draining,
        "env": "" if told is None else told.env,
    }


def _methods(infos: list[Info], stats: list[Stats], schemas: dict[str, dict[str, str]]) -> list[Row]:
    found: dict[str, Row] = {}
    for endpoint in (endpoint for info in infos for endpoint in info.endpoints):
        told = {**(endpoint.metadata or {}), **schemas.get(endpoint.name, {})}
        given: Row = {"request": _schema(told.get("request_schema")), "response": _schema(told.get("response_schema"))}
        row = {"name": endpoint.name, "subject": endpoint.subject, "policy": told.get("policy", ""), **given}
        found.setdefault(endpoint.name, {**row, "calls": 0, "errors": 0, "last_error": "", "p50_ms": 0.0, "p95_ms": 0.0})
    for one in (one for replica in stats for one in replica.endpoints):
        if one.name in found:
            row = found[one.name]
            row["calls"] += one.num_requests
            row["errors"] += one.num_errors
            row["last_error"] = one.last_error or row["last_error"]
            for field in ("p50_ms", "p95_ms"):
                row[field] = max(row[field], _slowest([one], field))
    return list(found.values())


def _handlers(details: list[Detail]) -> list[Handled]:
    """Return the handlers of all replicas together, figures added up."""
    found: dict[tuple[str, str, str], Handled] = {}
    for handler in (handler for detail in details for handler in detail.handlers):
        known = found.setdefault((handler.kind, handler.name, handler.function), handler)
        if known is not handler:
            known.calls += handler.calls
            known.errors += handler.errors
            known.running += handler.running
            known.last_error = handler.last_error or known.last_error
            known.p95_ms = max(known.p95_ms, handler.p95_ms)
    return list(found.values())


def _schema(text: str | None) -> dict[str, Any] | None:
    """Return a schema that is published as text; None for none: anybody on NATS may have answered."""
    try:
        found = msgspec.json.decode(text or "null")
    except (msgspec.DecodeError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
