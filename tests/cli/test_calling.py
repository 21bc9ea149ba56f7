"""`call`, `emit`, `tail`, `services`, `top`, `dead` and `bench` against a service that runs."""

import asyncio
import json
import re
import select
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import nats
import pytest

from cliffracer.cli import reader
from tests.cli.terminal import PATIENCE, PROGRAM, Background, Done, cliffracer, environment, on_terminal, written
from tests.support.nats import NatsServer, free_port

SERVICE = """
    from collections.abc import AsyncIterator
    from typing import Literal
    from msgspec import Struct
    from cliffracer import App, Conflict, Context

    app = App("notes", version="1.2.3", description="keeps notes")

    class Note(Struct):
        title: str
        tags: list[str] = []
        stars: int = 0

    @app.rpc
    async def write(title: str, tags: list[str] = [], stars: int = 0, kind: Literal["plain", "rich"] = "plain") -> Note:
        return Note(title, tags, stars)

    @app.rpc
    async def keep(note: Note) -> Note:
        return note

    @app.rpc
    async def count(to: int) -> AsyncIterator[int]:
        for number in range(to):
            yield number

    @app.rpc
    async def refuse() -> None:
        raise Conflict("it is there already", title="Dune")

    @app.rpc
    async def secret() -> None:
        raise RuntimeError("the password is hunter2")

    @app.rpc
    async def publish(title: str) -> int:
        await app.call(keep, note=Note(title))
        try:
            await app.call(refuse)
        except Conflict:
            return 1
        return 0

    broken = True

    @app.on("note.written", retry=())
    async def index(note: Note) -> None:
        if note.title == "bad":
            raise ValueError("cannot index that")

    @app.on("note.seen", durable=False)
    async def see(note: Note) -> None: ...
"""


class Place:
    """A folder in which the service runs."""

    def __init__(self, folder: Path, namespace: str, log: Background) -> None:
        self.folder = folder
        self.namespace = namespace
        self.log = log

    def __call__(self, *arguments: str, stdin: str = "", **env: str) -> Done:
        return cliffracer(*arguments, cwd=self.folder, stdin=stdin, CLIFFRACER_NAMESPACE=self.namespace, **env)

    def typing(self, *arguments: str, typed: str) -> str:
        shown = on_terminal(*arguments, cwd=self.folder, typed=typed, NO_COLOR="1", CLIFFRACER_NAMESPACE=self.namespace)
        return shown.removeprefix(typed)  # echoed at once

    def json(self, *arguments: str, stdin: str = "") -> object:
        done = self(*arguments, stdin=stdin)
        assert done.code == 0, done.err
        return json.loads(done.out)


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = written(tmp_path_factory.mktemp("notes"), notes=SERVICE)
    namespace = f"cli{free_port()}"
    with Background(folder, "run", "notes:app", CLIFFRACER_NAMESPACE=namespace) as run:
        run.says("ready: notes 1.2.3")
        yield Place(folder, namespace, run)


def _note(title="Dune", tags=(), stars=0):
    return {"title": title, "tags": list(tags), "stars": stars}


@pytest.mark.parametrize(
    ("arguments", "note"),
    [
        (["title=Dune"], _note()),
        (["title=1984"], _note("1984")),  # text, because the method takes text
        (["title=true", "stars=3"], _note("true", stars=3)),
        (['title=a "b" = c'], _note('a "b" = c')),
        (["title=", "stars:=4"], _note("", stars=4)),
        (["title=x", 'tags=["a","b"]'], _note("x", ["a", "b"])),
        (['title:="x"', 'tags:=["a"]'], _note("x", ["a"])),
        (["1984"], _note("1984")),
        (["1984", '["a"]', "3", "rich"], _note("1984", ["a"], 3)),
        (["Dune", "stars=3"], _note(stars=3)),
        (['{"title": "x", "stars": 3}'], _note("x", stars=3)),
        (["@whole.json"], _note("whole", stars=5)),
        (["title=@title.txt"], _note("from a file")),
        (["title=x", "tags:=@tags.json"], _note("x", ["y"])),
        (["title=@tags.json", "tags=@tags.json"], _note('["y"]', ["y"])),
    ],
)
def test_arguments_become_what_the_method_takes(at, arguments, note):
    """Text, numbers, JSON and files; what a text means is decided by the method's schema."""
    (at.folder / "whole.json").write_text('{"title": "whole", "stars": 5}')
    (at.folder / "title.txt").write_text("from a file")
    (at.folder / "tags.json").write_text('["y"]')
    assert at.json("call", "notes.write", *arguments) == note


