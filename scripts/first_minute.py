"""What somebody who has never seen Cliffracer does first, timed: four commands from a bare virtual environment to an answered call.

    python scripts/first_minute.py                                   # "cliffracer[dev]", from the package index
    python scripts/first_minute.py "dist/cliffracer-0.1.0-py3-none-any.whl[dev]"

In an empty folder: install, make a service with a database, run it, call it. Then it is stopped and started twice more, to see how
long a start takes once the servers run, and once they only have their files. Exits with 1 if a promise is not kept.
Standard library only.
"""

import argparse
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

PROMISED = {"commands": 4, "first answer": 60.0, "ready at first": 3.0, "ready later": 1.0}
PATIENCE = 120.0


class Newcomer:
    """A folder with nothing in it but a virtual environment, and what is typed there."""

    def __init__(self, folder: Path, lend: str | None) -> None:
        self.folder = folder
        venv.create(folder / ".venv", symlinks=True, with_pip=True)
        if lend:
            (next((folder / ".venv").glob("lib/python*/site-packages")) / "lent.pth").write_text(lend)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = str(probe.getsockname()[1])
        hidden = {"CLIFFRACER_HOME", "NATS_URL", "DATABASE_URL", "PYTHONPATH", "VIRTUAL_ENV"}
        self.environment = {name: value for name, value in os.environ.items() if name not in hidden}
        self.environment |= {"PATH": f"{folder / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}", "HTTP_PORT": port, "NO_COLOR": "1"}
        self.commands = 0

    def types(self, *command: str, shown: str = "") -> str:
        """Run a command to its end and return what it printed."""
        self.commands += 1
        began = time.monotonic()
        done = subprocess.run(command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=600, check=False)
        print(f"{time.monotonic() - began:7.2f} s  {shown or ' '.join(command)}", flush=True)
        if done.returncode:
            sys.exit(f"that ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout

    def runs(self, what: str) -> tuple[subprocess.Popen[str], float]:
        """Start the service; return it with the seconds until it said that it is ready."""
        self.commands += 1
        began = time.monotonic()
        with (self.folder / "log").open("w") as log:
            command = ["cliffracer", "run"]
            service = subprocess.Popen(command, cwd=self.folder, env=self.environment, stdout=log, stderr=log, text=True)
        while "ready" not in (said := (self.folder / "log").read_text()):
            if service.poll() is not None or time.monotonic() - began > PATIENCE:
                service.kill()
                sys.exit(f"it did not get ready:\n{said}")
            time.sleep(0.005)
        seconds = time.monotonic() - began
        print(f"{seconds:7.2f} s  cliffracer run   {what}", flush=True)
        return service, seconds


def main() -> None:
    """Do all of it, and say what was promised and what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", default="cliffracer[dev]", help="what to install")
    parser.add_argument("--pip", default="", metavar="OPTIONS", help="options for pip install, such as --no-index")
    parser.add_argument("--lend", metavar="FOLDER", help="take packages that are not installed from there")
    parser.add_argument("--patience", type=float, default=1.0, metavar="N", help="allow N times what is promised, on a busy machine")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="first-minute-") as folder:
        found = _walk(Newcomer(Path(folder).resolve(), given.lend), given.what, given.pip.split())
    broken = False
    for name, promised in PROMISED.items():
        limit = promised if name == "commands" else promised * given.patience
        broken |= found[name] > limit
        print(f"{'ok   ' if found[name] <= limit else 'LATE '} {name}: {found[name]:.4g}, promised {promised:g}")
    sys.exit(1 if broken else 0)


def _walk(newcomer: Newcomer, what: str, options: list[str]) -> dict[str, float]:
    began = time.monotonic()
    newcomer.types("pip", "install", "--quiet", "--disable-pip-version-check", *options, what, shown=f'pip install "{what}"')
    newcomer.types("cliffracer", "new", "shop", "--with", "db")
    newcomer.folder /= "shop"
    service, first = newcomer.runs("for the first time, with a new database")
    try:
        answer = newcomer.types("cliffracer", "call", "shop.add_note", "title=Milk")
        found = {"commands": float(newcomer.commands), "first answer": time.monotonic() - began, "ready at first": first}
        if '"title": "Milk"' not in answer:
            sys.exit(f"that is no answer:\n{answer}")
        _stop(service)
        service, found["ready later"] = newcomer.runs("again")
        _stop(service)
        newcomer.types("cliffracer", "servers", "stop")
        service, _ = newcomer.runs("again, after its servers had stopped")
        return found
    finally:
        _stop(service)
        newcomer.types("cliffracer", "servers", "stop")


def _stop(service: subprocess.Popen[str]) -> None:
    if service.poll() is None:
        service.send_signal(signal.SIGINT)
        service.wait(PATIENCE)


if __name__ == "__main__":
    main()
