"""What the console finds out about services, asked without a browser."""

from cliffracer import App
from tests.console.support import console, entered, many

front, back, quiet = App("front"), App("back", description="does the work"), App("quiet")


@back.rpc
async def work(n: int) -> int:
    """Work."""
    return n * 2


@front.get("/begin/{n}")
async def begin(n: int) -> int:
    await front.emit("begun", n)
    return int(await front.call(work, n=n))


@quiet.on("begun")
async def note(n: int) -> None: ...


async def test_edges_come_from_calls_and_outlive_them() -> None:
    """Who called whom is told with counts while calls are remembered, and without them as long as the caller runs."""
    async with console(front, back, quiet) as c, entered(c) as http:
        for n in range(3):
            await c.t.http.get(f"/begin/{n}")
        await c.t.settled()
        found = {(e["from"], e["to"], e["kind"], e["name"]): e["calls"] for e in (await http.get("/api/edges")).json()}
        assert found["HTTP", "front", "http", "begin"] == 3
        assert found["front", "back", "rpc", "work"] == 3
        assert found["front", "quiet", "event", "note"] == 3
    async with console(front, back, quiet) as c, entered(c) as http:
        await c.t.http.get("/begin/1")
        await c.t.settled()
        for service in c.t.up.services:
            service.assembly.spans._recent.clear()
            service.assembly.spans._kept.clear()
        found = {(e["from"], e["to"], e["kind"], e["name"]): e["calls"] for e in (await http.get("/api/edges")).json()}
        assert found == {("front", "back", "rpc", "work"): 0, ("front", "quiet", "event", "note"): 0}


async def test_services_of_others_are_shown_as_far_as_they_tell() -> None:
    """A service that is not of ours has methods without schemas, no health and no settings."""
    async with console(back) as c, many(c, 2, 3), entered(c) as http:
        found = (await http.get("/api/services/service_001")).json()
        assert (found["ours"], len(found["methods"]), found["settings"]) == (False, 3, [])
        assert found["methods"][0]["request"] is None
        ours = (await http.get("/api/services/back")).json()
        assert (ours["ours"], ours["description"]) == (True, "does the work")
        assert ours["methods"][0]["request"]["$ref"]


async def test_http_and_events_count_as_calls() -> None:
    """A service that only serves HTTP or handles events has figures, too."""
    async with console(front, back, quiet) as c, entered(c) as http:
        for n in range(3):
            await c.t.http.get(f"/begin/{n}")
        await c.t.settled()
        async with http.stream("GET", "/api/live") as live:
            async for line in live.aiter_lines():
                if line.startswith("data: "):
                    break
        assert '"name":"front"' in line
        assert '"name":"quiet"' in line
        assert line.count('"calls":3') == 3
