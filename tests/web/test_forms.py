"""Forms over a real socket: Starlette and uvicorn receive them, declared types take them, every reason comes back."""

import asyncio
import enum
import gc
import socket
import tempfile
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

import httpx
import msgspec
import pytest
import uvicorn
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import Meta
from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from cliffracer.errors import InvalidInput, TooLarge
from cliffracer.web.answers import Refused
from cliffracer.web.bodies import Disconnected
from cliffracer.web.forms import FormDecoder, FormLimits

URLENCODED = {"content-type": "application/x-www-form-urlencoded"}
MULTIPART = {"content-type": "multipart/form-data; boundary=XX"}


class Size(enum.IntEnum):
    SMALL = 1
    LARGE = 2


class Tag(msgspec.Struct, forbid_unknown_fields=True):
    name: Annotated[str, Meta(min_length=1)]
    weight: int = 1


PROFILE: dict[str, Any] = {
    "name": Annotated[str, Meta(min_length=1)],
    "age": Annotated[int, Meta(ge=0)],
    "size": Size,
    "agreed": bool,
    "ids": list[uuid.UUID],
    "kind": Literal["a", "b"],
    "tag": Tag,
    "avatar": UploadFile,
    "papers": list[UploadFile],
    "extra": UploadFile | None,
}
DEFAULTS: dict[str, Any] = {"age": 7, "size": Size.SMALL, "agreed": False, "ids": [], "kind": "a", "tag": None, "papers": []}
SMALL = FormLimits(body=20_000, fields=5, files=2, text=1_000, urlencoded=16_000, file=5_000)


class Site:
    """A served form, and what became of each request."""

    def __init__(self, decoder: FormDecoder, url: str = "") -> None:
        self.decoder = decoder
        self.url = url
        self.opened: list[UploadFile] = []
        self.gone = 0
        self.held = asyncio.Event()

    async def answer(self, request: Request) -> JSONResponse:
        try:
            async with self.decoder.opened(request) as values:
                return JSONResponse({name: await self._shown(value) for name, value in values.items()})
        except (InvalidInput, TooLarge) as error:
            return JSONResponse({"message": error.message, **error.details}, error.status)
        except Refused as error:
            return JSONResponse({"message": error.detail}, error.status)
        except Disconnected:
            self.gone += 1
            raise

    async def _shown(self, value: Any) -> Any:
        if isinstance(value, list):
            return [await self._shown(part) for part in value]
        if isinstance(value, UploadFile):
            self.opened.append(value)
            content = await value.read()
            return {"filename": value.filename, "type": value.content_type, "size": value.size, "start": content[:20].decode("latin-1")}
        return msgspec.to_builtins(value)


@asynccontextmanager
async def _served(application: Any) -> AsyncIterator[str]:
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(application, log_config=None, lifespan="off", timeout_graceful_shutdown=2))
    running = asyncio.create_task(server.serve([listener]))
    await _until(lambda: server.started)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await running
        listener.close()


@asynccontextmanager
async def serve(fields: dict[str, Any], defaults: dict[str, Any] | None = None, limits: FormLimits | None = None) -> AsyncIterator[Site]:
    """Serve a form at one URL while the block runs."""
    site = Site(FormDecoder(fields, defaults, limits))
    async with _served(Starlette(routes=[Route("/", site.answer, methods=["POST"])])) as url:
        site.url = url
        yield site


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    """Return a client that is closed after the test."""
    async with httpx.AsyncClient(timeout=20) as found:
        yield found


def reasons(answer: httpx.Response) -> dict[str, str]:
    """Return path and message of each error."""
    assert answer.status_code == 422, answer.text
    return {error["path"]: error["message"] for error in answer.json()["errors"]}


def parts(*found: tuple[str, bytes]) -> bytes:
    """Write a multipart body by hand: (parameters of the disposition, content)."""
    written = b"".join(b"--XX\r\nContent-Disposition: form-data; %b\r\n\r\n%b\r\n" % (head.encode(), data) for head, data in found)
    return written + b"--XX--\r\n"


