"""Secrets stay where they are: nothing that a service prints, logs or answers has one."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import httpx
from loguru import logger

from cliffracer import Accounts, App, Context, Identity, provided, public, requires
from cliffracer.settings import Settings
from cliffracer.testing import running
from tests.security.corpus import KEY
from tests.support.inside import authority_of

app = App("discreet")
app.use(Accounts(register=True))
PASSWORD = "marker-password-7f3a9c"


@app.rpc
@app.get("/broken")
@requires
async def broken(*, identity: Identity = provided, context: Context = provided) -> str:
    logger.info("who {} in {}", identity, context)
    logger.info("{!r} {!r}", identity, context)
    raise RuntimeError("on purpose")


@app.on("discreet.asked", retry=())
@requires("never")
async def asked(name: str) -> None: ...


@app.get("/open")
@public
async def opened() -> str:
    return "open"


async def test_nothing_tells_a_secret(confide: Callable[[str], str]) -> None:
    """Logs at the lowest level, answers, pages about the service and dead letters hold no key, password or token."""
    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(str(message)), level="TRACE", diagnose=False)
    answers: list[str] = []

    def told(reply: httpx.Response) -> httpx.Response:
        answers.append(reply.text + str(reply.headers))
        return reply

    secrets = [KEY, confide(PASSWORD)]  # so that everything that this test lets out is searched for it
    async with running(app, auth_secret_key=KEY, log_calls=1) as t:
        ada = {"username": "ada", "password": PASSWORD}
        told(await t.http.post("/auth/register", json=ada))
        told(await t.http.post("/auth/login", json={**ada, "password": PASSWORD + "x"}))
        told(await t.http.post("/auth/login", json={"username": "ada", "password": [PASSWORD]}))
        told(await t.http.post("/auth/login", content=f'{{"password": "{PASSWORD}'))
        tokens = (await t.http.post("/auth/login", json=ada)).json()
        secrets += [tokens["access_token"], tokens["refresh_token"]]
        headers = {"Authorization": f"Bearer {tokens['access_token']}"}
        told(await t.http.get("/broken", headers=headers))
        told(await t.http.get("/auth/me", headers=headers))
        told(await t.http.get("/broken", headers={"Authorization": f"Bearer {tokens['refresh_token']}"}))
        told(await t.http.post("/auth/refresh", json={"refresh_token": tokens["access_token"]}))
        for page in ("/health/detailed", "/metrics", "/openapi.json", "/.well-known/jwks.json"):
            told(await t.http.get(page))
        t.up.services[0].link.token = tokens["access_token"]
        await t.emit("discreet.asked", "x")
        await t.settled()
        lines.extend((repr(t.settings), str(t.settings.sources()), repr(authority_of(t).tokens.keys)))
    logger.remove(sink)
    whole = "".join(lines + answers)
    assert "on purpose" in whole
    assert [secret[:12] for secret in secrets if secret in whole] == []


def test_commands_tell_no_secret(confide: Callable[[str], str]) -> None:
    """The command line masks the keys of the settings, also where it fails."""
    environment = {
        **os.environ,
        "AUTH_SECRET_KEY": KEY,
        "NATS_PASSWORD": confide(PASSWORD),
        "NATS_URL": "nats://127.0.0.1:1",
        "CLIFFRACER_WAIT": "0.1",
    }
    printed = ""
    for command in (["config"], ["config", "--json"], ["call", "a.b", "--token", "x.y.z"], ["token", "inspect", "a.b.c"]):
        done = subprocess.run([sys.executable, "-m", "cliffracer", *command], env=environment, capture_output=True, text=True, check=False)
        printed += done.stdout + done.stderr
    assert "AUTH_SECRET_KEY" in printed
    assert KEY not in printed
    assert PASSWORD not in printed


def test_issue_and_inspect() -> None:
    """A token from the command line is good under the same key and says whose it is; under another key it is not."""
    command = [sys.executable, "-m", "cliffracer", "token"]
    environment = {**os.environ, "AUTH_SECRET_KEY": KEY}
    made = subprocess.run(
        [*command, "issue", "--subject", "ada", "--role", "admin", "--role", "user", "--permission", "a:b", "--ttl", "1h"],
        env=environment, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert made.count("\n") == 1
    looked = subprocess.run([*command, "inspect", made.strip(), "--json"], env=environment, capture_output=True, text=True, check=True)
    found = json.loads(looked.stdout)
    assert found["good"] is True
    assert (found["claims"]["sub"], found["claims"]["roles"], found["claims"]["permissions"]) == ("ada", ["admin", "user"], ["a:b"])
    assert found["claims"]["exp"] - found["claims"]["iat"] == 3600
    environment["AUTH_SECRET_KEY"] = KEY[::-1]
    refused = subprocess.run([*command, "inspect", made.strip()], env=environment, capture_output=True, text=True, check=False)
    assert refused.returncode == 1


def test_identities_and_settings_show_little() -> None:
    """Neither the claims of an identity nor the settings' keys are in a repr."""
    shown: Any = [Identity("ada", claims={"email": "marker@x.org"}), Settings(auth_secret_key=KEY)]
    assert "marker" not in repr(shown)
    assert KEY not in repr(shown)
