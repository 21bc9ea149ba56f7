"""What all tests share: a place of their own for embedded servers, which start once for the whole run."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

from tests.support.bounded import Bounded
from tests.support.leaks import Leaks
from tests.support.unclosed import Unclosed

hypothesis.settings.register_profile("busy", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("busy")  # how long an example takes says something of the machine only

TRANSPORT = os.environ.get("TEST_TRANSPORT", "fast")
"""What tests run on that do not choose: ``make test TRANSPORT=stock`` runs all of them on the stock transport."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what is marked ``both_transports`` on each."""
    if metafunc.definition.get_closest_marker("both_transports") is not None:
        metafunc.parametrize("_transport", ["fast", "stock"], indirect=True)


@pytest.fixture(autouse=True)
def _transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have everything that this test connects, processes of its own included, use one of the transports."""
    if getattr(request, "param", TRANSPORT) == "stock":
        from cliffracer.messaging import bus
        from cliffracer.messaging.transport.stock import StockBus

        monkeypatch.setattr(bus, "FastBus", StockBus)
        monkeypatch.setenv("CLIFFRACER_NATS_TRANSPORT", "stock")


@pytest.fixture(scope="session", autouse=True)
def _home() -> Iterator[None]:
    """Keep embedded servers out of the checkout; they stay warm between tests and stop after the last."""
    folder = Path(tempfile.mkdtemp(prefix="cliffracer-tests-"))
    before = {name: os.environ.get(name) for name in ("CLIFFRACER_HOME", "CLIFFRACER_DEV_GRACE")}
    os.environ["CLIFFRACER_HOME"] = str(folder)
    os.environ["CLIFFRACER_DEV_GRACE"] = "60"
    from cliffracer import embedded

    try:
        yield
    finally:
        embedded.stop(folder)
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)
        shutil.rmtree(folder, ignore_errors=True)


def pytest_configure(config: pytest.Config) -> None:
    """Have every test fail that prints or logs a secret, leaves something open, or does not end."""
    leaks = Leaks()
    config.pluginmanager.register(leaks, "leaks")
    leaks.watch()
    config.pluginmanager.register(Unclosed(), "unclosed")
    config.pluginmanager.register(Bounded(), "bounded")


@pytest.fixture
def confide(pytestconfig: pytest.Config) -> Iterator[Callable[[str], str]]:
    """Look out for a secret of this test that is too short to be taken for one: ``confide("hunter22")`` returns it."""
    leaks = pytestconfig.pluginmanager.get_plugin("leaks")
    assert isinstance(leaks, Leaks)
    with leaks.confiding() as keep:
        yield keep