async def test_fields_and_files_arrive_as_their_types(client: httpx.AsyncClient) -> None:
    """Numbers, booleans, lists, choices, a Struct as JSON, one file and several."""
    one, two = uuid.uuid4(), uuid.uuid4()
    data = {"name": "Ádá", "age": "36", "size": "2", "agreed": "on", "ids": [str(one), str(two)], "kind": "b", "tag": '{"name":"x"}'}
    files = [
        ("avatar", ("me.png", b"\x89PNG" + bytes(300_000), "image/png")),
        ("papers", ("a.txt", b"first", "text/plain")),
        ("papers", ("b.txt", b"", "text/plain")),
    ]
    async with serve(PROFILE, DEFAULTS) as site:
        answer = await client.post(site.url, data=data, files=files)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert (found["name"], found["age"], found["size"], found["agreed"], found["kind"]) == ("Ádá", 36, 2, True, "b")
    assert found["ids"] == [str(one), str(two)]
    assert found["tag"] == {"name": "x", "weight": 1}
    assert found["avatar"]["filename"] == "me.png"
    assert found["avatar"]["type"] == "image/png"
    assert found["avatar"]["size"] == 300_004
    assert [paper["start"] for paper in found["papers"]] == ["first", ""]
    assert found["extra"] is None
    assert len(site.opened) == 3
    assert all(file.file.closed for file in site.opened)


async def test_an_urlencoded_form_arrives_as_its_types(client: httpx.AsyncClient) -> None:
    """Plus signs, percent signs and repeated names as HTML forms write them; what is missing is the default."""
    fields = {name: kind for name, kind in PROFILE.items() if name not in {"avatar", "papers", "extra"}}
    async with serve(fields, DEFAULTS) as site:
        body = urlencode([("name", "Ádá & Co + 1%=;"), ("ids", str(uuid.UUID(int=1))), ("ids", str(uuid.UUID(int=2)))])
        answer = await client.post(site.url, content=body, headers={"content-type": "Application/X-WWW-Form-Urlencoded; charset=UTF-8"})
    assert answer.json() == {
        "name": "Ádá & Co + 1%=;",
        "ids": [str(uuid.UUID(int=1)), str(uuid.UUID(int=2))],
        "age": 7,
        "size": 1,
        "agreed": False,
        "kind": "a",
        "tag": None,
    }


async def test_every_reason_is_listed(client: httpx.AsyncClient) -> None:
    """Of texts, documents and files, missing, wrong, unknown and doubled, in one answer."""
    data = {"name": "", "age": "-1", "agreed": "maybe", "ids": ["x", str(uuid.uuid4())], "kind": "c", "tag": '{"weight":"x"}', "nam": "x"}
    files = [("avatar", ("a", b"1")), ("avatar", ("b", b"2")), ("size", ("c", b"3")), ("more", ("d", b"4"))]
    async with serve(PROFILE, {"papers": [], "tag": None}) as site:
        answer = await client.post(site.url, data=data, files=files)
        missing = await client.post(site.url, content=b"papers=x", headers=URLENCODED)
    assert reasons(answer) == {
        "nam": "unknown field (did you mean name?)",
        "more": "unknown field",
        "size": "expected text, got a file",
        "avatar": "must be given once only",
        "tag.name": "is required",
        "tag.weight": "expected an integer, got a string",
        "name": "must have at least 1 character",
        "age": "must be at least 0",
        "agreed": "expected a boolean",
        "ids[0]": "expected a UUID",
        "kind": 'expected one of "a", "b"',
    }
    assert reasons(missing)["papers"] == "expected a file, got text"
    assert {"name", "age", "size", "agreed", "ids", "kind", "avatar"} <= set(reasons(missing))


async def test_an_empty_file_input_counts_as_not_given(client: httpx.AsyncClient) -> None:
    """Browsers send such a part for a file that was not chosen."""
    async with serve({"avatar": UploadFile, "extra": UploadFile | None}) as site:
        answer = await client.post(
            site.url, content=parts(('name="avatar"; filename=""', b""), ('name="extra"; filename=""', b"")), headers=MULTIPART
        )
    assert reasons(answer) == {"avatar": "is required"}


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\\\dir\\\\a.txt", "a.txt"),
        ("a\x1b[31m.txt", "a[31m.txt"),
        ("/", ""),
        ("é.txt", "é.txt"),
        ("a b.txt", "a b.txt"),
    ],
)
async def test_a_filename_is_no_path(client: httpx.AsyncClient, sent: str, kept: str) -> None:
    """Folders and control characters are taken away."""
    async with serve({"avatar": UploadFile}) as site:
        answer = await client.post(site.url, content=parts((f'name="avatar"; filename="{sent}"', b"x")), headers=MULTIPART)
    assert answer.json()["avatar"]["filename"] == kept


@pytest.mark.parametrize("kind", ["application/json", "text/plain", "", "multipart/mixed; boundary=XX", "application/octet-stream"])
async def test_a_body_that_is_no_form_is_refused(client: httpx.AsyncClient, kind: str) -> None:
    """415, which says what to send."""
    async with serve({"name": str}) as site:
        answer = await client.post(site.url, content=b"name=a", headers={"content-type": kind} if kind else {})
    assert answer.status_code == 415
    assert "multipart/form-data" in answer.json()["message"]


