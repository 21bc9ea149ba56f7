"""Every way that a service can say who it is to NATS, by settings alone, against a real nats-server."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from loguru import logger

from cliffracer import App, Forbidden, SetupError
from cliffracer.messaging.bus import connect
from cliffracer.permissions.nats import permissions_of
from cliffracer.permissions.needs import Needs, processes
from cliffracer.permissions.provision import provision
from cliffracer.runtime import running
from cliffracer.settings import Settings
from tests.support import certificates, operators
from tests.support.nats import NatsServer
from tests.support.waiting import eventually

app = App("greeter", calls=["greeter.greet"], emits=["greeted"], follows=[])
heard: list[str] = []


@app.rpc
async def greet(name: str) -> str:
    await app.emit("greeted", name)
    return f"hello {name}"


@app.on("greeted")
async def on_greeted(name: str) -> None:
    heard.append(name)


class Way(NamedTuple):
    """How a server lets in, and the settings that get in and that do not; ``secret`` may be in no log."""

    config: str
    good: dict[str, str]
    bad: dict[str, str]
    secret: str


def password(_: Path) -> Way:
    return Way("authorization { user: greeter, password: right-password }", {"NATS_USER": "greeter", "NATS_PASSWORD": "right-password"},
               {"NATS_USER": "greeter", "NATS_PASSWORD": "wrong-password"}, "right-password")  # fmt: skip


def token(_: Path) -> Way:
    return Way("authorization { token: right-token-1 }", {"NATS_TOKEN": "right-token-1"}, {"NATS_TOKEN": "wrong-token"}, "right-token-1")


def nkey(_: Path) -> Way:
    mine, other = operators.user(), operators.user()
    return Way(f"authorization {{ users = [ {{ nkey: {mine.public} }} ] }}", {"NATS_NKEY": mine.seed}, {"NATS_NKEY": other.seed}, mine.seed)


def nkey_in_a_file(folder: Path) -> Way:
    made = nkey(folder)
    for name, given in (("good.nk", made.good), ("bad.nk", made.bad)):
        (folder / name).write_text(given["NATS_NKEY"])
    return made._replace(good={"NATS_NKEY": str(folder / "good.nk")}, bad={"NATS_NKEY": str(folder / "bad.nk")})


def credentials(_: Path) -> Way:
    operator, other = operators.Operator(), operators.Operator()
    good = operator.credentials("greeter")
    return Way(operator.config, {"NATS_CREDS": good}, {"NATS_CREDS": other.credentials("greeter")}, good.splitlines()[5])


def credentials_in_a_file(folder: Path) -> Way:
    made = credentials(folder)
    for name, given in (("good.creds", made.good), ("bad.creds", made.bad)):
        (folder / name).write_text(given["NATS_CREDS"])
    return made._replace(good={"NATS_CREDS": str(folder / "good.creds")}, bad={"NATS_CREDS": str(folder / "bad.creds")})


def certificate(folder: Path) -> Way:
    (folder / "other").mkdir()
    made, other = certificates.make(folder), certificates.make(folder / "other")
    files = f'cert_file: "{made.certificate}", key_file: "{made.key}", ca_file: "{made.authority}"'
    config = f"tls {{ {files}, verify_and_map: true }}\nauthorization {{ users = [ {{ user: localhost }} ] }}"
    given = {"NATS_TLS_CA": str(made.authority)}
    good, bad = ({**given, "NATS_TLS_CERT": str(one.certificate), "NATS_TLS_KEY": str(one.key)} for one in (made, other))
    return Way(config, good, bad, made.key.read_text().splitlines()[1])


WAYS = [password, token, nkey, nkey_in_a_file, credentials, credentials_in_a_file, certificate]


def load(url: str, given: dict[str, str]) -> Settings:
    return Settings.load(environ={"NATS_URL": url, "CLIFFRACER_WAIT": "5", "CLIFFRACER_ENV": "test", **given}, folder="/nonexistent")


@pytest.mark.parametrize("way", WAYS)
async def test_way(way: Callable[[Path], Way], tmp_path: Path) -> None:
    """RPC and durable events work with it; another's is refused at once; neither the settings nor the log tell it."""
    lines: list[str] = []
    sink = logger.add(lambda message: lines.append(str(message)), level="TRACE", diagnose=False)
    config, good, bad, secret = way(tmp_path)
    heard.clear()
    with NatsServer(config, jetstream=True) as server:
        settings = load(server.url, good)
        async with running(app, settings):
            assert await app.call(greet, name="ada") == "hello ada"
            await eventually(lambda: heard == ["ada"])
        with pytest.raises(SetupError) as refused:
            async with asyncio.timeout(20), running(app, load(server.url, bad)):
                pass
        with pytest.raises(SetupError):
            async with asyncio.timeout(20), running(app, load(server.url, {})):
                pass
    logger.remove(sink)
    shown = "".join([*lines, str(refused.value), repr(settings), *(f"{one}" for one in settings.sources())])
    assert secret not in shown


@pytest.mark.parametrize("name", ["NATS_PASSWORD", "NATS_TOKEN", "NATS_NKEY", "NATS_CREDS"])
async def test_from_a_file(name: str, tmp_path: Path) -> None:
    """Each can be in a file that is mounted, named by the variable with _FILE."""
    made = {"NATS_PASSWORD": password, "NATS_TOKEN": token, "NATS_NKEY": nkey, "NATS_CREDS": credentials}[name](tmp_path)
    (tmp_path / "secret").write_text(made.good[name] + "\n")
    given = {key: value for key, value in made.good.items() if key != name} | {f"{name}_FILE": str(tmp_path / "secret")}
    with NatsServer(made.config, jetstream=True) as server:
        bus = await connect(load(server.url, given), name="test")
        await bus.flush()
        await bus.close()


async def test_permissions_in_a_jwt(tmp_path: Path) -> None:
    """The lists that `permissions --json` prints are what a user's JWT holds; the service works with them, and does no more."""
    (process,) = processes([app.freeze()], Settings(), together=False)
    found = permissions_of(process)
    limits: dict[str, Any] = {"pub": {"allow": found.publish}, "sub": {"allow": found.subscribe}}
    operator = operators.Operator()
    heard.clear()
    with NatsServer(operator.config, jetstream=True) as server:
        deploying = load(server.url, {"NATS_CREDS": operator.credentials("deploy")})
        bus = await connect(deploying, name="deploy")
        await provision(bus, [Needs(app.freeze(), deploying)])
        await bus.close()
        async with running(app, load(server.url, {"NATS_CREDS": operator.credentials("greeter", limits)})) as up:
            assert await app.call(greet, name="bob") == "hello bob"
            await eventually(lambda: heard == ["bob"])
            with pytest.raises(Forbidden):
                await up.bus.request(b"other.method", b"{}", timeout=5)
