"""OpenTelemetry: spans reach a collector where one is set, with ids that go along, and nothing else is needed to see a trace."""

import json
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.cli.terminal import Background, cliffracer, written
from tests.support.nats import free_port

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
APPS = """
    from collections.abc import AsyncIterator
    from opentelemetry import trace
    from cliffracer import App, Conflict

    front, back = App("front", version="2.0.0"), App("back")

    @back.rpc
    def work(fail: bool) -> int:
        with trace.get_tracer("mine").start_as_current_span("mine"):
            if fail:
                raise RuntimeError("broken")
        return 1

    @back.rpc
    async def rows() -> AsyncIterator[int]:
        for number in range(3):
            yield number

    @back.on("job.done")
    async def note(number: int) -> None: ...

    @front.get("/begin")
    async def begin(fail: bool = False) -> int:
        await front.emit("job.done", 1)
        async for _ in front.service("back").stream.rows():
            break
        return await front.call(work, fail=fail)
"""
PLAIN = "from cliffracer import App\napp = App('plain')\n@app.rpc\nasync def one() -> int: return 1\n"


class Collector:
    """What an OTLP collector would get: spans by (service, name, kind)."""

    def __init__(self) -> None:
        self.spans = {}
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                request = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"])))
                for resource in request.resource_spans:
                    about = {each.key: each.value.string_value for each in resource.resource.attributes}
                    for scope in resource.scope_spans:
                        for span in scope.spans:
                            collector.spans[about["service.name"], span.name, span.kind] = (span, about)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    thread = threading.Thread(target=made.server.serve_forever)
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


def _get(port: int, path: str) -> int:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_calls_and_events_are_spans_of_one_trace(tmp_path: Path, collector: Collector) -> None:
    """Server, client, producer, consumer, and a span of the program's own in between; each is the child of what caused it."""
    written(tmp_path, app=APPS)
    port = free_port()
    env = {"CLIFFRACER_NAMESPACE": f"otel{port}", "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "100"}
    with Background(tmp_path, "run", "app.py", "--port", str(port), **env) as run:
        run.says("ready: ")
        assert _get(port, "/begin?fail=true") == 500
        shown = json.loads(cliffracer("trace", TRACE, "--json", cwd=tmp_path, **env).out)
        assert run.end() == 0  # which exports what is left
    spans = {name: span for name, (span, _) in collector.spans.items()}
    server, client, worked = spans["front", "GET /begin", 2], spans["front", "back.work", 3], spans["back", "back.work", 2]
    emitted, handled, mine = spans["front", "emit job.done", 4], spans["back", "process job.done", 5], spans["front", "mine", 1]
    assert {span.trace_id.hex() for span in spans.values()} == {TRACE}
    assert server.parent_span_id.hex() == "00f067aa0ba902b7"
    streaming, streamed = spans["front", "back.rows", 3], spans["back", "back.rows", 2]
    assert (streaming.parent_span_id, streamed.parent_span_id) == (server.span_id, streaming.span_id)
    assert client.parent_span_id == emitted.parent_span_id == server.span_id
    assert (worked.parent_span_id, mine.parent_span_id, handled.parent_span_id) == (client.span_id, worked.span_id, emitted.span_id)
    assert {name: span.status.code for name, span in spans.items()} == {
        ("front", "GET /begin", 2): 2,
        ("front", "back.work", 3): 2,
        ("back", "back.work", 2): 2,
        ("front", "emit job.done", 4): 0,
        ("back", "process job.done", 5): 0,
        ("front", "mine", 1): 2,
        ("front", "back.rows", 3): 0,
        ("back", "back.rows", 2): 0,
    }
    assert [event.name for event in worked.events] == ["exception"]
    assert collector.spans["front", "GET /begin", 2][1]["service.version"] == "2.0.0"
    kinds = {(call["kind"], call["name"]): call for call in shown["calls"]}
    assert kinds["rpc", "work"]["parent"] == kinds["call", "back.work"]["id"] == client.span_id.hex()
    assert kinds["call", "back.work"]["parent"] == kinds["http", "begin"]["id"]


def test_without_the_extra_it_is_said_and_the_service_runs(tmp_path: Path) -> None:
    """A platform that sets the variables for all must not stop one that cannot use them."""
    written(tmp_path, app=PLAIN)
    (tmp_path / "opentelemetry").mkdir()
    (tmp_path / "opentelemetry" / "__init__.py").write_text("raise ModuleNotFoundError('gone', name='opentelemetry')\n")
    env = {"CLIFFRACER_NAMESPACE": f"otel{free_port()}", "OTEL_TRACES_EXPORTER": "otlp", "PYTHONPATH": str(tmp_path)}
    with Background(tmp_path, "run", **env) as run:
        run.says("ready: plain")
        assert run.text.count("Tracing needs cliffracer[otel]: pip install") == 1
        assert cliffracer("call", "plain.one", cwd=tmp_path, **env).out == "1\n"


def test_an_exporter_that_there_is_not(tmp_path: Path) -> None:
    """Those that are installed are named."""
    written(tmp_path, app=PLAIN)
    done = cliffracer("run", cwd=tmp_path, OTEL_TRACES_EXPORTER="zipkn", CLIFFRACER_NAMESPACE=f"otel{free_port()}")
    assert done.code == 1
    assert done.err.endswith(
        "Error: OTEL_TRACES_EXPORTER is 'zipkn', which nothing installed has. There are: console, none, otlp, otlp_proto_http.\n"
    )


def test_a_collector_that_is_away_holds_nothing_up(tmp_path: Path) -> None:
    """Calls are answered, and a stop ends within its time."""
    written(tmp_path, app=PLAIN)
    env = {"CLIFFRACER_NAMESPACE": f"otel{free_port()}", "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}"}
    with Background(tmp_path, "run", **env) as run:
        run.says("ready: plain")
        assert cliffracer("call", "plain.one", cwd=tmp_path, **env).out == "1\n"
        assert run.end() == 0
        assert "Traceback" not in run.text
