"""``call --login`` with an issuer: by another device, or by a browser on this machine; the token is for that one call."""

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from cliffracer import App, Identity, provided, requires
from cliffracer.testing import running
from tests.support.issuer import CLIENT, FakeIssuer
from tests.support.waiting import eventually

app = App("desk")


@app.rpc
@requires("desk:sit")
async def sit(*, identity: Identity = provided) -> str:
    return identity.subject


class Desk:
    """A service that takes an issuer's tokens, and a terminal beside it."""

    def __init__(self, fake: FakeIssuer, settings: Any) -> None:
        self.fake = fake
        self._environment = {
            **os.environ, "CLIFFRACER_NATS_URL": settings.nats_url, "CLIFFRACER_NAMESPACE": settings.namespace, "OIDC_ISSUER": fake.url,
            "AUTH_AUDIENCE": "shop", "LOG_LEVEL": "ERROR",
        }  # fmt: skip

    async def call(self, *words: str, meanwhile: Callable[[str], Any] | None = None, **environment: str) -> tuple[int | None, str, str]:
        """Return exit code, output and what was told; ``meanwhile`` is called with the first line that was told."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "cliffracer", "call", "desk.sit", "--login", "ada", "--login-scope", "openid desk:sit", *words,
            env=self._environment | environment,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert process.stderr is not None
        line = (await process.stderr.readline()).decode()
        if meanwhile is not None:
            await meanwhile(line)
        out, err = await process.communicate()
        return process.returncode, out.decode(), line + err.decode()


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    with FakeIssuer() as fake:
        async with running(app, auth_secret_key=None, oidc_issuer=fake.url, auth_audience="shop") as t:
            yield Desk(fake, t.settings)


async def test_by_another_device(desk: Desk) -> None:
    """The terminal says where to go and what to enter, asks until that was done, and calls with the token; a refusal is told."""
    fake = desk.fake
    fake.document = {"device_authorization_endpoint": f"{fake.url}/device"}

    async def enter(line: str, *, approved: bool = True) -> None:
        found = re.search(r"Open (\S+) and enter (\S+)", line)
        assert found is not None, line
        assert found[1] == f"{fake.url}/enter"
        asked = fake.devices[found[2]]
        await eventually(lambda: asked["asked"] >= 2, within=30)
        asked["approved"] = approved

    async def refuse(line: str) -> None:
        await enter(line, approved=False)

    assert (await desk.call("--client-id", CLIENT, meanwhile=enter))[:2] == (0, '"ada"\n')
    assert {name: form["form"].get(name) for form in fake.devices.values() for name in ("scope", "audience")} == {
        "scope": "openid desk:sit",
        "audience": "shop",
    }
    code, out, told = await desk.call("--client-id", CLIENT, meanwhile=refuse)
    assert (code, out, "the sign-in was refused" in told) == (1, "", True)
    code, _, told = await desk.call("--client-id", "somebody-else")
    assert (code, "lets somebody-else not sign anybody in" in told) == (1, True)
    code, _, told = await desk.call()
    assert (code, "Say --client-id, or set OIDC_CLIENT_ID" in told) == (1, True)


async def test_what_an_issuer_shows_does_nothing_to_the_terminal(desk: Desk) -> None:
    """Control characters in its words are left out."""
    fake = desk.fake
    fake.document = {"device_authorization_endpoint": f"{fake.url}/device"}
    fake.reply = {"verification_uri": "https://x.example/\x1b]0;owned\x07\r\nfoo", "expires_in": 0.3, "user_code": "A\x1b[2J-B"}
    code, _, told = await desk.call(OIDC_CLIENT_ID=CLIENT)
    assert (code, "took too long" in told) == (1, True)
    assert "Open https://x.example/]0;ownedfoo and enter A[2J-B" in told
    assert not {"\x1b", "\x07", "\r"} & set(told)


async def test_by_a_browser_of_this_machine(desk: Desk) -> None:
    """Where there are no devices, a browser goes to the issuer and comes back to a port of the loopback interface; nobody else can."""
    fake, seen = desk.fake, []
    fake.reply = {"access_token": fake.token(scope="desk:sit")}

    async def go(line: str, **answer: Any) -> None:
        place = line.split()[1]
        async with httpx.AsyncClient(timeout=20) as browser:
            sent = await browser.get(place)
            back = httpx.URL(sent.headers["location"])
            assert back.host == "127.0.0.1"
            assert (await browser.get(back.copy_with(path="/other"))).status_code == 404
            assert (await browser.get(back.copy_set_param("state", "a-stranger's"))).status_code == 404
            page = await browser.get(back)
            seen.append((page.status_code, "close this page" in page.text, page.headers["referrer-policy"]))

    async def mixed_up(line: str) -> None:
        fake.answer = {"iss": "https://another.example"}
        await go(line)

    async def denied(line: str) -> None:
        fake.answer = {"error": "access_denied", "code": None}
        await go(line)

    assert (await desk.call("--client-id", CLIENT, meanwhile=go))[:2] == (0, '"ada"\n')
    assert fake.requests[-1]["login_hint"] == "ada"
    assert fake.requests[-1]["audience"] == "shop"
    for meanwhile, reason in ((mixed_up, "an answer of another issuer"), (denied, "the issuer says 'access_denied'")):
        code, out, told = await desk.call("--client-id", CLIENT, meanwhile=meanwhile)
        assert (code, out, reason in told) == (1, "", True)
    assert seen == [(200, True, "no-referrer")] * 3
