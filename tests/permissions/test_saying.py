"""What an app says that it does to others holds in its own process too, so that a test finds what permissions would refuse."""

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from click.testing import CliRunner

from cliffracer import Accounts, ApiKeys, App, Event, Group, Settings, SetupError
from cliffracer.cli.main import cli
from cliffracer.database.owntables import TABLES
from cliffracer.permissions.needs import processes
from cliffracer.permissions.sql import grants
from cliffracer.security import keyring
from cliffracer.testing import running


class Placed(Event, subject="order.placed"):
    number: int


inventory = App("inventory")


@inventory.rpc
async def reserve(number: int) -> int:
    return number


@inventory.rpc
async def count() -> int:
    return 0


def orders(**said: Any) -> App:
    app = App("orders", **said)
    stock = app.service("inventory")

    async def locked() -> None:
        async with app.lock("x", wait=1):
            return

    acts: dict[str, Callable[[], Any]] = {
        "reserve": lambda: stock.reserve(number=1),
        "reserve by function": lambda: app.call(reserve, number=2),
        "count": lambda: stock.count(),  # noqa: PLW0108 - looking it up is what is refused
        "send": lambda: stock.send.count(),  # noqa: PLW0108 - the same
        "emit": lambda: app.emit(Placed(7)),
        "emit another": lambda: app.emit("order.lost"),
        "delay": lambda: app.emit(Placed(7), delay=60),
        "lock": locked,
        "room": lambda: app.sockets.to("x").send(1),
        "follow": lambda: anext(app.events("order.*")),
    }

    @app.rpc
    async def act(what: str) -> Any:
        return await acts[what]()

    return app


SAID: dict[str, Any] = {"calls": [reserve], "emits": [Placed], "follows": ["order.placed"], "uses": []}


@pytest.mark.parametrize(
    ("what", "cure"),
    [
        ("count", "calls=[..., 'inventory.count']"), ("send", "calls=[..., 'inventory.count']"),
        ("emit another", "emits=[..., 'order.lost']"), ("delay", "uses=[..., 'delays']"), ("lock", "uses=[..., 'locks']"),
        ("room", "uses=[..., 'rooms']"),
        ("follow", "follows=[..., 'order.*']"),
    ],
)  # fmt: skip
async def test_what_is_not_said_fails(what: str, cure: str) -> None:
    """An undeclared call, event, feed, delay, lock or room is refused before it is sent, and the error says what to add."""
    app = orders(**SAID)
    handler = app.declared[0].record.function
    async with running(app, inventory):
        with pytest.raises(SetupError) as refused:
            await handler(what)
    assert cure in str(refused.value)


async def test_what_is_said_works() -> None:
    """What is declared is done; and an app that says nothing is held to nothing."""
    async with running(orders(**SAID), inventory) as t:
        assert [await t.call("act", what=what) for what in ("reserve", "reserve by function")] == [1, 2]
        await t.call("act", what="emit")
        assert t.emitted("order.placed")[0].data == {"number": 7}
    async with running(orders(), inventory) as t:
        for what in ("reserve", "count", "send", "emit", "emit another", "delay", "lock", "room"):
            await t.call("act", what=what)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"calls": ["in ventory.x"]}, "is no name"), ({"calls": [print]}, "is no RPC"), ({"emits": ["a..b"]}, "is no subject pattern"),
        ({"emits": [Event]}, "has no subject"), ({"follows": ["a b"]}, "is no subject pattern"),
        ({"uses": ["magic"]}, "it can be delays, large"),
    ],
)  # fmt: skip
def test_bad_words(said: dict[str, Any], message: str) -> None:
    """What cannot be meant is told when the app is read."""
    with pytest.raises(SetupError, match=message):
        App("orders", **said).freeze()


def test_one_alone_needs_no_list() -> None:
    """A text is not taken for its letters, and what can be read only once is read once."""
    said = App("orders", calls="inventory", emits=Placed, follows="order.*", uses=(word for word in ("locks",))).freeze()  # type: ignore[arg-type]  # a class is no iterable
    alone = App("orders", calls=reserve).freeze()  # type: ignore[arg-type]  # nor is a function
    assert (said.bounds.calls, said.bounds.emits, said.bounds.follows, said.bounds.uses) == (
        ("inventory.*",), ("order.placed",), ("order.*",), ("locks",),
    )  # fmt: skip
    assert alone.bounds.calls == ("inventory.reserve",)


async def test_what_a_running_app_was_seen_to_do() -> None:
    """The command prints what an app that says nothing would have to say."""
    async with running(orders(), inventory) as t:
        await t.call("act", what="reserve")
        await t.call("act", what="emit")
        command = [sys.executable, "-m", "cliffracer", "permissions", "examples.shop:orders", "examples.shop:payments", "--seen"]
        environment = {**os.environ, "CLIFFRACER_NATS_URL": t.settings.nats_url, "CLIFFRACER_NAMESPACE": t.settings.namespace}
        done = await asyncio.to_thread(subprocess.run, command, env=environment, capture_output=True, text=True, check=True)
    assert "App('orders', calls=['inventory.reserve', 'orders.act'], emits=['order.placed'])" in done.stdout
    assert "payments is not running" in done.stdout


def test_groups_say_what_they_emit() -> None:
    """A part that is included brings what it emits, as accounts do."""
    app = App("members", emits=["a"])
    app.use(Accounts())
    app.include(Group("part", emits=["b.*"]))
    assert app.freeze().bounds.emits == ("a", "accounts.reset_asked", "b.*")


