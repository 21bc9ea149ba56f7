"""Consumers as processes of their own, for tests that kill them."""

import asyncio
import contextlib
import signal
import subprocess
import sys
from pathlib import Path

from tests.support.waiting import eventually

ROOT = Path(__file__).parents[3]


class Processes:
    """Processes of one program of this folder, which note in one file what they handle."""

    def __init__(self, program: str, url: str, notes: Path, *more: object) -> None:
        self.notes = notes
        self.running: list[subprocess.Popen[bytes]] = []
        self._command = [sys.executable, "-m", f"tests.messaging.jetstream.{program}", url, str(notes), *map(str, more)]
        self._started = 0

    async def start(self) -> subprocess.Popen[bytes]:
        """Start one and return it once it consumes."""
        self._started += 1
        process = await asyncio.to_thread(subprocess.Popen, self._command, cwd=ROOT)
        self.running.append(process)
        await eventually(lambda: self.notes.exists() and self.notes.read_bytes().count(b"ready") >= self._started, within=60)
        return process

    def lines(self) -> list[bytes]:
        """Return the lines that are complete."""
        return self.notes.read_bytes().split(b"\n")[:-1]

    def close(self) -> None:
        """End all, those that are paused among them."""
        for process in self.running:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
                process.terminate()
        for process in self.running:
            process.wait(30)
