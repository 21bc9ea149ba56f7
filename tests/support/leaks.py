"""Greps everything that the test run lets out for the secrets that it used: a test that lets one out fails.

Secrets are whatever becomes a `Secret`, every token and API key that is made here, the passwords of the embedded servers, and what a test
gives to the fixture ``confide``. Looked at is what pytest captured of each test (standard output, standard error, logs), what
stands in the traceback of one that fails, and all of `tests.support.outputs`.
"""

import os
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests.support.outputs import Outputs

SHORTEST = 16
"""Shorter ones are words of tests, unless a test says otherwise."""
LEAST = 8
"""What a test may confide at least: of shorter ones nobody can say where they are."""
EXAMPLES = ("example", "changeme", "change-me", "password", "secret", "placeholder")
MOST = 5000  # secrets that are remembered, the latest
_LONG = 4000  # characters from which on it is quicker to go through the text once


class Leaks:
    """The plugin: what is secret, and what to do about a report."""

    def __init__(self) -> None:
        self._secrets: dict[str, None] = {}
        self._confided: list[str] = []
        self._undo: list[Callable[[], None]] = []
        self._embedded = False
        self.outputs = Outputs()

    def learn(self, text: object) -> None:
        """Remember a secret, of several lines those that are long; none that Hypothesis made up, which may be any word of our sources."""
        if not isinstance(text, str) or hypothesis.currently_in_test_context():
            return
        for line in text.split("\n"):
            one = line.strip()
            if len(one) >= SHORTEST and " " not in one and "-----" not in one and not one.startswith("/") and not _is_an_example(one):
                self._secrets[one] = None
        while len(self._secrets) > MOST:
            del self._secrets[next(iter(self._secrets))]

    @contextmanager
    def confiding(self) -> Iterator[Callable[[str], str]]:
        """Give what keeps a secret of one test, of 8 characters or more, whatever it looks like; it returns the secret."""
        before = len(self._confided)

        def confide(text: str) -> str:
            if len(text) < LEAST:
                raise ValueError(f"a secret to look for has {LEAST} characters or more")
            self._confided.append(text)
            return text

        try:
            yield confide
        finally:
            del self._confided[before:]

    def watch(self) -> None:
        """Learn of every secret, and of every output, from now on."""
        self.outputs.watch()
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
        self.outputs.unwatch()
        for undo in self._undo:
            undo()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Fail a test that let a secret out, and keep it out of the traceback of one that failed."""
        report = yield
        printed = {f"Captured {stream} {report.when}" for stream in ("stdout", "stderr", "log")}
        found = {name: self.found(text) for name, text in report.sections if name in printed}
        self.outputs.read(*self._folders(item))
        for place, text in self.outputs.taken():
            found.setdefault(place, []).extend(self.found(text))
        told = [f"{self.masked(place, ones)}: {', '.join(one[:4] for one in dict.fromkeys(ones))}" for place, ones in found.items() if ones]
        if report.outcome == "failed":
            text = str(report.longrepr)
            if shown := self.found(text):
                report.longrepr = self.masked(text, shown)
                told.append(f"its traceback: {', '.join(one[:4] for one in shown)}")
        if told and report.outcome == "passed":
            report.outcome = "failed"
            report.longrepr = f"secrets were let out, which begin with: {'; '.join(told)}"
        elif told:
            report.sections.append(("Secrets let out", "; ".join(told)))
        report.sections[:] = [(name, self.masked(text, self.found(text))) for name, text in report.sections]
        return report

    def masked(self, text: str, secrets: list[str]) -> str:
        """Return a text without these."""
        for one in secrets:
            text = text.replace(one, f"{one[:4]}****")
        return text

    def found(self, text: str) -> list[str]:
        """Return the secrets that are in a text."""
        if not text:
            return []
        self._learn_embedded()
        secrets = [*self._secrets, *self._confided]
        if len(text) < _LONG:
            return [one for one in secrets if one in text]
        begun: dict[str, list[str]] = {}
        for one in secrets:
            begun.setdefault(one[:LEAST], []).append(one)
        found: dict[str, None] = {}
        for at in range(len(text) - LEAST + 1):
            for one in begun.get(text[at : at + LEAST], ()):
                if text.startswith(one, at):
                    found[one] = None
        return list(found)

    def _folders(self, item: pytest.Item) -> Iterator[Path]:
        home = os.environ.get("CLIFFRACER_HOME")
        own = getattr(item, "funcargs", {}).get("tmp_path")
        yield from (Path(folder) for folder in (home, own) if folder)

    def _learn_embedded(self) -> None:
        home = os.environ.get("CLIFFRACER_HOME")
        if not self._embedded and home:
            for folder, _, files in os.walk(home):  # it bears that a server removes folders meanwhile
                if "password" in files:
                    self.learn(Path(folder, "password").read_text())
                    self._embedded = True


def _is_an_example(text: str) -> bool:
    return any(word in text.lower() for word in EXAMPLES)
