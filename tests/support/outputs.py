"""What a test run lets out beside what pytest captures: log files, what child processes and commands print, what services answer."""

import asyncio
import itertools
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

_FILES = (".log", ".log.old", ".out", ".err")
_NAMES = frozenset({"stdout", "stderr", "log"})
_DATA = ("pg_", "base", "global", "jetstream", "node_modules", ".venv")
"""Folders of servers and packages, in which nothing is a log."""
_PAGES = ("/health", "/metrics", "/docs", "/openapi.json", "/asyncapi.json", "/.well-known")
_MEANT = (("token", "issue"), ("keys", "issue"), ("keys", "rotate"))
"""Commands whose output is a secret, shown once on purpose."""
MOST = 2_000_000
"""Characters of one file or answer that are looked at."""


class Outputs:
    """Collects texts with the place that they came from; `taken` gives them away."""

    def __init__(self) -> None:
        self._texts: list[tuple[str, str]] = []
        self._read: dict[Path, int] = {}
        self._undo: list[Callable[[], None]] = []

    def note(self, place: str, text: str | bytes | None) -> None:
        """Take in a text."""
        if text:
            self._texts.append((place, text[:MOST] if isinstance(text, str) else text[:MOST].decode("utf-8", "replace")))

    def taken(self) -> list[tuple[str, str]]:
        """Return all that came since this was asked."""
        texts, self._texts = self._texts, []
        return texts

    def read(self, *folders: Path) -> None:
        """Take in what log files of these folders have more than before."""
        for folder in folders:
            for file in _logs(folder):
                try:
                    size, known = file.stat().st_size, self._read.get(file, 0)
                    if size == known:
                        continue
                    with file.open("rb") as log:
                        log.seek(known if size > known else 0)
                        self.note(f"file {file.name}", log.read(MOST))
                except OSError:  # it is gone, or not ours to read
                    continue
                self._read[file] = size

    def watch(self) -> None:
        """Take in what children and commands print, and what services answer of themselves or in failure, from now on."""
        import httpx
        from click.testing import CliRunner

        communicate, invoke, send = subprocess.Popen.communicate, CliRunner.invoke, httpx.AsyncClient.send
        awaited = asyncio.subprocess.Process.communicate

        def printed(process: Any, *args: Any, **more: Any) -> Any:
            texts = communicate(process, *args, **more)
            self._printed(process.args, texts)
            return texts

        async def printed_later(process: Any, *args: Any, **more: Any) -> Any:
            texts = await awaited(process, *args, **more)
            popen = process._transport.get_extra_info("subprocess")
            self._printed(() if popen is None else popen.args, texts)
            return texts

        def invoked(runner: Any, command: Any, args: Any = None, *rest: Any, **more: Any) -> Any:
            result = invoke(runner, command, args, *rest, **more)
            self._printed(args or (), (result.output,))
            return result

        async def sent(client: Any, request: Any, *args: Any, **more: Any) -> Any:
            answer = await send(client, request, *args, **more)
            if answer.is_stream_consumed and (answer.status_code >= 400 or request.url.path.startswith(_PAGES)):
                self.note(f"answer of {request.url.path}", f"{answer.headers}\n{answer.text}")
            return answer

        for place, name, after, before in (
            (subprocess.Popen, "communicate", printed, communicate), (asyncio.subprocess.Process, "communicate", printed_later, awaited),
            (CliRunner, "invoke", invoked, invoke), (httpx.AsyncClient, "send", sent, send),
        ):  # fmt: skip
            setattr(place, name, after)
            self._undo.append(lambda place=place, name=name, before=before: setattr(place, name, before))

    def unwatch(self) -> None:
        """Leave everything as it was."""
        for undo in self._undo:
            undo()

    def _printed(self, command: Any, texts: Sequence[str | bytes | None]) -> None:
        words = [os.fspath(word) for word in ([command] if isinstance(command, str | os.PathLike) else command)]
        pairs = set(itertools.pairwise(words))
        if not pairs.intersection(_MEANT):
            for text in texts:
                self.note(f"output of {' '.join(map(str, words[:6]))}"[:120], text)


def _logs(folder: Path) -> Iterator[Path]:
    for place, inner, files in os.walk(folder):
        inner[:] = [name for name in inner if not name.startswith(_DATA) and not name.isdigit()]
        for name in files:
            if name.endswith(_FILES) or name in _NAMES:
                yield Path(place, name)
