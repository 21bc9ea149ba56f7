"""Run what a document tells its reader to do, the way the reader would: one folder, one shell, in order.

A document is Markdown (README.md) or the docstring of an example. What its fenced blocks mean:

- ```` ```python title="users.py" ```` (or ``file=``) is saved under that name, and has to import; with the word `more`
  it goes to the end of that file. Blocks of other languages with a title are saved as well.
- ```` ```python ```` is run as a script of its own in the same folder.
- ```` ```python needs=flask ```` is another framework's: it has to be Python, and to run where the package is installed.
- ```` ```sh ```` is run line by line by bash. In a block with `$ ` prompts, the lines without one are what the
  command above them must print; `...` stands for anything. A command that prints `Error:` has to fail.
- ```` ```sh needs=openssl ```` is run where that program is.
- A command that is `cliffracer run`, `cliffracer console` or `nats-server`, and that need not fail, is the reader's other terminal:
  it keeps running until the document ends, and the next block waits until it says that it is there.
  One with `--reload` runs anew when a block is saved, and the next block waits for that, too.
- ```` ```sh fails ```` shows a mistake: its commands must end with an error.
- ```` ```sh stops ```` comes after Ctrl-C in every other terminal.
- ```` ```sh installs ```` comes before all others, in an environment of its own: cli/test_first_minutes.py carries it out, by one shell,
  and where a document is followed it is done already.
- ```` ```sh norun ```` is shown, not run: for what a test has not (Docker). Each stands with its reason in `NOT_RUN` of
  test_documents.py; every other command runs.

Ports 4222, 8000 and 8001 become free ones, so that documents can name them; servers that only an example has become those of a test
(`stand_ins`), `~` is a folder of the reader's own, and curl has a stand-in where there is none.
"""

import ast
import importlib.util
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self

from markdown_it import MarkdownIt

from scripts.reference import GENERATED
from tests.project.places import BIN, ROOT
from tests.support.nats import free_port

SHELLS = ("sh", "bash", "console", "shell")
SERVER = re.compile(r"(\w+=\S+ )*(cliffracer (run|console)|nats-server)\b")
READY = re.compile(r"\bready\b|Ctrl-C stops", re.IGNORECASE)
PATIENCE = 30.0


@dataclass(frozen=True)
class Snippet:
    """One fenced block."""

    language: str
    text: str
    line: int
    options: dict[str, str] = field(default_factory=dict)

    @property
    def file(self) -> str | None:
        """Return the name to save it under."""
        return self.options.get("title") or self.options.get("file")

    def commands(self) -> list[tuple[str, str | None]]:
        """Return the commands of a `sh` block, each with what it must print, or None when the document does not say."""
        lines = [line for line in self.text.splitlines() if line.strip()]
        if not any(line.startswith("$ ") for line in lines):
            return [(line, None) for line in _continued(lines) if not line.startswith("#")]
        parts = re.split(r"^\$ ", self.text, flags=re.MULTILINE)[1:]
        pairs = [part.partition("\n") for part in parts]
        return [(command.strip(), output.strip("\n") or None) for command, _, output in pairs]


def _continued(lines: list[str]) -> list[str]:
    return "\n".join(lines).replace("\\\n", "\0").replace("\n", "\1").replace("\0", "\\\n").split("\1")


def snippets(document: str) -> Iterator[Snippet]:
    """Yield the fenced blocks of a Markdown text in order."""
    for token in MarkdownIt().parse(document):
        if token.type == "fence":
            language, *words = shlex.split(token.info) or [""]
            pairs = (word.partition("=") for word in words)
            yield Snippet(language, token.content, (token.map or [0])[0] + 1, {name: value for name, _, value in pairs})


def examples() -> list[Path]:
    """Return the examples whose docstring shows what to do."""
    return sorted(path for path in (ROOT / "examples").rglob("*.py") if "```" in _docstring(path))