def test_a_file_of_bytes_is_refused_with_what_to_do(at):
    """JSON has no bytes."""
    (at.folder / "a photo").write_bytes(b"\xff\xd8")
    done = at("call", "notes.write", "title=@a photo")
    assert done.code == 2
    assert "a photo is no text in UTF-8. Bytes go as base64: base64 < 'a photo' | tr -d '\\n' > FILE, and then @FILE" in done.err


def test_arguments_come_from_standard_input_and_by_position(at):
    """`-` is a JSON object of all of them."""
    assert at.json("call", "notes.write", "-", stdin='{"title": "piped"}') == _note("piped")
    assert at.json("call", "notes.write", "Dune") == _note()


def test_an_object_is_given_as_json(at):
    """A Struct parameter takes name=JSON."""
    for given in ('note={"title": "x"}', '{"title": "x"}', '{"note": {"title": "x"}}'):
        assert at.json("call", "notes.keep", given) == _note("x")


def test_every_argument_that_does_not_fit_is_told_before_anything_is_sent(at):
    """Unknown names with what was meant, missing ones, wrong types, wrong choices."""
    before = at.json("services", "notes", "--json")[0]["calls"]
    done = at("call", "notes.write", "titel=x", "stars=many", "kind=odd")
    assert (done.code, done.out) == (1, "")
    assert done.err == (
        "Error: notes.write does not take these arguments:\n"
        "  titel: there is no such argument; did you mean title?\n"
        '  stars: expected integer, got string "many"\n'
        '  kind: expected one of "plain", "rich", got string "odd"\n'
        "  title: is required\n"
    )
    assert at("call", "notes.write").err == "Error: notes.write needs arguments:\n  title: is required\n"  # nothing was given to refuse
    assert at.json("services", "notes", "--json")[0]["calls"] == before


def test_what_is_given_by_position_is_checked_as_well(at):
    """A lone object under its names, others by the order that the service publishes; some by position and some by name go together."""
    done = at("call", "notes.write", '{"titel": "x"}')
    assert (done.code, done.out) == (1, "")
    assert done.err.endswith("  titel: there is no such argument; did you mean title?\n  title: is required\n")
    before = at.json("services", "notes", "--json")[0]["calls"]
    for given, problem in (
        (["Dune", "x", "stars=many"], '  tags: expected array, got string "x"\n  stars: expected integer, got string "many"\n'),
        (["Dune", "title=x"], "  title: is given by position and by name\n"),
        (["a", "[]", "1", "plain", "b"], "  (all): 5 are given by position; it takes title, tags, stars, kind\n"),
    ):
        done = at("call", "notes.write", *given)
        assert (done.code, done.out, done.err) == (1, "", f"Error: notes.write does not take these arguments:\n{problem}")
    assert at.json("services", "notes", "--json")[0]["calls"] == before


def test_what_only_the_service_can_tell_comes_from_it(at):
    """A field inside an object: refused by the service, with its path."""
    done = at("call", "notes.keep", 'note={"title": 1, "stars": "x"}')
    assert done.err.startswith("Error: the input is not valid:\n  note.title: ")
    assert "\n  note.stars: " in done.err


ODD = {
    "text": "{nope",
    "names": '{"properties": [1]}',
    "ring": '{"properties": {"a": {"$ref": "#/$defs/A"}}, "$defs": {"A": {"anyOf": [{"$ref": "#/$defs/A"}]}}}',
}


async def _answer(payload, message):
    await message.respond(payload)


