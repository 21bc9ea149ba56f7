"""What an idle service keeps in memory, counted instead of measured: the modules that it has imported.

Each module costs 20 to 250 kB as long as the process lives. When a change of yours passes a limit, either it imports something at the
start that only some services use, or it is worth its price: then say so and raise it.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cliffracer import connect
from tests.cli.terminal import Background, written
from tests.project.places import python
from tests.support.nats import NatsServer

MOST = 205
"""Modules of ours: how many there are, and a few more."""
SERVICE = """
    import sys
    from cliffracer import App

    app = App("idle")

    @app.rpc
    def loaded() -> list[str]:
        return sorted(sys.modules)
"""


@pytest.fixture
def nats() -> Iterator[NatsServer]:
    with NatsServer() as server:
        yield server


def _loaded(folder: Path, nats: NatsServer) -> set[str]:
    """Return the modules of a service that has just begun, as it runs in production."""
    with Background(folder, "run", "app:app", CLIFFRACER_ENV="production", NATS_URL=nats.url, HTTP_PORT="0") as run:
        run.says("ready")
        with connect(nats.url) as client:
            return set(client.call("idle.loaded"))


def test_a_service_of_methods_imports_what_it_needs(nats: NatsServer, tmp_path: Path) -> None:
    """One that answers RPC, and HTTP for probes of its health, has nothing in memory that only others use."""
    loaded = _loaded(written(tmp_path, app=SERVICE), nats)
    others = {
        *("click.shell_completion", "cliffracer.elsewhere", "difflib", "tomllib"),  # people who type, and mistake a name
        *("cliffracer.messaging.batches", "cliffracer.cli.described"),  # who lists dead letters, and help without docstrings
        *("stringprep", "unicodedata"),  # letters beyond ASCII
        *("cliffracer.appcache", "cliffracer.caching.answers", "cliffracer.messaging.caches"),  # answers that are kept
        *("cliffracer.messaging.lanes", "cliffracer.messaging.locks", "cliffracer.messaging.ordered"),  # events by their key, and locks
        *("cliffracer.messaging.transport.stock", "cliffracer.observability.metrics"),  # the other transport, and who scrapes
        *("cliffracer.database", "zoneinfo"),  # tables, and time zones of timers
        *("cliffracer.web.frames", "cliffracer.web.websocket", "starlette.websockets", "websockets"),  # WebSockets
        *("cliffracer.web.routes", "starlette.datastructures", "starlette.responses", "python_multipart", "http.client"),  # HTTP
    }
    assert loaded & others == set()
    assert len([name for name in loaded if name.partition(".")[0] == "cliffracer"]) <= MOST


def test_routes_import_what_they_need() -> None:
    """Those that take and give JSON have no forms, streams or sockets with them."""
    loaded = set(python("import sys, cliffracer.web.endpoints; print(*sys.modules)").split())
    others = {"cliffracer.web.forms", "cliffracer.web.frames", "cliffracer.web.multiparts", "cliffracer.web.streams", "websockets"}
    assert loaded & others == set()
    assert "cliffracer.web.routes" in loaded


def test_a_database_imports_what_it_needs() -> None:
    """Where there is one of it, what makes one of several is not imported, nor in production what makes tables."""
    loaded = set(python("import sys, cliffracer.appdatabase; print(*sys.modules)").split())
    others = {
        *("cliffracer.database.several", "cliffracer.database.sharded", "cliffracer.database.scattered"),  # shards
        *("cliffracer.database.development", "cliffracer.database.migrations", "cliffracer.database.schema"),  # tables that are made
    }
    assert loaded & others == set()
    assert "cliffracer.database.repository" in loaded
