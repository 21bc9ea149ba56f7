"""What `doctor` finds in settings: what is unsafe as it is, and which extra is missing for what they ask."""

import importlib.util
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from cliffracer.observability.tracing import exporter
from cliffracer.settings import Settings

_LOCAL = frozenset({"", "localhost", "127.0.0.1", "::1"})
_EVERYWHERE = frozenset({"0.0.0.0", "::"})  # noqa: S104 - compared, not bound


def unsafe(settings: Settings) -> Iterator[str]:
    """Yield what is dangerous about the settings, each with what to do."""
    yield from _files()
    if settings.http_host in _EVERYWHERE and settings.env == "development":
        yield "HTTP_HOST opens the port to the whole network, in development: its docs and embedded data are for whoever comes by"
    if settings.env == "production":
        yield from _doors(settings)
        yield from _lines(settings)


def _doors(settings: Settings) -> Iterator[str]:
    """Yield who may come in."""
    if settings.docs:
        yield "docs are served in production: everybody sees what can be called (CLIFFRACER_DOCS=false)"
    if not settings.recognises:
        yield "no AUTH_ setting: whoever reaches NATS or the port may call everything"
    elif not settings.auth_required:
        yield "AUTH_REQUIRED is off: handlers without @requires are for everybody"
    if "*" in settings.cors_origins:
        yield "CORS_ORIGINS is *: any page may call"


def _lines(settings: Settings) -> Iterator[str]:
    """Yield who may read along."""
    if not _encrypted(settings):
        yield "NATS is used without TLS: fine inside one host or mesh only"
    if _known(settings.nats_url) and not any((settings.nats_user, settings.nats_token, settings.nats_creds, settings.nats_nkey)):
        yield "NATS is used without credentials: whoever reaches it may call and listen to everything (cliffracer permissions)"
    if settings.log_level == "DEBUG":
        yield "LOG_LEVEL is DEBUG: logs may hold what callers sent"
    if any("sslmode=disable" in url for url in settings.databases):
        yield f"DATABASE_URL{'S' if settings.database_urls else ''} turns TLS off (sslmode=disable): fine inside one host or mesh only"


def missing(settings: Settings) -> Iterator[str]:
    """Yield what the settings ask for and cannot have, with the command that mends it."""
    wanted = (
        (settings.nats_creds is not None or settings.nats_nkey is not None, "nkeys", "nkeys", "NATS_CREDS and NATS_NKEY need"),
        (exporter(os.environ) is not None, "opentelemetry.sdk", "otel", "Tracing needs"),
        (settings.oidc_issuer is not None, "httpx2", "oidc", "OIDC_ISSUER needs"),
        (settings.redis_url is not None, "redis", "redis", "REDIS_URL needs"),
    )
    for asked, module, extra, words in wanted:
        if asked and not _installed(module):
            yield f'{words} cliffracer[{extra}]: pip install "cliffracer[{extra}]".'


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # not even what it is part of
        return False


def _files() -> Iterator[str]:
    for path in sorted(Path().glob(".env*")):
        if path.name == ".env.example" or not path.is_file():
            continue
        if path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
            yield f"{path} can be read by others on this machine: chmod 600 {path}"


def _encrypted(settings: Settings) -> bool:
    addresses = (settings.nats_url or "").split(",")
    return bool(settings.nats_tls_ca) or all(
        urlsplit(each.strip()).scheme in {"tls", "wss"} or (urlsplit(each.strip()).hostname or "") in _LOCAL for each in addresses
    )


def _known(url: str | None) -> bool:
    return url is not None and all(urlsplit(each.strip()).username is None for each in url.split(","))
