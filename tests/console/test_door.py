"""Who gets into the console, and who does not."""

import asyncio
import json
from typing import Any

import httpx
import pytest

from cliffracer import App
from cliffracer.console.application import opened
from cliffracer.web.ports import bind
from tests.console.support import OURS, console, entered

app = App("shop")


@app.rpc
async def count(n: int) -> int:
    return n


CALL = {"service": "shop", "method": "count", "arguments": {"n": 3}}


async def test_the_address_is_good_once() -> None:
    """The token lets one browser in, by a cookie that scripts cannot read; it is then worthless, and another one is told."""
    async with console(app) as c, httpx.AsyncClient(base_url=c.url) as stranger:
        address = c.door.address
        async with entered(c) as http:
            assert (await http.get("/api/about")).json()["env"] == "development"
        assert c.told == [c.door.address] != [address]
        for used in (address, f"{c.url}/?token=", f"{c.url}/?token=guess", c.url):
            answer = await stranger.get(used)
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, 'Bearer realm="console"')
            assert "set-cookie" not in answer.headers
        assert "This door is closed" in (await stranger.get("/")).text
        refused = await stranger.get("/api/about")
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, 'Bearer realm="console"')
        assert (await stranger.get("/static/console.js")).status_code == 401
        assert (await stranger.get("/static/base.css")).status_code == 200


async def test_another_name_for_this_machine_is_refused() -> None:
    """A site whose name leads to 127.0.0.1 (DNS rebinding) reads nothing and does nothing, cookie or not."""
    async with console(app) as c, entered(c) as http:
        for host in ("evil.example", "evil.example:80", "127.0.0.1", "127.0.0.1:1", "localhost.evil.example", "[::1"):
            headers = {"Host": host}
            for path in ("/", "/api/about", "/static/base.css", f"/?{c.door.address.partition('?')[2]}"):
                assert (await http.get(path, headers=headers)).status_code in {400, 403}, host
            assert (await http.post("/api/call", json=CALL, headers=headers)).status_code in {400, 403}, host
        mine = c.url.removeprefix("http://").replace("127.0.0.1", "localhost")
        assert (await http.get("/api/about", headers={"Host": mine})).status_code == 200


FOREIGN: list[dict[str, Any]] = [
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://127.0.0.1:1"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"X-Cliffracer": None},
    {"Content-Type": "text/plain"},
    {"Content-Type": "application/x-www-form-urlencoded"},
]


async def test_another_sites_page_changes_nothing() -> None:
    """What a form or a script elsewhere can make the browser send with the cookie is refused (CSRF)."""
    async with console(app) as c, entered(c) as http:
        http.headers.pop("X-Cliffracer")
        for headers in FOREIGN:
            given = {name: value for name, value in {"Content-Type": "application/json", **OURS, **headers}.items() if value is not None}
            answer = await http.post("/api/call", content=json.dumps(CALL), headers=given)
            assert answer.status_code in {403, 415}, headers
        assert [span.name for span in c.t.up.services[0].assembly.spans.find("")] == []


async def test_every_answer_lets_nothing_else_in() -> None:
    """Pages, files and data carry the strict policy, are in no frame, and data are kept by no cache."""
    async with console(app) as c, entered(c) as http:
        for path in ("/", "/static/console.js", "/api/about"):
            answer = await http.get(path)
            assert answer.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'; style-src 'self';")
            assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["cache-control"] == "no-store"


READING = {
    "CLIFFRACER_ENV is production": {"env": "development", "at": "production"},
    "it is production for shop": {"env": "production", "at": "development"},
    "--read-only": {"env": "development", "acts": False},
}


@pytest.mark.parametrize("why", READING)
async def test_in_production_it_only_reads(why: str) -> None:
    """There, where a service says it is, or when asked to, every call, event, replay and discard is refused, whatever the page shows."""
    async with console(app, **READING[why]) as c, entered(c) as http:
        assert why in (await http.get("/api/about")).json()["read_only"]
        for path, body in (
            ("/api/call", CALL),
            ("/api/emit", {"subject": "a", "data": 1}),
            ("/api/dead", {"action": "discard"}),
            ("/api/dead/1", {"action": "replay"}),
        ):
            answer = await http.post(path, json=body)
            assert (answer.status_code, "only reads" in answer.json()["detail"]) == (403, True)
        assert (await http.get("/api/services/shop")).status_code == 200


