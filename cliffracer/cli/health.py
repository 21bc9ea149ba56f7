"""``cliffracer health`` and ``config``: how this machine's service is, and what it was told."""

import http.client
import json
from typing import Any

from cliffracer.cli.output import bad, good, print_json, print_table, say, soft
from cliffracer.settings import Settings

_EVERYWHERE = frozenset({"", "0.0.0.0", "::"})  # noqa: S104 - compared, not bound


def health(*, host: str | None, port: int | None, live: bool, as_json: bool) -> None:
    """Ask over HTTP; the exit code is the answer."""
    settings = Settings.load(http_host=host, http_port=port)
    place = "127.0.0.1" if settings.http_host in _EVERYWHERE else settings.http_host
    status, answer = _ask(place, settings.http_port, "/health" if live else "/health/ready")
    if as_json:
        print_json({"ok": status == 200, "status": status, "answer": answer})
    elif status == 200:
        say(good("ok"))
    else:
        say(f"{bad('not ready:')} {answer if isinstance(answer, str) else json.dumps(answer)}", err=True)
    raise SystemExit(0 if status == 200 else 1)


def _ask(host: str, port: int, path: str) -> tuple[int, Any]:
    connection = http.client.HTTPConnection(host, port, timeout=5)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read(65_536)
    except (OSError, http.client.HTTPException) as error:
        reason = "connection refused" if isinstance(error, ConnectionRefusedError) else str(error)
        return 0, f"http://{host}:{port} does not answer ({reason})"
    finally:
        connection.close()
    try:
        return response.status, json.loads(body)
    except ValueError:
        return response.status, body.decode("utf-8", "replace")


def config(*, env_file: str | None, as_json: bool) -> None:
    """Print every setting."""
    found = Settings.load(env_file=env_file).sources()
    if as_json:
        print_json([{"name": s.name, "value": s.value, "source": str(s.origin)} for s in found])
        return
    rows = [
        [s.name, s.value, str(s.origin)] if str(s.origin) != "default" else [soft(s.name), soft(s.value), soft("default")] for s in found
    ]
    print_table(["setting", "value", "from"], rows, empty="There are no settings.")