async def test_an_odd_schema_is_as_good_as_none(tmp_path):
    """Anybody on NATS may publish one: the call goes as it was typed, and that no client can be written is told in one line."""
    with NatsServer() as server:
        stranger = await nats.connect(server.url)
        for name, schema in ODD.items():
            described = {"endpoints": {"m": {"request_schema": schema, "response_schema": "{}"}}}
            await stranger.subscribe(f"$SRV.SCHEMA.{name}", cb=partial(_answer, json.dumps(described).encode()))
            await stranger.subscribe(f"{name}.m", cb=partial(_answer, b"1"))
        told = {"type": "io.nats.micro.v1.info_response", "name": "plain", "id": "1", "version": "1.0.0", "endpoints": []}
        for subject in ("$SRV.INFO", "$SRV.INFO.plain"):
            await stranger.subscribe(subject, cb=partial(_answer, json.dumps(told).encode()))
        await stranger.flush()
        done = await asyncio.to_thread(cliffracer, "client", "plain", cwd=tmp_path, NATS_URL=server.url)
        assert done.err.endswith(" (NATS_URL, environment). Running: plain.\n")
        for name in ODD:
            done = await asyncio.to_thread(cliffracer, "call", f"{name}.m", "a=1", cwd=tmp_path, NATS_URL=server.url)
            assert done == (0, "1\n", "")
            done = await asyncio.to_thread(cliffracer, "client", name, cwd=tmp_path, NATS_URL=server.url)
            assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
        await stranger.close()


def test_errors_keep_their_class(at):
    """A Conflict is a Conflict, and a defect says nothing but where to look."""
    assert at("call", "notes.refuse").err == "Error: Conflict: it is there already\n"
    told = at("call", "notes.secret").err
    assert told.startswith("Error: Internal (error id ")
    assert "hunter2" not in told


def test_errors_as_json(at):
    """With --json the error is JSON on standard output, with code and details, and the exit code is still 1."""
    done = at("call", "notes.refuse", "--json")
    assert (done.code, done.err) == (1, "")
    assert json.loads(done.out)["error"] == {
        "type": "Conflict",
        "message": "it is there already",
        "code": 409,
        "details": {"title": "Dune"},
    }


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("note.write", "Unavailable: No service answers note.write. Running: notes. Did you mean notes.write?"),
        ("notes.wrte", "Unavailable: No service answers notes.wrte. Running: notes. Did you mean notes.write?"),
    ],
)
def test_an_unknown_service_or_method_is_answered_with_what_was_meant(at, target, message):
    """At once, not by a time-out."""
    assert at("call", target).err == f"Error: {message}\n"


def test_nothing_runs(at):
    """Then it is said where was looked, and what starts a service."""
    done = cliffracer("call", "notes.write", cwd=at.folder, CLIFFRACER_NAMESPACE=f"nobody{free_port()}")
    assert done.err.startswith("Error: Unavailable: No service answers notes.write. No service is running on the embedded NATS of ")
    assert done.err.endswith(". Start one: cliffracer run notes:app\n")


@pytest.mark.parametrize("target", ["notes", "notes.", ".write", "no tes.write", "notes.wr*te", "notes.a.b"])
def test_a_target_that_is_none_is_wrong_usage(at, target):
    """Exit code 2, and how to write one."""
    done = at("call", target)
    assert done.code == 2
    assert "Error: " in done.err


def test_a_stream_is_printed_item_by_item(at):
    """One JSON value to a line; the reply of a method that does not stream is the one item."""
    assert at("call", "--stream", "notes.count", "to=3").out == "0\n1\n2\n"
    assert at("call", "--stream", "notes.write", "Dune").out == '{"title":"Dune","tags":[],"stars":0}\n'


def test_emitting_and_tailing(at):
    """What is emitted, tail prints: now, with --since later, and as JSON with id, source and correlation id."""
    seen: list[Done] = []
    live = threading.Thread(target=lambda: seen.append(at("tail", "note.*", "-n", "1", "--json")))
    live.start()
    while not seen:
        told = at("emit", "note.written", "title=Dune", "stars:=3")
        assert told.out.startswith("emitted note.written and stored, id ")
        assert told.err == ""
        live.join(0.2)
    event = json.loads(seen[0].out)
    assert (event["subject"], event["data"]) == ("note.written", {"title": "Dune", "stars": 3})
    assert event["id"]
    assert event["correlation_id"]
    for since in ("10m", "99999999999999d"):
        assert 'note.written {"title":"Dune","stars":3}' in at("tail", "note.>", "--since", since, "-n", "1").out
    assert at("emit", "screen.cleared", "title=\x9b2J").code == 0
    assert r'screen.cleared {"title":"\u009b2J"}' in at("tail", "screen.>", "--since", "10m", "-n", "1").out


