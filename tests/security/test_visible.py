"""Who may call is told alike wherever an app is described: routes, discovery, OpenAPI, AsyncAPI."""

import asyncio
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import jsonschema
from openapi_spec_validator import validate

from cliffracer import Accounts, ApiKeys, App, Identity, Tickets, provided, public, requires
from cliffracer.client import AsyncClient
from cliffracer.testing import running
from tests.security.corpus import KEY
from tests.support.issuer import FakeIssuer
from tests.support.tools import asyncapi_schema

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


def whole() -> App:
    """Return an app with every way to say who calls."""
    made = App("whole")
    made.use(Accounts(cookies=True))
    made.use(ApiKeys())
    made.use(Tickets())

    @made.rpc
    @made.get("/rules")
    @made.on("whole.something")
    @requires("users:read")
    async def rules(name: str = "") -> None: ...

    @made.websocket("/ws")
    @requires("users:read")
    async def socket() -> str:
        return ""

    @made.get("/anybody")
    @public
    async def anybody() -> None: ...

    return made


async def test_every_way_in_is_named() -> None:
    """OpenAPI has each as an alternative, AsyncAPI those that NATS and sockets have; both documents are valid."""
    with FakeIssuer() as fake:
        async with running(whole(), oidc_issuer=fake.url, auth_audience="shop") as t:
            http = (await t.http.get("/openapi.json")).json()
            messages = (await t.http.get("/asyncapi.json")).json()
        place = f"{fake.url}/.well-known/openid-configuration"
    validate(http)
    jsonschema.Draft7Validator(json.loads(asyncapi_schema("3.0.0").read_text())).validate(messages)
    schemes = http["components"]["securitySchemes"]
    assert {name: (one["type"], one.get("in"), one.get("name")) for name, one in schemes.items()} == {
        "bearer": ("http", None, None),
        "oidc": ("openIdConnect", None, None),
        "session": ("apiKey", "cookie", "cliffracer_session"),
        "key": ("apiKey", "header", "X-API-Key"),
    }
    assert schemes["oidc"]["openIdConnectUrl"] == place
    assert http["paths"]["/rules"]["get"]["security"] == [{name: ["users:read"]} for name in ("bearer", "oidc", "session", "key")]
    assert http["paths"]["/anybody"]["get"]["security"] == []
    told = {name: [one["$ref"].rpartition("/")[2] for one in op.get("security", ())] for name, op in messages["operations"].items()}
    assert told["whole.rules"] == told["whole.rules.whole.something"] == ["bearer", "oidc"]
    assert told["whole.socket.send"] == ["bearer", "oidc", "session", "key", "ticket"]
    assert set(messages["components"]["securitySchemes"]) == {"bearer", "oidc", "session", "key", "ticket"}
    assert messages["components"]["securitySchemes"]["session"]["type"] == "httpApiKey"


def described(target: str, **environment: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "cliffracer", "docs", target]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_same_without_running(tmp_path: Path) -> None:
    """`cliffracer docs` names the ways in, too: over TLS a cookie by its other name, a login by the issuer, and only what there is."""
    code = """
    from cliffracer import App, BrowserLogin, requires
    app = App("pages")
    app.use(BrowserLogin())
    plain = App("plain")

    @app.get("/rules")
    @plain.get("/rules")
    @requires("a")
    async def rules() -> None: ...

    free = App("free")
    @free.get("/")
    async def home() -> None: ...
    """
    file = tmp_path / "pages.py"
    file.write_text(textwrap.dedent(code))
    production = {"CLIFFRACER_ENV": "production", "OIDC_ISSUER": "https://id.example.org/shop/", "OIDC_CLIENT_ID": "pages"}
    schemes = described(f"{file}:app", **production)["components"]["securitySchemes"]
    assert list(schemes) == ["bearer", "oidc", "session"]
    assert schemes["session"]["name"] == "__Host-cliffracer_session"
    assert schemes["oidc"]["openIdConnectUrl"] == "https://id.example.org/shop/.well-known/openid-configuration"
    assert list(described(f"{file}:plain")["components"]["securitySchemes"]) == ["bearer"]
    assert "securitySchemes" not in described(f"{file}:free")["components"]
