"""Who may call is told alike wherever an app is described: routes, discovery, OpenAPI, AsyncAPI."""

import asyncio
import json
import os
import subprocess
import sys
from typing import Any

from cliffracer import App, Identity, provided, public, requires
from cliffracer.client import AsyncClient
from cliffracer.testing import running
from tests.security.corpus import KEY

app = App("told")


@app.rpc
@app.get("/anybody")
@public
async def anybody() -> None: ...


@app.rpc
@app.get("/known")
async def known(*, identity: Identity = provided) -> None: ...


@app.rpc
@app.get("/rules")
@requires("users:read", "users:write", role=("admin", "manager"))
async def rules() -> None: ...


@app.rpc
@app.get("/either")
@requires("users:delete", role="owner", any=True)
@requires(check=lambda identity: identity.subject)
async def either() -> None: ...


@app.on("told.something")
@requires("events:read")
async def heard(name: str) -> None: ...


@app.every("1h")
async def timer() -> None: ...


WANTED = {
    "anybody": "public",
    "known": "authenticated",
    "rules": "users:read and users:write and role admin or manager",
    "either": "check <lambda> and (users:delete or role owner)",
}


def listed() -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "cliffracer", "routes", "tests/security/test_visible.py:app", "--json"]
    done = subprocess.run(command, env={**os.environ, "AUTH_SECRET_KEY": KEY}, capture_output=True, text=True, check=True)
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


async def test_everywhere_the_same() -> None:
    """One rule, one text; permissions stand where OpenAPI has scopes."""
    async with running(app, auth_secret_key=KEY) as t:
        (info,) = await AsyncClient(t.up.services[0].link, None).directory.ask("INFO", "told")
        http = (await t.http.get("/openapi.json")).json()
        messages = (await t.http.get("/asyncapi.json")).json()
    assert {endpoint.name: endpoint.metadata["policy"] for endpoint in info.endpoints} == WANTED
    operations = {path[1:]: methods["get"] for path, methods in http["paths"].items()}
    assert {name: operations[name]["x-policy"] for name in WANTED} == WANTED
    assert operations["rules"]["security"] == [{"bearer": ["users:read", "users:write"]}]
    assert operations["anybody"]["security"] == []
    policies = [operation.get("x-policy") for operation in messages["operations"].values()]
    assert "events:read" in policies
    assert set(WANTED.values()) <= set(policies)
    routes = await asyncio.to_thread(listed)
    assert {row["function"]: row["policy"] for row in routes} == {**WANTED, "heard": "events:read", "timer": ""}
