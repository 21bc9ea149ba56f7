"""The first connect: what is tried, what is said, what is final."""

import asyncio
import socket
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from cliffracer.errors import SetupError, Unavailable
from cliffracer.messaging.bus import connect
from cliffracer.messaging.transport import dial
from cliffracer.messaging.transport.fast import FastBus
from cliffracer.messaging.transport.guard import GuardedClient
from cliffracer.messaging.transport.stock import StockBus
from cliffracer.settings.secret import Secret
from tests.messaging.transport.conftest import settings
from tests.support import certificates
from tests.support.fake_nats import FakeNats
from tests.support.nats import NatsServer, free_port
from tests.support.waiting import eventually


async def test_nats_that_is_not_there(connected: Any) -> None:
    """One line meanwhile; then an error that names host, port, reason and cure."""
    port = free_port()
    lines: list[str] = []
    with pytest.raises(Unavailable) as caught:
        await connected(f"nats://127.0.0.1:{port}", wait=0.3, on_wait=lines.append, cure="NATS_URL is set in .env. Unset it.")
    assert caught.value.message == f"Cannot reach NATS at nats://127.0.0.1:{port} (connection refused); NATS_URL is set in .env. Unset it."
    assert len(lines) == 1
    assert lines[0].startswith(f"Cannot reach NATS at nats://127.0.0.1:{port} (connection refused); trying for")


async def test_without_patience_the_first_refusal_counts(connected: Any) -> None:
    """``wait = 0`` is one attempt."""
    lines: list[str] = []
    with pytest.raises(Unavailable):
        await connected(f"nats://127.0.0.1:{free_port()}", wait=0, on_wait=lines.append)
    assert lines == []


async def test_nats_that_comes_later(connected: Any) -> None:
    """A server that starts within the wait is found."""
    server = NatsServer()
    lines: list[str] = []
    task = asyncio.create_task(connected(server.url, wait=20, on_wait=lines.append))
    await eventually(lambda: lines)
    with server:
        bus = await task
        await bus.flush()
        await bus.close()


async def test_one_of_several_servers_is_enough(connected: Any, server: NatsServer) -> None:
    """The URLs are tried in turn; whatever is in them, no password is in the message."""
    bus = await connected(f"nats://127.0.0.1:{free_port()}, {server.url}", wait=0)
    await bus.flush()
    with pytest.raises(Unavailable) as caught:
        await connected(f"nats://u:hidden@127.0.0.1:{free_port()},127.0.0.1:{free_port()}", wait=0)
    assert "hidden" not in str(caught.value)
    assert str(caught.value).count("nats://127.0.0.1:") == 2


@pytest.mark.parametrize("given", [{"nats_user": "app", "nats_password": Secret("wrong-one")}, {"nats_token": Secret("wrong-one")}, {}])
async def test_wrong_credentials_are_final_at_once(connected: Any, given: dict[str, Any], log: list[str]) -> None:
    """No second attempt; the user is named, the password never."""
    with NatsServer("authorization { user: app, password: right-one }") as server:
        since = time.monotonic()
        with pytest.raises(SetupError) as caught:
            await connected(server.url, wait=60, **given)
        assert time.monotonic() - since < 30
    assert "Authorization Violation" in str(caught.value)
    assert ("for user app" in str(caught.value)) is ("nats_user" in given)
    assert "wrong-one" not in str(caught.value) + str(caught.value.__cause__) + "".join(log)


async def test_credentials_in_the_url(connected: Any) -> None:
    """As nats-py takes them: a user and password, or a token."""
    with NatsServer("authorization { user: app, password: secret }") as server:
        bus = await connected(server.url.replace("//", "//app:secret@"))
        await bus.flush()
        with pytest.raises(SetupError, match="for user app"):
            await connected(server.url.replace("//", "//app:other@"))
    with NatsServer("authorization { token: t0ken }") as server:
        bus = await connected(server.url.replace("//", "//t0ken@"))
        await bus.flush()
        with pytest.raises(SetupError) as caught:
            await connected(server.url.replace("//", "//guess@"))
        assert "guess" not in str(caught.value)