def test_tail_shows_no_secret(at):
    """A token in an event, such as that for a new password, is for who sends the mail, not for who looks; as with logs."""
    at("emit", "accounts.reset_asked", "username=ada", "token=hunter2", 'more:=[{"Password":"hunter2"},1]', "api_key:=null")
    for form in ([], ["--json"]):
        done = at("tail", "accounts.>", "--since", "10m", "-n", "1", *form)
        assert "ada" in done.out
        assert "hunter2" not in done.out + done.err
    assert json.loads(done.out)["data"] == {"username": "ada", "token": "***", "more": [{"Password": "***"}, 1], "api_key": None}


@pytest.mark.parametrize("data", ["not json", "title=x more", "[1,"])
def test_data_that_is_none_is_wrong_usage(at, data):
    """Exit code 2 before anything is sent."""
    done = at("emit", "note.written", *data.split())
    assert done.code == 2
    assert "Error: " in done.err


def test_a_tail_of_one_subject_says_that_it_is_only_that_one(at):
    """Where there is something below it, or looks as if there were: who means all of it would wait in silence."""
    at("emit", "note.written.late", "title=x"), at("emit", "note", "title=x")
    for pattern, remark in (
        ("note", "\nonly note itself: 'note.>' has what is below it\n"),
        ("note.written", "\nonly note.written itself: 'note.written.>' has what is below it\n"),
        ("note.written.late", "; Ctrl-C stops\n"),
        ("note.>", "; Ctrl-C stops\n"),
    ):
        assert at("tail", pattern, "--since", "10m", "-n", "1").err.endswith(remark)
    assert at("tail", "note", "--since", "10m", "-n", "1", "--json").err == ""


@pytest.mark.parametrize(
    ("subject", "remark"),
    [
        ("note.writen", "No function follows note.writen. Did you mean note.written?\n"),
        ("note.seeen", "No function follows note.seeen. Did you mean note.seen?\n"),
        ("order.placed", "No function follows order.placed.\n"),
        ("note.seen", ""),
    ],
)
def test_an_event_that_no_function_follows_is_remarked_on(at, subject, remark):
    """With what was perhaps meant, durable or not; it is emitted all the same, for whoever asks for it later."""
    done = at("emit", subject, "title=x")
    assert (done.code, done.err) == (0, remark)
    assert done.out.startswith(f"emitted {subject} and stored, id ")


def test_a_delayed_event_is_listed_and_taken_back(at):
    """By the id that emit prints; one that is not there is exit code 1."""
    told = at("emit", "note.due", "title=Later", "--delay", "1h", "--id", "the one").out
    assert told == "emitted note.due and due in 1h; to take it back: cliffracer cancel the one\n"
    other = at.json("emit", "note.other", "--delay", "2h", "--json")["id"]
    assert [event["id"] for event in at.json("delayed", "--json")] == ["the one", other]
    (event,) = at.json("delayed", "note.due", "--json")
    assert (event["subject"], event["size"]) == ("note.due", len('{"title":"Later"}'))
    assert "note.due" in at("delayed").out
    assert at("cancel", "the one").out == "cancelled the one\n"
    again = at("cancel", "the one", other, "--json")
    assert (again.code, json.loads(again.out)) == (1, [{"id": "the one", "cancelled": False}, {"id": other, "cancelled": True}])
    gone = at("cancel", other)
    assert (gone.code, gone.err) == (1, f"Error: NotFound: no event of the id {other} waits, or none any more: see `cliffracer delayed`\n")
    assert at("delayed").out == "No event waits until it is due.\n"
    assert (at("cancel").code, at("delayed", "no..pattern").code) == (2, 2)