async def test_what_was_production_once_stays_so() -> None:
    """When its services are down the console still only reads: that is no time to act by mistake."""
    async with console(app, env="production", at="development") as c, entered(c) as http:
        assert (await http.post("/api/emit", json={"subject": "a", "data": 1})).status_code == 403
        await c.t.up.services[0].drain(1)
        assert (await http.post("/api/emit", json={"subject": "a", "data": 1})).status_code == 403


async def test_a_slow_service_of_production_is_waited_for() -> None:
    """Nothing is done before those who answer late had time to say where they are: whoever is on call looks when services are slow."""
    async with console(app, env="development") as c:
        bus, subjects = c.client.link.bus, c.client.link.subjects

        def receive(_subject: bytes, reply: bytes, _block: bytes | None, _payload: bytes) -> None:
            late = {"name": "late", "id": "1", "version": "1", "metadata": {"env": "production"}}
            asyncio.get_running_loop().call_later(0.8, bus.publish, reply, json.dumps(late).encode())

        await bus.subscribe(subjects.discovery("INFO", ""), receive)
        await bus.flush()
        async with opened(c.client, c.t.settings, bind("127.0.0.1", 0)) as door:
            assert "it is production for late" in await door.read_only.reason()


@pytest.mark.parametrize("at", ["production", "development"])
async def test_it_acts_in_production_when_asked_to(at: str) -> None:
    """`--write` is the word of somebody who knows where they are."""
    async with console(app, env="production", at=at, acts=True) as c, entered(c) as http:
        assert (await http.get("/api/about")).json()["read_only"] == ""
        assert (await http.post("/api/call", json=CALL)).json()["result"] == 3


async def test_secrets_do_not_reach_the_page() -> None:
    """Keys and passwords of the settings are masked in what the console tells of itself and of services."""
    key = "s3cret-" + "0123456789abcdef" * 2
    async with console(app, auth_secret_key=key, auth_required=True) as c, entered(c) as http:
        for path in ("/api/about", "/api/services/shop", "/api/details"):
            text = (await http.get(path)).text
            assert key not in text
            assert "cliffracer:" not in text.replace("cliffracer:***", "")


WRONG: list[tuple[str, str, bytes | None, int]] = [
    ("GET", "/api/services/no_such", None, 404),
    ("GET", "/api/services/a%20b", None, 422),
    ("GET", "/api/events?pattern=a%20b", None, 422),
    ("GET", "/api/events?pattern=a&since=never", None, 422),
    ("GET", "/api/dead/99", None, 404),
    ("GET", "/api/nothing", None, 404),
    ("GET", "/static/../console.py", None, 404),
    ("GET", "/static/console.html", None, 404),
    ("POST", "/api/call", b"{", 422),
    ("POST", "/api/call", b'{"service": "a\\r\\nPUB x", "method": "b"}', 422),
    ("POST", "/api/call", b'{"service": "shop", "method": "count", "arguments": {"n": 1}, "token": "a b"}', 422),
    ("POST", "/api/call", b'{"service": "shop", "method": "count", "arguments": {"n": "x"}}', 422),
    ("POST", "/api/call", b'{"service": "nobody", "method": "count"}', 503),
    ("POST", "/api/emit", b'{"subject": "a.*", "data": 1}', 422),
    ("POST", "/api/dead/1", b'{"action": "explode"}', 422),
    ("POST", "/api/dead/1", b'{"action": "replay"}', 404),
    ("PUT", "/api/call", b"{}", 405),
]


async def test_bad_input_gets_a_clear_answer() -> None:
    """Whatever is asked, the answer says what was wrong with it, and the console goes on."""
    async with console(app) as c, entered(c) as http:
        for method, path, body, status in WRONG:
            answer = await http.request(method, path, content=body, headers={"Content-Type": "application/json"})
            assert answer.status_code == status, (method, path, body)
        assert (await http.get("/api/about")).status_code == 200
