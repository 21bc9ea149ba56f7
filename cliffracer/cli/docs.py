"""``cliffracer docs``: the documents that describe apps, without running them."""

from pathlib import Path
from typing import Any

import msgspec

from cliffracer.assembly import Assembly
from cliffracer.cli.loading import load_apps
from cliffracer.cli.output import good, print_json, say
from cliffracer.errors import SetupError
from cliffracer.provisioning import Provisions
from cliffracer.settings import Settings
from cliffracer.web import asyncapi, openapi


def docs(*, apps: tuple[str, ...], kind: str, output: str | None) -> None:
    """Print or write OpenAPI 3.1 or AsyncAPI 3.0."""
    settings = Settings.load()
    frozen = [app.freeze() for app in load_apps(apps)]
    assemblies = [Assembly(f, Provisions((), _nothing, {}), limit=settings.limit, deadline=settings.deadline) for f in frozen]
    document = openapi.document(assemblies) if kind == "openapi" else asyncapi.document(assemblies, settings.namespace)
    if output is None:
        print_json(document)
        return
    try:
        Path(output).write_bytes(msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n")
    except OSError as error:
        raise SetupError(f"{output} cannot be written: {error.strerror or error}.") from None
    say(f"{good('written')} {output}", err=True)


def _nothing(_annotation: Any) -> Any:
    return None