TOO_LARGE: list[tuple[str, dict[str, str], bytes, str]] = [
    ("many urlencoded fields", URLENCODED, b"&".join([b"name=a"] * 6), "the number of fields is over the limit of 5"),
    ("many empty fields", URLENCODED, b"&" * 15_000, "the number of fields is over the limit of 5"),
    ("a long urlencoded field", URLENCODED, b"name=" + b"a" * 1_001, "name: the size of the field in bytes is over the limit of 1000"),
    ("a long body", URLENCODED, b"name=" + b"a" * 30_000, "the body is over the limit of 16000 bytes"),
    ("many parts", MULTIPART, parts(*[('name="name"', b"a")] * 6), "the number of fields is over the limit of 5"),
    ("many files", MULTIPART, parts(*[('name="file"; filename="a"', b"a")] * 3), "the number of files is over the limit of 2"),
    ("a long part", MULTIPART, parts(('name="name"', b"a" * 1_001)), "name: the size of the field in bytes is over the limit of 1000"),
    (
        "a large file",
        MULTIPART,
        parts(('name="file"; filename="a"', b"a" * 5_001)),
        "file: the size of the file in bytes is over the limit of 5000",
    ),
    ("a long multipart body", MULTIPART, parts(*[('name="file"; filename="a"', b"a" * 12_000)] * 2), ""),
]


@pytest.mark.parametrize(("headers", "body", "message"), [case[1:] for case in TOO_LARGE], ids=[case[0] for case in TOO_LARGE])
@pytest.mark.parametrize("chunked", [False, True])
async def test_each_limit_has_its_own_refusal(
    client: httpx.AsyncClient, headers: dict[str, str], body: bytes, message: str, chunked: bool
) -> None:
    """413 with the field and the limit, whether the length is told or not; the next form is taken."""

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(body), 700):
            yield body[at : at + 700]

    async with serve({"name": str, "file": UploadFile | None}, {"name": ""}, SMALL) as site:
        answer = await client.post(site.url, content=pieces() if chunked else body, headers=headers)
        after = await client.post(site.url, content=b"name=b", headers=URLENCODED)
    assert answer.status_code == 413
    assert answer.json()["message"] == message or not message
    assert after.json() == {"name": "b", "file": None}


MALFORMED = [
    (MULTIPART, b""),
    (MULTIPART, b"--XX"),
    (MULTIPART, b"name=a"),
    (MULTIPART, parts(('name="name"', b"a"))[:-4]),
    (MULTIPART, parts(('name="name"', b"a")).replace(b"\r\n", b"\n")),
    (MULTIPART, b"--XX\r\n\r\na\r\n--XX--\r\n"),
    (MULTIPART, b'--XX\r\nContent-Disposition: attachment; name="name"\r\n\r\na\r\n--XX--\r\n'),
    (MULTIPART, b"--XX\r\nContent-Disposition: form-data\r\n\r\na\r\n--XX--\r\n"),
    (MULTIPART, parts(('name="name"', b"\xff\xfe"))),
    (MULTIPART, b'--XX\r\nContent-Disposition: form-data; name="\xff"\r\n\r\na\r\n--XX--\r\n'),
    (MULTIPART, b'--XX\r\nContent-Disposition: form-data; name="name"; filename="\xff"\r\n\r\na\r\n--XX--\r\n'),
    (MULTIPART, b"--XX\r\n" + b"X: y\r\n" * 500 + b"\r\na\r\n--XX--\r\n"),
    (MULTIPART, b"--XX\r\nX: " + b"y" * 10_000 + b"\r\n\r\na\r\n--XX--\r\n"),
    ({"content-type": "multipart/form-data"}, parts(('name="name"', b"a"))),
    ({"content-type": "multipart/form-data; boundary="}, parts(('name="name"', b"a"))),
    ({"content-type": f"multipart/form-data; boundary={'X' * 300}"}, parts(('name="name"', b"a"))),
    (URLENCODED, b"name=\xff"),
    (URLENCODED, b"name=%ff%fe"),
    (URLENCODED, b"%c3=a"),
    (URLENCODED, b"name=a&name=b"),
    (URLENCODED, b""),
]


@pytest.mark.parametrize(("headers", "body"), MALFORMED)
async def test_a_malformed_form_is_refused(client: httpx.AsyncClient, headers: dict[str, str], body: bytes) -> None:
    """Whatever is wrong with it: 422 with a reason."""
    async with serve({"name": str}, None, SMALL) as site:
        answer = await client.post(site.url, content=body, headers=headers)
    assert reasons(answer)