def test_what_could_not_be_handled_is_listed_shown_and_discarded(at):
    """The whole way of a dead letter; what is private in its data is for who looks at that one, to mend it."""
    at("emit", "note.written", "title=bad", "token=hunter2")
    at.log.says("gave up on")
    (letter,) = at.json("dead", "ls", "--json")
    assert letter["data"] == {"title": "bad", "token": "***"}
    assert (letter["subject"], letter["function"], letter["error"]) == ("note.written", "index", "ValueError: cannot index that")
    shown = at("dead", "show", str(letter["id"])).out
    assert '"title": "bad"' in shown
    assert "hunter2" in shown
    assert "ValueError: cannot index that" in shown.splitlines()[-1]
    assert at("dead", "replay").code == 2
    told = f"replayed 1 event (number {letter['id']})  what fails again is parked under a new number\n"
    assert at("dead", "replay", str(letter["id"])).out == told
    at.log.says("gave up on", times=2)
    (again,) = at.json("dead", "ls", "--json", "--function", "index")
    assert again["id"] != letter["id"]
    assert at("dead", "discard", "--all", "--dry-run").out == f"would be discarded: 1 event (number {again['id']})\n"
    done = at("dead", "discard", f"{again['id']}", "999")
    told = (1, f"discarded 1 event (number {again['id']})\n", "number 999 was not discarded: there is no dead letter 999\n")
    assert (done.code, done.out, done.err) == told
    assert at("dead", "replay", "999").err == "number 999 was not replayed: there is no dead letter 999\n"
    assert at("dead", "discard", "--all").out == "discarded 0 events\n"
    assert at.typing("dead", "discard", "--all", typed="n\n") == "discarded 0 events\n"  # there is nothing to ask about
    assert at.json("dead", "ls", "--json") == []
    assert at("dead", "show", "999").err == "Error: NotFound: there is no dead letter 999\n"
    assert at("dead", "show", "abc").err.endswith("'abc' is no whole number of 1 or more; `cliffracer dead ls` lists them\n")


def test_on_a_terminal_it_asks_before_all_are_discarded(at):
    """What was meant may be more than what somebody has in mind; elsewhere nobody can be asked, and -y is to ask nobody."""

    def parked() -> None:
        before = at.log.text.count("gave up on")
        at("emit", "note.written", "title=bad")
        at.log.says("gave up on", times=before + 1)

    every, asks = ("dead", "discard", "--all", "--function", "index"), "Discard 1 event for good? [y/N]: "
    parked()
    refused = at.typing(*every, typed="n\n")
    assert asks in refused
    assert refused.endswith("Error: Aborted: nothing was discarded.\n")
    assert "discarded 1 event" in at.typing(*every, typed="y\n")
    parked()
    assert asks not in (done := at.typing(*every, "-y", typed=""))
    assert "discarded 1 event" in done


