"""A real browser for the tests of pages: every error in its console, and every request that leaves this machine, fails the test."""

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

from playwright.async_api import BrowserContext, ConsoleMessage, Page, async_playwright, expect

from tests.support.tools import chromium

ARGUMENTS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
PATIENCE = 30_000  # milliseconds: the machine may be busy
expect.set_options(timeout=PATIENCE)


class Seen:
    """What the browser complained about, and where it went."""

    def __init__(self) -> None:
        self.errors: list[str] = []
        self.outside: list[str] = []
        self._forgiven: tuple[str, ...] = ()

    def watch(self, page: Page) -> None:
        """Note what happens on a page."""
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.errors.append(f"exception: {error}"))
        page.on("request", lambda request: self._went(request.url))

    def _said(self, message: ConsoleMessage) -> None:
        text = f"{message.type}: {message.text} ({message.location.get('url', '')})"
        if message.type == "error" and not any(word in text for word in self._forgiven):
            self.errors.append(text)

    def _went(self, url: str) -> None:
        place = urlsplit(url)
        if place.scheme in {"http", "https", "ws", "wss"} and place.hostname not in {"127.0.0.1", "localhost"}:
            self.outside.append(url)

    def forgive(self, *words: str) -> None:
        """Forget errors that a test meant to cause, such as an answer 422, also those that the browser notes only while it closes."""
        self._forgiven += words
        self.errors = [error for error in self.errors if not any(word in error for word in words)]


@asynccontextmanager
async def browsing(*, width: int = 1280, height: int = 860) -> AsyncIterator[tuple[BrowserContext, Seen]]:
    """Open a browser with nothing in it while the block runs; nothing may have gone wrong in it by the end."""
    program = chromium()
    seen = Seen()
    with tempfile.TemporaryDirectory(prefix="cliffracer-browser-", ignore_cleanup_errors=True) as profile:
        async with async_playwright() as playwright:
            context = await playwright.chromium.launch_persistent_context(
                profile, executable_path=program, headless=True, args=ARGUMENTS, viewport={"width": width, "height": height},
                reduced_motion="reduce",
            )  # fmt: skip
            context.set_default_timeout(PATIENCE)
            for page in context.pages:
                seen.watch(page)
            context.on("page", seen.watch)
            try:
                yield context, seen
            finally:
                await context.close()
    assert seen.errors == [], seen.errors
    assert seen.outside == [], seen.outside


async def readable(page: Page) -> list[str]:
    """Return what makes a page hard to use without eyes or mouse: unnamed controls, several main headings, too little contrast."""
    found: list[str] = await page.evaluate(_LOOK)
    return found


async def overflows(page: Page) -> bool:
    """Say whether the page is wider than its window."""
    wider: Any = await page.evaluate("document.documentElement.scrollWidth > innerWidth + 1")
    return bool(wider)


_LOOK = """
() => {
  const found = [];
  const visible = (node) => node.checkVisibility({ checkOpacity: true, checkVisibilityCSS: true });
  for (const node of document.querySelectorAll("input, select, textarea, button, a[href]")) {
    if (!visible(node)) continue;
    const name = node.getAttribute("aria-label") || node.labels?.[0]?.textContent || node.textContent || node.title;
    if (!name.trim()) found.push(`no name: ${node.outerHTML.slice(0, 90)}`);
  }
  if ([...document.querySelectorAll("h1")].filter(visible).length !== 1) found.push("not one h1");
  if (!document.documentElement.lang) found.push("no language");
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => ((v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, n) => sum + v * [0.2126, 0.7152, 0.0722][n], 0);
  const ground = (node) => {
    for (; node; node = node.parentElement) {
      const c = parse(getComputedStyle(node).backgroundColor);
      if (c.length < 4 || c[3] > 0.99) return c;
    }
    return [255, 255, 255];
  };
  for (const node of document.querySelectorAll("body *")) {
    const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
    if (!own || !visible(node) || node.closest("svg, [disabled], .unseen, .skip")) continue;
    const [a, b] = [light(parse(getComputedStyle(node).color)), light(ground(node))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) found.push(`contrast ${ratio.toFixed(1)}: ${node.textContent.trim().slice(0, 40)}`);
  }
  return [...new Set(found)];
}
"""