def test_network_policies() -> None:
    """They are valid for Kubernetes; who has no HTTP takes nothing in, and only clients reach NATS and PostgreSQL."""
    done = CliRunner().invoke(cli, ["permissions", "examples.shop", "--format", "k8s"])
    assert done.exit_code == 0, done.output
    found = {document["metadata"]["name"]: document for document in yaml.safe_load_all(done.output)}
    for document in found.values():
        kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)
    assert found["payments"]["spec"]["ingress"] == []
    assert found["orders"]["spec"]["ingress"][0]["ports"][0]["port"] == 8000
    for server, others in (("nats", ["crowd"]), ("postgres", [])):
        policies = [found[name]["spec"] for name in found if name.startswith(f"{server}-from-")]
        clients = [one["ingress"][0]["from"][0]["podSelector"]["matchLabels"]["app"] for one in policies]
        assert sorted(clients) == sorted(["inventory", "notifications", "orders", "payments", *others])
        assert {one["podSelector"]["matchLabels"]["app"] for one in policies} == {server}


def test_a_cache_in_redis_is_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its port is open to whom keeps answers there, and where it is stands in the secret of what `deploy` writes."""
    function = "@app.rpc\n@app.cached(ttl=30, store='redis')\nasync def look() -> int:\n    return 1\n"
    (tmp_path / "keeps.py").write_text(f"from cliffracer import App\napp = App('keeps')\n\n\n{function}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REDIS_URL", "redis://me:secret-of-redis@cache:6380")
    done = CliRunner().invoke(cli, ["deploy", "k8s", "keeps:app"])
    assert done.exit_code == 0, done.output
    assert "secret-of-redis" not in done.output
    assert "key: REDIS_URL" in done.stdout
    found = {one["kind"]: one for one in yaml.safe_load_all(done.stdout) if one}
    assert [{"port": 6380, "protocol": "TCP"}] in [rule["ports"] for rule in found["NetworkPolicy"]["spec"]["egress"]]


def _policies(*words: str) -> dict[str, Any]:
    done = CliRunner().invoke(cli, list(words))
    assert done.exit_code == 0, done.output
    return {one["metadata"]["name"]: one for one in yaml.safe_load_all(done.stdout) if one and one["kind"] == "NetworkPolicy"}


def test_one_name_says_one_thing() -> None:
    """What `permissions` and `deploy` write can be applied in any order, together or one by one: no name stands for two policies."""
    apps = [f"examples.shop.{name}:app" for name in ("orders", "payments")]
    apart = _policies("permissions", *apps, "--format", "k8s")
    together = _policies("permissions", *apps, "--format", "k8s", "--together")
    deployed = [_policies("deploy", "k8s", app) for app in apps]
    both = _policies("deploy", "k8s", *apps)
    seen: dict[str, Any] = {}
    for found in (apart, together, *deployed, both):
        for name, policy in found.items():
            assert seen.setdefault(name, policy) == policy
            kubernetes_validate.validate(policy, kubernetes_validate.latest_version(), strict=True)
    assert set(deployed[0] | deployed[1]) == {"orders", "payments"} <= set(apart)
    assert set(both) == {"orders", "orders.payments"} <= set(together)
    assert both["orders.payments"]["spec"] == {**apart["payments"]["spec"], "podSelector": both["orders"]["spec"]["podSelector"]}


def test_as_json_and_into_a_file(tmp_path: Any) -> None:
    """Every format is there for programs, and can be written to a file."""
    for form in ("nats", "sql", "k8s"):
        done = CliRunner().invoke(cli, ["permissions", "examples.shop", "--format", form, "--json"])
        assert done.exit_code == 0
        assert isinstance(yaml.safe_load(done.stdout), list)
    target = tmp_path / "nats.conf"
    assert CliRunner().invoke(cli, ["permissions", "examples.shop", "-o", str(target)]).exit_code == 0
    assert "NATS_PASSWORD_ORDERS" in target.read_text()
    missing = CliRunner().invoke(cli, ["permissions", "examples.shop", "-o", str(tmp_path / "no" / "x")])
    assert "cannot be written" in str(missing.exception)


def test_every_table_of_ours_is_granted() -> None:
    """Whoever keeps accounts and API keys may use all the tables that these make, and nobody else may."""
    members, other = App("members"), App("other")
    members.use(Accounts())
    members.use(ApiKeys())
    made = [
        name
        for file in ("accounts.sql", "apikeys.sql")
        for name in re.findall(r"CREATE TABLE IF NOT EXISTS (\w+)", (Path(keyring.__file__).parent / file).read_text())
    ]
    found = grants(processes([members.freeze(), other.freeze()], Settings(), together=False))
    assert len(made) >= 4
    assert [name for name in [*made, *TABLES] if f'ON "{name}" TO "members"' not in found] == []
    assert '"other"' not in found


def test_two_versions_of_a_package_are_both_read(tmp_path: Path) -> None:
    """Each has modules of its own, though they are called the same; a command that runs apps takes one of them, and says so."""
    targets = []
    for version in ("before", "now"):
        package = tmp_path / version / "orders"
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        (package / "words.py").write_text(f"WORD = 'place_{version}'\n")
        (package / "main.py").write_text(
            "from cliffracer import App\nfrom orders.words import WORD\n\napp = App('orders')\n\n\n"
            "@app.rpc(name=WORD)\nasync def place(number: int) -> int:\n    return number\n"
        )
        targets.append(str(package / "main.py:app"))

    def run(command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "cliffracer", command, *targets], check=False, capture_output=True, text=True, cwd=tmp_path
        )

    assert {'"orders.place_before orders"', '"orders.place_now orders"'} <= set(run("permissions").stdout.split("\n          "))
    refused = run("routes")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert f"is in a package orders, as is what was imported from {tmp_path}/before/orders" in refused.stderr
