"""Static files: found, cached, conditional, and nothing outside their folder."""

from pathlib import Path
from typing import Any

import pytest

from cliffracer import App
from cliffracer.settings import Settings
from cliffracer.testing import running
from cliffracer.web.static import is_hashed, static_url
from tests.security.corpus import KEY


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a few files, and a secret beside it."""
    (tmp_path / "secret.txt").write_text("secret")
    made = tmp_path / "public"
    (made / "docs").mkdir(parents=True)
    (made / "app.3f9a1c2b.js").write_text("1")
    (made / "app.js").write_text("2")
    (made / ".env").write_text("secret")
    (made / "docs" / "index.html").write_text("<p>docs")
    (made / "link").symlink_to(tmp_path / "secret.txt")
    return made


async def test_files_have_etags(serve: Any, app: App, folder: Path) -> None:
    """A file is answered with an ETag, and not again while it has not changed."""
    app.static("/static", folder)
    async with serve(app) as served:
        answer = await served.http.get("/static/app.js")
        assert (answer.text, answer.headers["cache-control"]) == ("2", "no-cache")
        assert answer.headers["x-correlation-id"]
        again = await served.http.get("/static/app.js", headers={"If-None-Match": answer.headers["etag"]})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", answer.headers["etag"])
        assert (await served.http.head("/static/app.js")).headers["content-length"] == "1"
        (folder / "app.js").write_text("changed")
        again = await served.http.get("/static/app.js", headers={"If-None-Match": answer.headers["etag"]})
        assert (again.status_code, again.text) == (200, "changed")
        part = await served.http.get("/static/app.js", headers={"Range": "bytes=1-3"})
        assert (part.status_code, part.text) == (206, "han")


async def test_files_are_for_everybody(folder: Path) -> None:
    """A rule for all handlers is none for files: they are not the way to keep anything to somebody."""
    site = App("site")
    site.static("/static", folder)

    @site.get("/mine")
    async def mine() -> str:
        return "mine"

    async with running(site, auth_required=True, auth_secret_key=KEY) as t:
        assert (await t.http.get("/static/app.js")).text == "2"
        assert (await t.http.get("/mine")).status_code == 401


async def test_hashed_names_are_kept_for_ever(serve: Any, app: App, folder: Path) -> None:
    """A name with a hash in it may be cached for a year without asking."""
    app.static("/static", folder)
    async with serve(app) as served:
        answer = await served.http.get("/static/app.3f9a1c2b.js")
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    named = {"a/app.3f9a1c2b.js": True, "app-0a1b2c3d4e.min.css": True, "report-20240131.pdf": False, "app.js": False, "facade.js": False}
    assert {name: is_hashed(name) for name in named} == named


async def test_nothing_outside_the_folder(serve: Any, app: App, folder: Path) -> None:
    """Dots, encodings, links and hidden names lead nowhere."""
    app.static("/static", folder)
    paths = [
        "/../secret.txt", "/%2e%2e/secret.txt", "/..%2fsecret.txt", "/docs/../../secret.txt", "//etc/passwd", "/%2fetc%2fpasswd",
        "/..%5csecret.txt",
        "/link", "/.env", "/docs/../.env", "/%00", "/a%00b", "/" + "a" * 5000, "/docs/%ff", "/", "",
    ]  # fmt: skip
    async with serve(app) as served:
        for path in paths:
            head = await served.one(f"GET /static{path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert head.split(b" ")[1] == b"404", path
            assert b"secret" not in head
        assert (await served.http.post("/static/app.js")).status_code == 405


async def test_folder_index(serve: Any, app: App, folder: Path) -> None:
    """``index.html`` stands for its folder; the path without a slash is redirected, naming no host."""
    app.static("/", folder)

    @app.get("/docs/api")
    async def api() -> str:
        return "route"

    async with serve(app) as served:
        assert (await served.http.get("/docs/")).text == "<p>docs"
        answer = await served.http.get("/docs")
        assert (answer.status_code, answer.headers["location"]) == (307, "docs/")
        assert (await served.http.get("/docs/api")).json() == "route"


def test_static_url() -> None:
    """Paths get the CDN's address in front if one is set."""
    assert static_url("/static/app.js", Settings()) == "/static/app.js"
    assert static_url("/static/app.js", Settings(static_base_url="https://cdn.example/v1")) == "https://cdn.example/v1/static/app.js"
