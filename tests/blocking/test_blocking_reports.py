"""What is said of an incident."""

import json
from collections.abc import Iterator

import pytest

from cliffracer.context import Context
from cliffracer.observability import logs
from cliffracer.observability.incident import Held, Incident, Reports, Row
from cliffracer.settings import Settings

USERS = Row("/app/users.py", 31, "create_user")
CALL = Context(service="users", handler="create_user", found_id="c-1")
ADVICE = "the event loop: nothing else runs meanwhile; await instead, or declare the handler with def, which runs it in a thread"


@pytest.fixture(params=["json"])
def form(request: pytest.FixtureRequest) -> Iterator[str]:
    """A log that is set up."""
    logs.configure(Settings(log_format=request.param))
    yield request.param
    logs.reset()


def incident(place: Row = USERS, *, ended: bool = True, context: Context | None = CALL) -> Incident:
    """An incident of a quarter of a second."""
    return Incident(0.25, ended, Held([place, Row("/lib/x.py", 5, "get")], context))


def test_an_incident_is_one_line(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The line names the handler, its call, how long it took, and the stack."""
    Reports().log(incident())
    line = json.loads(capsys.readouterr().err)
    assert (line["level"], line["message"]) == ("WARNING", f"blocked {ADVICE}")
    assert (line["service"], line["handler"], line["correlation_id"], line["seconds"]) == ("users", "create_user", "c-1", 0.25)
    assert line["stack"] == ["/app/users.py:31 in create_user", "/lib/x.py:5 in get"]


def test_without_a_call_the_function_is_named(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A task outside a call is named by its function; one that still runs is told so."""
    Reports().log(incident(context=None, ended=False))
    assert json.loads(capsys.readouterr().err)["message"] == f"create_user blocks {ADVICE}"


@pytest.mark.parametrize("form", ["human"], indirect=True)
def test_people_see_the_stack_below_the_line(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    """On a terminal each frame is a row of its own."""
    Reports().log(incident())
    first, *rows = capsys.readouterr().err.splitlines()
    assert first.endswith(f"WARNING  users.create_user blocked {ADVICE} seconds=0.25 c-1")
    assert rows == ["  /app/users.py:31 in create_user", "  /lib/x.py:5 in get"]


def test_one_place_is_not_told_again_and_again(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Within the pause a place is only counted; another place is told."""
    reports = Reports(pause=1000)
    for _ in range(5):
        reports.log(incident())
    reports.log(incident(Row("/app/users.py", 40, "other")))
    assert capsys.readouterr().err.count("\n") == 2


def test_what_was_not_told_is_counted(form: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """After the pause the next line says how often the place blocked meanwhile."""
    now = [1000.0]
    monkeypatch.setattr("cliffracer.observability.incident.time.monotonic", lambda: now[0])
    reports = Reports(pause=10)
    for _ in range(4):
        reports.log(incident())
    now[0] += 11
    reports.log(incident())
    first, second = map(json.loads, capsys.readouterr().err.splitlines())
    assert "times_before" not in first
    assert second["times_before"] == 3


def test_places_are_forgotten_in_the_end(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Many places take bounded memory."""
    reports = Reports(pause=1000, places=3)
    for number in range(10):
        reports.log(incident(Row("/app/users.py", number, "x")))
    assert capsys.readouterr().err.count("\n") == 10
    assert len(reports._logged) <= 3