def test_tail_ends_when_nobody_reads_it_any_more(at):
    """As behind `| head -1`, also where nothing more comes that could not be printed."""
    at("emit", "note.written", "title=x")
    env = environment(CLIFFRACER_NAMESPACE=at.namespace)
    command = [*PROGRAM, "tail", "note.written", "--since", "10m"]
    with subprocess.Popen(command, cwd=at.folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert b"note.written" in process.stdout.readline()
        process.stdout.close()
        assert process.wait(PATIENCE) == 0
        assert b"Traceback" not in process.stderr.read()


def test_what_follows_goes_on_where_nobody_can_tell_whether_it_is_read(monkeypatch):
    """As on Windows, whose `select` has no `poll`."""
    monkeypatch.delattr(select, "poll")
    monkeypatch.setattr(reader, "_LOOK", 0.0)
    seen: list[int] = []

    async def follow() -> None:
        for number in range(3):
            await asyncio.sleep(0)
            seen.append(number)

    asyncio.run(reader.while_read(follow()))
    assert seen == [0, 1, 2]


def test_services_tells_who_runs_and_how_it_goes(at):
    """One row for all replicas of a service; with a name, its methods."""
    at("call", "notes.write", "title=x")
    (row,) = at.json("services", "--json")
    assert (row["name"], row["version"], row["description"]) == ("notes", "1.2.3", "keeps notes")
    written_ = next(endpoint for endpoint in row["endpoints"] if endpoint["name"] == "write")
    assert written_["calls"] >= 1
    assert row["calls_per_second"] > 0
    assert {(part["kind"], part["name"]) for part in row["endpoints"]} >= {("rpc", "write"), ("event", "index")}
    assert "notes    1.2.3" in at("services").out
    assert at("services").out.split()[:6] == ["service", "version", "replicas", "calls", "calls/s", "errors"]
    assert "refuse" in at("services", "notes").out
    assert not re.search(r"0 % +0(\.0+)?\s", at("services", "notes").out), "of who was never called no duration is told"


def test_a_service_that_does_not_run_is_an_error(at):
    """Who does run is told, and a script sees it by the exit code; all services that run may be none."""
    done = at("services", "note")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("Error: NotFound: No service note is running on the embedded NATS of ")
    assert done.err.endswith(f".cliffracer, namespace {at.namespace}. Running: notes. Did you mean notes?\n"), (
        "others may run in another one"
    )
    done = at("services", "note", "--json")
    assert (done.code, json.loads(done.out)["error"]["code"]) == (1, 404)


def test_a_watched_service_counts_from_look_to_look(at):
    """What was called before is not counted; handlers of events are listed beside methods."""
    at("call", "notes.refuse")
    looked = json.loads(at("services", "notes", "--watch", "-n", "1", "--interval", "0.2", "--json").out)
    rows = {row["name"]: row for row in looked["rows"]}
    assert rows["refuse"]["errors"] > 0
    assert (rows["refuse"]["error_share"], rows["refuse"]["calls_per_second"]) == (0.0, 0.0)
    assert rows["index"]["kind"] == "event"


def test_top_counts_from_look_to_look(at):
    """Calls a second between two looks."""
    lines = at("top", "--json", "-n", "2", "--interval", "0.2").out.splitlines()
    assert [json.loads(line)["rows"][0]["name"] for line in lines] == ["notes", "notes"]


@pytest.mark.parametrize("how", ["away", "hung"])
def test_who_watches_is_told_that_nats_is_away_and_sees_it_come_back(tmp_path, how):
    """Instead of that nobody is there; nothing ends."""
    with NatsServer() as server, Background(tmp_path, "top", "--interval", "0.2", NATS_URL=server.url) as top:
        top.says("Nobody is there.")
        (server.kill if how == "away" else server.pause)()
        top.says("NATS is away: looking until it is back.")
        before = top.text.count("Nobody is there.")
        (server.start if how == "away" else server.resume)()
        top.says("Nobody is there.", times=before + 1)


def test_bench_measures_and_refuses_to_time_failures(at):
    """Percentiles beside a bare request; no duration where a call failed."""
    found = at.json("bench", "notes.write", "title=x", "--seconds", "0.3", "--json")
    assert found["errors"] == {}
    assert found["p50_ms"] > 0
    assert found["bare_request"]["calls_per_second"] > 0
    done = at("bench", "notes.refuse", "--seconds", "0.2")
    assert (done.code, done.err) == (1, "Error: Conflict: it is there already\n")


def test_a_trace_is_shown_as_a_waterfall(at):
    """After a call with --trace, by its id later, and in the list of the last ones; each call with its share of the time."""
    done = at("call", "notes.publish", "title=x", "--trace")
    assert done.out == "1\n"
    assert "3 calls in 1 service" in done.err
    last = at.json("trace", "--json", "-n", "1")[0]
    assert (last["name"], last["spans"], last["services"], last["failed"]) == ("notes.publish", 3, ["notes"], 1)
    shown = at("trace", last["id"]).out.splitlines()
    assert shown[0].split() == ["trace", last["trace"]]
    assert [line.split()[:3] for line in shown[4:]] == [
        ["notes.publish", "rpc", shown[4].split()[2]],
        ["├", "notes.keep", "rpc"],
        ["└", "notes.refuse", "rpc"],
    ]
    assert shown[-1].endswith(" ms Conflict")
    whole = at.json("trace", last["correlation"], "--json")
    assert [call["name"] for call in whole["calls"]] == ["publish", "keep", "refuse"]


def test_a_trace_that_nobody_remembers(at):
    """It is said who was asked, and what is remembered at all."""
    done = at("trace", "4bf92f3577b34da6a3ce929d0e0e4736")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("Error: NotFound: no trace 4bf92f3577b34da6a3ce929d0e0e4736: 1 service was asked on the embedded NATS")
    short = at("trace", "short")
    assert short.code == 1
    assert short.err.startswith("Error: NotFound: no trace short; of an id that is longer, give 8 characters at least: 1 service was asked")
