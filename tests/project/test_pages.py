"""The documentation in docs/: it builds without a network and without a warning, and everything that it shows works."""

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import expect

import cliffracer
from cliffracer import embedded
from tests.project.places import BIN, ROOT
from tests.project.snippets import Session, follow, snippets
from tests.support.browser import browsing
from tests.support.issuer import CLIENT, FakeIssuer
from tests.support.nats import NatsServer

DOCS = ROOT / "docs"
GENERATED = {"reference/commands.md", "reference/more.md", "reference/settings.md"}
PAGES = {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")} | GENERATED
OTHERS = sorted(DOCS / page for page in PAGES - GENERATED if not page.startswith("tutorial/"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the pages as `make docs` does, in a copy of the checkout."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("docs", "scripts", "cliffracer"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "zensical.toml", folder)
    for command in ([sys.executable, "scripts/reference.py"], [BIN / "zensical", "build", "--strict"]):
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder / "site"


def test_every_page_is_built_and_in_the_navigation(site: Path) -> None:
    """A page that the navigation does not name is one that nobody finds."""
    entries = tomllib.loads((ROOT / "zensical.toml").read_text())["project"]["nav"]
    assert set(_named(entries)) == PAGES
    assert {page for page in PAGES if not (site / page.replace(".md", ".html")).is_file()} == set()


def test_no_page_links_to_one_that_is_not_in_git() -> None:
    """Whoever reads a page in the repository finds what it links to; what is generated is named by the navigation of the site."""
    links = re.compile(r"\]\(([^)#:\s]+\.md)[^)]*\)")
    dead = {
        f"{page.relative_to(DOCS)}: {link}"
        for page in DOCS.rglob("*.md")
        if str(page.relative_to(DOCS)) not in GENERATED
        for link in links.findall(page.read_text())
        if str((page.parent / link).resolve().relative_to(DOCS)) in GENERATED or not (page.parent / link).is_file()
    }
    assert dead == set()


def test_no_page_fetches_anything_from_elsewhere(site: Path) -> None:
    """Scripts, styles, fonts and pictures are the site's own; links that a reader may follow lead where they like."""
    fetched = re.compile(
        r"""<(?:script|img|source|iframe)[^>]*\ssrc=["']?(?:https?:)?//[^"'>\s]+|<link[^>]*\shref=["']?(?:https?:)?//[^"'>\s]+"""
    )
    pages = [*site.rglob("*.html")]
    assert pages
    assert {str(page.relative_to(site)): found for page in pages if (found := fetched.findall(page.read_text()))} == {}
    imported = re.compile(r"@import|url\(\s*[\"']?(?:https?:)?//")
    assert [str(style) for style in site.rglob("*.css") if imported.search(style.read_text())] == []


async def test_pages_from_the_file_system_have_the_search_too(site: Path) -> None:
    """Whoever opens a page by its file finds words in all of them, and nothing is asked of any other place."""
    async with browsing() as (context, _):
        page = context.pages[0]
        await page.goto((site / "how-to" / "rpc.html").as_uri())
        await page.get_by_role("button", name="Search").first.click()
        box = page.get_by_placeholder("Search")
        await box.fill("dead letter")
        await expect(box).to_have_value("dead letter")
        await expect(page.get_by_text(re.compile(r"^[1-9]\d* results?$"))).to_be_visible()
        async with page.expect_navigation():
            await box.press("Enter")
        assert page.url.startswith(site.as_uri())


def test_the_reference_has_every_name_of_the_facade(site: Path) -> None:
    """Whatever `from cliffracer import` gives is explained, but for what is Starlette's."""
    written = "".join(page.read_text() for page in (site / "reference").glob("*.html"))
    named = set(re.findall(r'id="cliffracer\.(\w+)"', written)) | set(re.findall(r"<code>(\w+)</code>", written))
    assert sorted(set(cliffracer.__all__) - named) == []


def test_llms_txt_names_every_page() -> None:
    """What a language model is given leads to every page, and nowhere else."""
    text = (DOCS / "llms.txt").read_text()
    assert text.startswith("# Cliffracer\n\n> ")
    assert set(re.findall(r"^- \[[^]]+\]\(([^)]+)\)", text, re.MULTILINE)) == PAGES


def test_the_first_page_leads_everywhere() -> None:
    """Whoever looks something up finds each page from the first one; the reference by its own first page."""
    links = set(re.findall(r"\]\(([\w/-]+\.md)\)", (DOCS / "index.md").read_text()))
    rest = {page for page in PAGES if page.startswith(("reference/", "tutorial/"))}
    assert PAGES - rest - {"index.md"} - links == set()


@pytest.fixture
def stand_ins() -> Iterator[dict[str, str]]:
    """Return what stands in for the servers that a reader has and no test: an issuer where everybody signs in, and a production."""
    with Issuer() as issuer, NatsServer(jetstream=True) as production:
        yield {"https://id.example.org/realms/shop": issuer.url, "nats://nats.production:4222": production.url}


class Issuer(FakeIssuer):
    """Where the client of the page may ask, and somebody signs in as soon as it does."""

    def __init__(self) -> None:
        super().__init__()
        self.document = {"device_authorization_endpoint": f"{self.url}/device"}

    def token(self, kid: str = "one", **claims: Any) -> str:
        """Return one of somebody who may."""
        return super().token(kid, **{"groups": ["shop-admins"], **claims})

    def device(self, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        """Return the answer to the terminal, when it is approved already."""
        assert form["client_id"] == "shop-cli"
        answer = super().device({**form, "client_id": CLIENT})
        self.devices[answer[1]["user_code"]]["approved"] = True
        return answer


def test_what_the_other_pages_show_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stand_ins: dict[str, str]) -> None:
    """Each in a folder and on servers of its own: files are imported, commands and scripts run; then the tests that they show, together."""
    wrong = []
    for page in OTHERS:
        folder = tmp_path / page.relative_to(DOCS).with_suffix("")
        folder.mkdir(parents=True)
        with monkeypatch.context() as alone:
            alone.delenv("CLIFFRACER_HOME")
            try:
                follow(page.read_text(), folder=folder, stand_ins=stand_ins)
            except AssertionError as error:
                wrong.append(f"{page.relative_to(ROOT)}: {error}")
            finally:
                embedded.stop(folder)
    with Session(tmp_path) as session:
        session.command("pytest -q -p no:cacheprovider")
    assert not wrong, "\n\n".join(wrong)


@pytest.mark.parametrize("framework", ["flask", "fastapi", "faststream", "nameko"])
def test_a_migration_guide_shows_both_sides(framework: str) -> None:
    """The old code and the new, in one page."""
    blocks = [snippet for snippet in snippets((DOCS / "migrate" / f"{framework}.md").read_text()) if snippet.language == "python"]
    assert {snippet.options.get("needs") for snippet in blocks} == {framework, None}


def _named(entries: object) -> Iterator[str]:
    if isinstance(entries, str):
        yield entries
    elif isinstance(entries, dict):
        for value in entries.values():
            yield from _named(value)
    elif isinstance(entries, list):
        for value in entries:
            yield from _named(value)
