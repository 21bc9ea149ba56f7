"""Greps everything that the test run prints and logs for the secrets that it used: a test that lets one out fails.

Secrets are whatever becomes a `Secret`, every token and API key that is made here, and the passwords of the embedded servers. What is
printed is what pytest captured of each test: standard output and standard error, where our log goes, too.
"""

import os
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

SHORTEST = 16
"""Shorter ones are words of tests."""
EXAMPLES = ("example", "changeme", "change-me", "password", "secret", "placeholder")
MOST = 5000  # secrets that are remembered, the latest


class Leaks:
    """The plugin: what is secret, and what to do about a report."""

    def __init__(self) -> None:
        self._secrets: dict[str, None] = {}
        self._undo: list[Callable[[], None]] = []
        self._embedded = False

    def learn(self, text: object) -> None:
        """Remember a secret, of several lines those that are long."""
        if not isinstance(text, str):
            return
        for line in text.split("\n"):
            one = line.strip()
            if len(one) >= SHORTEST and " " not in one and "-----" not in one and not one.startswith("/") and not _is_an_example(one):
                self._secrets[one] = None
        while len(self._secrets) > MOST:
            del self._secrets[next(iter(self._secrets))]

    def watch(self) -> None:
        """Learn of every secret from now on."""
        from cliffracer.security import keyring
        from cliffracer.security.tokens import Tokens
        from cliffracer.settings import Secret

        init, issue, new = Secret.__init__, Tokens.issue, keyring._new

        def made(secret: Any, value: Any) -> None:
            init(secret, value)
            self.learn(secret._hidden)

        def issued(tokens: Tokens, *args: Any, **more: Any) -> str:
            token = issue(tokens, *args, **more)
            self.learn(token)
            return token

        def forged(*args: Any) -> tuple[str, str, str]:
            found = new(*args)
            self.learn(found[0])
            return found

        for place, name, after, before in (
            (Secret, "__init__", made, init), (Tokens, "issue", issued, issue), (keyring, "_new", forged, new),
        ):  # fmt: skip
            setattr(place, name, after)
            self._undo.append(lambda place=place, name=name, before=before: setattr(place, name, before))

    def pytest_unconfigure(self) -> None:
        """Leave everything as it was."""
        for undo in self._undo:
            undo()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Fail a test that printed a secret."""
        report = yield
        printed = {f"Captured {stream} {report.when}" for stream in ("stdout", "stderr")}
        found = self.found("".join(text for name, text in report.sections if name in printed))
        if found and report.outcome == "passed":
            report.outcome = "failed"
            report.longrepr = f"{len(found)} secrets were printed or logged, which begin with {', '.join(one[:4] for one in found)}"
        return report

    def found(self, text: str) -> list[str]:
        """Return the secrets that are in a text."""
        if not text:
            return []
        self._learn_embedded()
        return [one for one in self._secrets if one in text]

    def _learn_embedded(self) -> None:
        home = os.environ.get("CLIFFRACER_HOME")
        if not self._embedded and home:
            for folder, _, files in os.walk(home):  # it bears that a server removes folders meanwhile
                if "password" in files:
                    self.learn(Path(folder, "password").read_text())
                    self._embedded = True


def _is_an_example(text: str) -> bool:
    return any(word in text.lower() for word in EXAMPLES)