async def test_secret_settings_are_revealed_to_the_server_only(connected: Any) -> None:
    """User, password and token may be secrets."""
    with NatsServer("authorization { user: app, password: secret }") as server:
        bus = await connected(server.url, nats_user="app", nats_password=Secret("secret"))
        await bus.flush()
    with NatsServer("authorization { token: t0ken }") as server:
        bus = await connected(server.url, nats_token=Secret("t0ken"))
        await bus.flush()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"nats_url": "http://localhost:4222"}, "NATS_URL has http://localhost:4222"),
        ({"nats_url": "nats://localhost:notaport"}, "must look like nats://host:4222"),
        ({"nats_url": "nats://u:hidden@:4222"}, "NATS_URL has nats://:4222"),
        ({"nats_creds": "/nowhere/app.creds"}, "NATS_CREDS names /nowhere/app.creds, and there is no such file"),
        ({"nats_nkey": "/nowhere/app.nk"}, "NATS_NKEY names /nowhere/app.nk"),
        ({"nats_tls_ca": "/nowhere/ca.pem"}, "NATS_TLS_CA names /nowhere/ca.pem"),
        ({"nats_tls_ca": __file__}, "cannot be used"),
        ({"nats_transport": "carrier pigeon"}, "can be fast or stock"),
    ],
)
async def test_settings_that_cannot_work(given: dict[str, Any], message: str) -> None:
    """They are refused before anything connects, by name."""
    options = settings("nats://127.0.0.1:1")
    vars(options).update(given)
    with pytest.raises(SetupError) as caught:
        await connect(options, name="test")
    assert message in str(caught.value)
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("given", [{"nats_nkey": "SUAEXAMPLE"}, {"nats_creds": "-----BEGIN NATS USER JWT-----"}])
async def test_nkeys_without_the_library(given: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says what to install, and shows no seed."""
    monkeypatch.setitem(sys.modules, "nkeys", None)
    with pytest.raises(SetupError) as caught:
        await connect(settings("nats://127.0.0.1:1", **given), name="test")
    assert str(caught.value) == 'NATS_CREDS and NATS_NKEY need nkeys: pip install "cliffracer[nkeys]".'


async def test_a_port_that_answers_nothing(connected: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A listener that never greets is given up within the bounds of one attempt."""
    monkeypatch.setattr(dial, "_STEP", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        async with asyncio.timeout(10):
            with pytest.raises(Unavailable, match="no answer in time"):
                await connected(f"nats://127.0.0.1:{silent.getsockname()[1]}", wait=0)


async def test_a_port_that_is_not_nats(connected: Any) -> None:
    """Another protocol's greeting is no NATS."""
    async with FakeNats() as fake:
        fake.greeting_error = "maximum connections exceeded"
        with pytest.raises(Unavailable, match="maximum connections exceeded"):
            await connected(fake.url, wait=0)


async def test_cancelling_a_connect(connected: Any, server: NatsServer) -> None:
    """It stops at once and leaves nothing behind."""
    before = asyncio.all_tasks()
    task = asyncio.create_task(connected(f"nats://127.0.0.1:{free_port()}", wait=60, on_wait=lambda _: None))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await eventually(lambda: asyncio.all_tasks() == before)


async def test_cancelling_a_close(connected: Any, server: NatsServer) -> None:
    """It is closed all the same."""
    before = asyncio.all_tasks()
    bus = await connected(server.url)
    task = asyncio.create_task(bus.close())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await eventually(lambda: asyncio.all_tasks() == before)
    assert not bus.connected


@pytest.mark.parametrize("outcome", ["refused", "connected"])
async def test_cancelling_a_connect_when_the_client_swallows_it(
    connected: Any, server: NatsServer, monkeypatch: pytest.MonkeyPatch, outcome: str
) -> None:
    """As `asyncio.wait_for` does on Python 3.11 when it is cancelled just as an attempt ends: there is no other attempt."""
    attempts = 0
    real = GuardedClient.open

    async def swallowing(client: GuardedClient, *args: Any, **options: Any) -> None:
        nonlocal attempts
        attempts += 1
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if outcome == "refused":
                raise ConnectionRefusedError from None
            await real(client, *args, **options)

    monkeypatch.setattr(GuardedClient, "open", swallowing)
    task = asyncio.create_task(connected(server.url, wait=60))
    await eventually(lambda: attempts)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert attempts == 1


async def test_tls(connected: Any, tmp_path: Path, log: list[str]) -> None:
    """With our authority it connects, works, and comes back after a restart."""
    made = certificates.make(tmp_path)
    with NatsServer(f'tls {{ cert_file: "{made.certificate}", key_file: "{made.key}" }}') as server:
        bus = await connected(server.url, nats_tls_ca=str(made.authority), ping=1)
        await bus.subscribe("echo", lambda _, reply, __, payload: bus.publish(reply, payload))
        payload = bytes(range(256)) * 1000
        assert (await bus.request(b"echo", payload, timeout=5)).payload == payload
        server.kill()
        await eventually(lambda: not bus.connected)
        server.start()
        replies = await asyncio.gather(*(bus.request(b"echo", b"%d" % number, timeout=10) for number in range(500)))
        assert [reply.payload for reply in replies] == [b"%d" % number for number in range(500)]
        other = await connected(server.url.replace("nats://", "tls://"), nats_tls_ca=made.authority.read_text())
        await other.flush()
        await other.close()
        await bus.close()


async def test_client_certificates(connected: Any, tmp_path: Path) -> None:
    """As paths or as what is in the files."""
    made = certificates.make(tmp_path)
    files = f'cert_file: "{made.certificate}", key_file: "{made.key}", ca_file: "{made.authority}"'
    with NatsServer(f"tls {{ {files}, verify: true }}") as server:
        for read in (str, lambda path: path.read_text()):
            given = {"nats_tls_ca": read(made.authority), "nats_tls_cert": read(made.certificate), "nats_tls_key": Secret(read(made.key))}
            bus = await connected(server.url, **given)
            await bus.flush()
            await bus.close()


async def test_a_certificate_of_somebody_else(connected: Any, tmp_path: Path) -> None:
    """Final at once: neither an unknown authority nor a wrong host name is waited out."""
    made = certificates.make(tmp_path)
    with NatsServer(f'tls {{ cert_file: "{made.certificate}", key_file: "{made.key}" }}') as server:
        async with asyncio.timeout(20):
            with pytest.raises(SetupError, match="certificate does not verify"):
                await connected(server.url, wait=60)


async def test_no_credentials_over_a_plain_connection_where_tls_is_wanted(connected: Any, tmp_path: Path) -> None:
    """A server, or somebody in its place, that offers no TLS is told nothing."""
    made = certificates.make(tmp_path)
    async with FakeNats(auth_required=True) as fake:
        for url, given in ((fake.url.replace("nats://", "tls://"), {}), (fake.url, {"nats_tls_ca": str(made.authority)})):
            with pytest.raises(Unavailable, match="does not offer TLS"):
                await connected(url, wait=0, nats_user="app", nats_password="secret", **given)
        assert fake.connects >= 2
        assert not any(line.startswith(b"CONNECT") for line in fake.lines)


async def test_another_nats_py_falls_back_to_the_stock_transport(
    server: NatsServer, monkeypatch: pytest.MonkeyPatch, log: list[str]
) -> None:
    """When the hooks are not where they were, it is said, and everything works."""
    fast = await connect(settings(server.url), name="test")
    assert isinstance(fast, FastBus)
    await fast.close()
    monkeypatch.setattr(GuardedClient, "transport", None)
    bus = await connect(settings(server.url), name="test")
    assert isinstance(bus, StockBus)
    await bus.subscribe("echo", lambda _, reply, __, payload: bus.publish(reply, payload))
    assert (await bus.request(b"echo", b"x", timeout=20)).payload == b"x"
    await bus.close()
    assert sum("stock is used instead of fast" in line for line in log) == 1


async def test_the_server_knows_our_name(connected: Any, server: NatsServer) -> None:
    """What we know of the server, and it of us."""
    bus = await connected(server.url)
    assert bus.name == "test"
    assert bus.connected
    assert bus.info["version"].startswith("2.")
    assert bus.max_payload == 1_048_576


def test_a_connect_whose_loop_is_gone_ends_in_silence() -> None:
    """As when a process ends while it waits for a server that says nothing: there is nothing more to wait for."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        loop = asyncio.new_event_loop()
        waiting: Any = loop.create_task(connect(settings(f"nats://127.0.0.1:{silent.getsockname()[1]}", wait=600.0), name="test"))
        loop.run_until_complete(asyncio.sleep(0.2))
        waiting.get_coro().close()  # raises where it goes on awaiting
        waiting.cancel()
        loop.run_until_complete(asyncio.gather(waiting, return_exceptions=True))
        for left in asyncio.all_tasks(loop):
            left.cancel()
            loop.run_until_complete(asyncio.gather(left, return_exceptions=True))
        loop.close()