@pytest.mark.parametrize("charset", ["latin-1", "utf-7", "utf-16", "punycode", "unicode_escape", "nonsense"])
async def test_the_charset_that_a_client_names_is_not_used(client: httpx.AsyncClient, charset: str) -> None:
    """Text is UTF-8; some of the others would take quadratic time, or mean something else."""
    async with serve({"name": str}) as site:
        headers = {"content-type": f"multipart/form-data; boundary=XX; charset={charset}"}
        answer = await client.post(site.url, content=parts(('name="name"', "+AD4-\\u0041é".encode())), headers=headers)
    assert answer.json() == {"name": "+AD4-\\u0041é"}


async def test_a_client_that_goes_away_leaves_no_file(client: httpx.AsyncClient) -> None:
    """The half of an upload that came is closed, and the handler never runs."""
    async with serve({"file": UploadFile}) as site:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(site.url.rpartition(":")[2]))
        head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=XX\r\nContent-Length: 5000000\r\n\r\n"
        writer.write(head + b'--XX\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + bytes(600_000))
        await writer.drain()
        writer.close()
        await _until(lambda: site.gone == 1)
        assert not site.opened
        answer = await client.post(site.url, files={"file": ("a", b"b")})
        assert answer.json()["file"]["size"] == 1
        del reader
    gc.collect()  # an open file that is dropped warns, and warnings are errors


async def _until(condition: Callable[[], bool]) -> None:
    end = asyncio.get_running_loop().time() + 30
    while not condition():
        assert asyncio.get_running_loop().time() < end
        await asyncio.sleep(0.01)


async def test_a_cancelled_request_leaves_no_file() -> None:
    """As when its deadline ends it."""
    chunk = b'--XX\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + bytes(600_000)
    waiting = asyncio.Event()

    async def receive() -> dict[str, Any]:
        if waiting.is_set():
            await asyncio.sleep(60)
        waiting.set()
        return {"type": "http.request", "body": chunk, "more_body": True}

    scope = {"type": "http", "method": "POST", "headers": [(b"content-type", b"multipart/form-data; boundary=XX")]}
    reading = asyncio.create_task(FormDecoder({"file": UploadFile}).read(Request(scope, receive)))
    await waiting.wait()
    await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    gc.collect()


async def test_large_files_go_to_disk(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the beginning of a file is held in memory."""
    rolled: list[int] = []
    original = tempfile.SpooledTemporaryFile.rollover

    def rollover(self: Any) -> None:
        rolled.append(self.tell())
        original(self)

    monkeypatch.setattr(tempfile.SpooledTemporaryFile, "rollover", rollover)
    async with serve({"file": UploadFile}) as site:
        answer = await client.post(site.url, files={"file": ("a", b"x" * 3_000_000)})
    assert answer.json()["file"]["size"] == 3_000_000
    assert len(rolled) == 1
    assert rolled[0] < 1_000_000


async def _read(headers: dict[str, str], body: bytes, cut: int) -> Any:
    pieces = [body[at : at + cut] for at in range(0, len(body), cut)] or [b""]

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}

    scope = {"type": "http", "method": "POST", "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]}
    decoder = FormDecoder({"name": str, "n": int, "file": UploadFile | None}, {"name": "", "n": 0}, SMALL)
    async with decoder.opened(Request(scope, receive)) as values:
        return {**values, "file": values["file"] and await values["file"].read()}


good = parts(('name="name"', "é\r\n--X".encode()), ('name="n"', b"5"), ('name="file"; filename="a.bin"', b"\r\n--XX?" * 30))


@given(st.integers(1, 300))
@settings(max_examples=100, deadline=None)
def test_a_form_is_the_same_however_it_is_cut(cut: int) -> None:
    """Pieces end anywhere: in a boundary, a header, a character."""
    assert asyncio.run(_read(MULTIPART, good, cut)) == {"name": "é\r\n--X", "n": 5, "file": b"\r\n--XX?" * 30}


bodies = st.one_of(
    st.binary(max_size=200),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 4), st.binary(max_size=4)), min_size=1, max_size=4).map(
        lambda changes: __import__("functools").reduce(
            lambda body, change: body[: change[0]] + change[2] + body[change[0] + change[1] :], changes, good
        )
    ),
)
kinds = st.sampled_from([URLENCODED, MULTIPART]) | st.text(st.characters(max_codepoint=255), max_size=20).map(
    lambda text: {"content-type": f"multipart/form-data; boundary=XX;{text}"}
)


@given(kinds, bodies, st.integers(1, 200))
@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_bytes_are_read_or_refused(headers: dict[str, str], body: bytes, cut: int) -> None:
    """Nothing but values, or a refusal with reasons, comes of a body and a content type of any kind."""
    try:
        asyncio.run(_read(headers, body, cut))
    except (InvalidInput, TooLarge) as error:
        reasons = error.details["errors"] if isinstance(error, InvalidInput) else [error.message]
        assert reasons
