"""What load balancers, people and Prometheus see."""

import asyncio
import re
from typing import Any

from cliffracer import App
from cliffracer.errors import Unavailable
from cliffracer.observability.health import Health


def declare(app: App) -> None:
    """Declare a route."""

    @app.get("/a")
    async def get_a(n: int = 0) -> int:
        return n


async def test_live_looks_at_nothing(serve: Any, app: App) -> None:
    """``/health`` is 200 while the process can answer, whatever fails or drains."""
    declare(app)
    async with serve(app) as served:
        served.health.add("nats", lambda: False)
        served.health.draining = True
        answer = await served.http.get("/health")
        assert (answer.status_code, answer.json()) == (200, {"status": "ok", "service": "shop"})
        assert (await served.http.head("/health")).status_code == 200
        assert (await served.http.post("/health")).status_code == 405


async def test_ready_tells_why_not(serve: Any, app: App) -> None:
    """``/health/ready`` is 503 with reasons while starting, stopping, or when something critical fails."""
    declare(app)
    async with serve(app) as served:
        answer = await served.http.get("/health/ready")
        assert (answer.status_code, answer.json()["reasons"]) == (200, [])
        served.health.ready = False
        assert (await served.http.get("/health/ready")).json()["reasons"] == ["starting"]
        served.health.ready = True

        async def raises() -> None:
            raise RuntimeError("postgres://user:secret@host")

        async def away() -> None:
            raise Unavailable("no connection")

        served.health.add("nats", lambda: False)
        served.health.add("cache", raises, critical=False)
        served.health.add("database", away)
        answer = await served.http.get("/health/ready")
        assert (answer.status_code, answer.json()["reasons"]) == (503, ["nats: failed", "database: no connection"])
        detailed = await served.http.get("/health/detailed")
        assert detailed.json()["checks"]["cache"] == {"status": "raised RuntimeError", "critical": False}
        assert "secret" not in detailed.text
        served.health.draining = True
        assert (await served.http.get("/health/ready")).json()["reasons"] == ["stopping"]


async def test_a_check_that_is_not_critical_does_not_hold_up_readiness(serve: Any, app: App) -> None:
    """A probe of a load balancer has little patience: what does not decide it is looked at for the log, but not waited for."""
    declare(app)
    begun, answers = asyncio.Event(), asyncio.Event()

    async def slow() -> None:
        begun.set()
        await answers.wait()

    async with serve(app) as served:
        served.health.within = 60
        served.health.add("slow", slow, critical=False)
        assert (await served.http.get("/health/ready")).status_code == 200
        await begun.wait()
        answers.set()
        assert (await served.http.get("/health/detailed")).json()["status"] == "ok"


async def test_hung_check_does_not_hang_health(serve: Any, app: App) -> None:
    """A check that does not answer counts as failed after its time, and is not started twice."""
    declare(app)
    started: list[bool] = []

    async def hangs() -> None:
        started.append(True)
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if len(started) > 1:
                    raise
                started.append(False)  # it does not even listen, the first time

    async with serve(app) as served:
        served.health.within = 0.1
        served.health.add("hangs", hangs)
        answers = await asyncio.gather(*(served.http.get("/health/ready") for _ in range(5)))
        assert {answer.status_code for answer in answers} == {503}
        assert answers[0].json()["reasons"] == ["hangs: no answer within 0.1 s"]
        assert started == [True, False]
        assert (await served.http.get("/health/ready")).status_code == 503


async def test_what_costs_a_round_trip_is_asked_once_for_all_who_look_in_a_second() -> None:
    """Scrapers and probes share its answer, a failure too, for the time that it is kept; readiness asks anew and tells them."""
    clock, asked, fails = [100.0], [], [True]

    async def far() -> None:
        asked.append(clock[0])
        await asyncio.sleep(0)
        if fails:
            raise Unavailable("it is far away")

    async def reasons() -> list[str]:
        return [found.reason for found in await health.findings()]

    health = Health("shop", now=lambda: clock[0])
    health.ready = True
    health.add("far", far, kept=1.0)
    assert await asyncio.gather(reasons(), reasons()) == [["it is far away"]] * 2
    fails.clear()
    clock[0] += 0.9
    assert await reasons() == ["it is far away"]
    assert asked == [100.0]
    assert await health.reasons() == []
    assert await reasons() == [""]
    assert asked == [100.0, 100.9]
    clock[0] += 1.0
    fails.append(True)
    assert await reasons() == ["it is far away"]


async def test_a_check_of_ones_own_is_looked_at_every_time() -> None:
    """Only whoever wrote it knows what it costs, and who has just changed what it looks at."""
    up = [True]
    health = Health("shop")
    health.add("warehouse", lambda: up[0])
    assert [found.reason for found in await health.findings()] == [""]
    up[0] = False
    assert [found.reason for found in await health.findings()] == ["failed"]


async def test_detailed_has_its_keys(serve: Any, app: App) -> None:
    """``/health/detailed`` has the keys that dashboards read, and figures that are true."""
    declare(app)
    async with serve(app) as served:
        served.health.add("nats", lambda: True)
        for _ in range(5):
            await served.http.get("/a")
        body = (await served.http.get("/health/detailed")).json()
        assert set(body) == {"status", "service", "database", "nats", "metrics", "checks"}
        assert (body["status"], body["service"], body["database"], body["nats"]) == ("ok", "shop", "unused", "connected")
        assert set(body["metrics"]) == {"rps", "latency_ms"}
        assert body["metrics"]["rps"] > 0
        assert body["metrics"]["latency_ms"] > 0
        served.health.add("nats", lambda: False)
        body = (await served.http.get("/health/detailed")).json()
        assert (body["status"], body["nats"]) == ("unavailable", "disconnected")


async def test_metrics(serve: Any, app: App) -> None:
    """``/metrics`` is text that Prometheus reads, with every handler's calls, errors and durations."""
    declare(app)
    async with serve(app) as served:
        for query in ("n=1", "n=2", "n=x"):
            await served.http.get(f"/a?{query}")
        answer = await served.http.get("/metrics")
        assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        labels = 'service="shop",handler="get_a",kind="http"'
        assert f"cliffracer_calls_total{{{labels}}} 3" in answer.text
        assert f"cliffracer_errors_total{{{labels}}} 1" in answer.text
        assert f"cliffracer_in_flight{{{labels}}} 0" in answer.text
        counts = [int(n) for n in re.findall(r'cliffracer_call_seconds_bucket\{.*le="[^"]+"\} (\d+)', answer.text)]
        assert counts == sorted(counts)
        assert counts[-1] == 2
        for line in answer.text.splitlines():
            assert re.fullmatch(r'# (HELP|TYPE) \w+ .+|\w+(\{(\w+="[^"]*",?)+\})? [0-9.e+-]+', line), line
    async with serve(app, metrics=False) as served:
        assert (await served.http.get("/metrics")).status_code == 404


async def test_pages_of_the_service_come_first(serve: Any, app: App) -> None:
    """A service may have a page of its own where we have one."""

    @app.get("/health")
    async def mine() -> str:
        return "mine"

    async with serve(app) as served:
        assert (await served.http.get("/health")).json() == "mine"
        assert (await served.http.get("/health/ready")).status_code == 200