def documents() -> dict[str, str]:
    """Return all that is shown to readers, by its name in the repository: README.md, the pages, and the docstrings of examples.

    Pages that `make docs` has left there show what commands say of themselves, and nothing to run.
    """
    written = {ROOT / "docs" / "reference" / name for name in GENERATED}
    pages = {path: path.read_text() for path in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")) if path not in written}
    shown = pages | {path: _docstring(path) for path in examples()}
    return {str(path.relative_to(ROOT)): text for path, text in shown.items()}


def _docstring(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text())) or ""


def follow(
    *documents: str, folder: Path, path: Path | None = None, programs: Path = BIN, stand_ins: Mapping[str, str] | None = None
) -> None:
    """Do everything that documents say, in one folder; ``path`` is where Python finds what they take for granted.

    ``programs`` is the folder of the environment's ``python`` and ``cliffracer``; ``stand_ins`` are URLs for those that documents have.
    """
    with Session(folder, path, programs, stand_ins or {}) as session:
        for document in documents:
            for snippet in snippets(document):
                session.run(snippet)
            session.check()


class Session:
    """A reader at work: a folder, an environment, and the servers left running in other terminals."""

    def __init__(
        self, folder: Path, path: Path | None = None, programs: Path = BIN, stand_ins: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        self.folder = folder
        self.ports = {port: str(free_port()) for port in ("4222", "8000", "8001")}
        self.stand_ins = stand_ins
        self.python = programs / "python"
        found = os.pathsep.join([str(programs), os.environ["PATH"], str(_programs(folder))])
        self.environment = {
            **os.environ,
            "PATH": found,
            "HOME": str(_home(folder)),
            "PYTHONPATH": str(path or folder),
            "HTTP_PORT": self.ports["8000"],
            "PYTHONUNBUFFERED": "1",
            "NO_COLOR": "1",
        }
        self._servers: list[tuple[subprocess.Popen[bytes], Path]] = []
        self._reloading: Path | None = None
        self._unchecked: dict[str, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop(asserting=error is None)

    def stop(self, *, asserting: bool = True) -> None:
        """Press Ctrl-C in every other terminal; each has to end in good order."""
        servers, self._servers, self._reloading = self._servers, [], None
        for server, _ in servers:
            server.send_signal(signal.SIGTERM)
        for server, log in servers:
            try:
                code = server.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
                code = -9
            if asserting:
                assert code == 0, f"a server ended with {code}:\n{log.read_text()}"

    def run(self, snippet: Snippet) -> None:
        """Do what one block says; AssertionError with everything printed when it does not go as the document says."""
        if not snippet.options.keys().isdisjoint(("installs", "norun")):
            return
        if snippet.language == "python" and not _runs(snippet):
            compile(snippet.text, f"the block at line {snippet.line}", "exec")
        elif snippet.file:
            self._save(snippet, snippet.file)
        elif snippet.language == "python":
            self.check()
            saved = self.folder / f"snippet_{snippet.line}.py"
            saved.write_text(self._ours(snippet.text))
            self._finish([str(self.python), str(saved)], None, f"the Python block at line {snippet.line}")
        elif snippet.language in SHELLS and _runs(snippet):
            self.check()
            if "stops" in snippet.options:
                self.stop()
            for command, output in snippet.commands():
                mistaken = "fails" in snippet.options or (output or "").lstrip().startswith("Error:")
                self.command(command, output, line=snippet.line, fails=mistaken)

    def check(self) -> None:
        """Import every Python file that was saved since the last look."""
        files = [str(self.folder / name) for name in self._unchecked]
        if files:
            code = f"import runpy\nfor file in {files!r}:\n    runpy.run_path(file, run_name='imported')"
            places = ", ".join(f"{name} (line {line})" for name, line in self._unchecked.items())
            self._finish([str(self.python), "-c", code], None, f"importing {places}")
        self._unchecked.clear()

    def _save(self, snippet: Snippet, name: str) -> None:
        saved = self.folder / name
        saved.parent.mkdir(parents=True, exist_ok=True)
        before = saved.read_text() if "more" in snippet.options else ""
        seen = _count_ready(self._reloading)
        saved.write_text(before + ("\n\n" if before else "") + self._ours(snippet.text))
        if snippet.language == "python":
            self._unchecked[name] = snippet.line
        if self._reloading is not None and saved.suffix == ".py":
            server = self._servers[-1][0]
            _await_ready(server, self._reloading, f"running anew after {name} changed", seen)

    def command(self, command: str, output: str | None = None, *, line: int = 0, fails: bool = False) -> None:
        """Run one shell command to its end, or start it as a server when it is a `SERVER`."""
        command = self._ours(command)
        if SERVER.match(command) and not fails:
            self._serve(command)
        else:
            self._finish(["bash", "-euo", "pipefail", "-c", command], output, f"line {line}: {command}", fails=fails)

    def _ours(self, text: str) -> str:
        for theirs, ours in self.stand_ins.items():
            text = text.replace(theirs, ours)
        return re.sub(r"\b(4222|800[01])\b", lambda found: self.ports[found[0]], text)

    def _serve(self, command: str) -> None:
        log = self.folder / f"server-{len(self._servers)}.log"
        with log.open("wb") as out:
            arguments = ["bash", "-c", f"exec env {command}"]
            server = subprocess.Popen(arguments, cwd=self.folder, env=self._environment(), stdout=out, stderr=subprocess.STDOUT)
        try:
            _await_ready(server, log, command)
        except AssertionError:
            server.kill()
            server.wait()
            raise
        self._servers.append((server, log))
        if "--reload" in command:
            self._reloading = log

    def _environment(self) -> dict[str, str]:
        """Return what a server is given: the port goes to the first, a document gives others a ``--port`` if they need one."""
        return {name: value for name, value in self.environment.items() if name != "HTTP_PORT" or not self._servers}

    def _finish(self, arguments: list[str], output: str | None, name: str, *, fails: bool = False) -> None:
        done = subprocess.run(
            arguments, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=PATIENCE * 4, check=False
        )
        printed = done.stdout + done.stderr
        logs = "".join(f"\n--- {log.name}\n{log.read_text()}" for _, log in self._servers)
        assert (done.returncode != 0) == fails, f"{name} ended with {done.returncode}:\n{printed}{logs}"
        assert output is None or fits(output, printed), f"{name} printed\n{printed}\nand not\n{output}{logs}"


def _home(folder: Path) -> Path:
    home = folder / ".home"
    home.mkdir(exist_ok=True)
    return home


def _programs(folder: Path) -> Path:
    """Return a folder of programs that readers have and a bare machine may lack: curl."""
    programs = folder / ".programs"
    programs.mkdir(exist_ok=True)
    curl = programs / "curl"
    curl.write_text(f'#!/bin/sh\nexec {sys.executable} {Path(__file__).with_name("curl.py")} "$@"\n')
    curl.chmod(0o755)
    return programs


def _runs(snippet: Snippet) -> bool:
    """Say whether a block can be run here: it is ours, or the packages or programs that it needs are installed."""
    needed = snippet.options.get("needs")
    found = shutil.which if snippet.language in SHELLS else importlib.util.find_spec
    return needed is None or all(found(name) is not None for name in needed.split(","))


def _count_ready(log: Path | None) -> int:
    return 0 if log is None else len(READY.findall(log.read_text()))


def _await_ready(server: subprocess.Popen[bytes], log: Path, command: str, seen: int = 0) -> None:
    until = time.monotonic() + PATIENCE
    while _count_ready(log) <= seen:
        assert server.poll() is None, f"{command} ended with {server.returncode}:\n{log.read_text()}"
        assert time.monotonic() < until, f"{command} printed no ready line within {PATIENCE:.0f} s:\n{log.read_text()}"
        time.sleep(0.05)


def fits(expected: str, printed: str) -> bool:
    """Say whether a text is what a document shows; `...` stands for anything, indentation and line ends do not count."""
    parts = [re.escape(" ".join(part.split())) for part in expected.split("...")]
    return re.fullmatch(" *.*? *".join(parts), " ".join(printed.split())) is not None
