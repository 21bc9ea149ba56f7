"""The settings of a connection as nats-py wants them, read anew for each try."""

import ssl
import tempfile
from pathlib import Path
from typing import Any, Protocol

from nats.aio.client import RawCredentials

from cliffracer.errors import SetupError


class NatsSettings(Protocol):
    """The fields of the settings that a connection needs: None, a string or a secret; documents are a path or what is in it."""

    @property
    def nats_url(self) -> Any: ...
    @property
    def nats_user(self) -> Any: ...
    @property
    def nats_password(self) -> Any: ...
    @property
    def nats_token(self) -> Any: ...
    @property
    def nats_creds(self) -> Any: ...
    @property
    def nats_nkey(self) -> Any: ...
    @property
    def nats_tls_ca(self) -> Any: ...
    @property
    def nats_tls_cert(self) -> Any: ...
    @property
    def nats_tls_key(self) -> Any: ...


def plain(value: Any) -> str | None:
    """Return the string in a setting, which may be a secret, a path or absent."""
    if value is None:
        return None
    reveal = getattr(value, "reveal", None)
    text = str(reveal() if callable(reveal) else value)
    return text or None


def options(settings: NatsSettings) -> dict[str, Any]:
    """Return nats-py's options for who we are; `SetupError` for a setting that cannot work."""
    found: dict[str, Any] = {
        "user": plain(settings.nats_user),
        "password": plain(settings.nats_password),
        "token": plain(settings.nats_token),
    }
    if credentials := plain(settings.nats_creds):
        found["user_credentials"] = RawCredentials(credentials) if "-----BEGIN" in credentials else _file("NATS_CREDS", credentials)
    if seed := plain(settings.nats_nkey):
        is_seed = seed.startswith("S") and seed.isalnum() and seed.isupper()
        found["nkeys_seed_str" if is_seed else "nkeys_seed"] = seed if is_seed else _file("NATS_NKEY", seed)
    if credentials or seed:
        _need_nkeys()
    if (context := _context(settings)) is not None:
        found["tls"] = context
    return found


def _context(settings: NatsSettings) -> ssl.SSLContext | None:
    authority, certificate, key = plain(settings.nats_tls_ca), plain(settings.nats_tls_cert), plain(settings.nats_tls_key)
    if not (authority or certificate):
        return None
    try:
        context = ssl.create_default_context()
        if authority:
            inline = "-----BEGIN" in authority
            context.load_verify_locations(cadata=authority if inline else None, cafile=None if inline else _file("NATS_TLS_CA", authority))
        if certificate:
            _load_chain(context, certificate, key)
    except (OSError, ValueError) as error:
        raise SetupError(f"NATS_TLS_CA, NATS_TLS_CERT or NATS_TLS_KEY cannot be used: {error}") from error
    return context


def _load_chain(context: ssl.SSLContext, certificate: str, key: str | None) -> None:
    with tempfile.TemporaryDirectory() as folder:  # OpenSSL reads a key from a file only; this one is ours alone and gone at once
        paths: list[str | None] = []
        for field, document in (("cert", certificate), ("key", key)):
            if document and "-----BEGIN" in document:
                path = Path(folder, field)
                path.touch(0o600)
                path.write_text(document)
                paths.append(str(path))
            else:
                paths.append(_file(f"NATS_TLS_{field.upper()}", document) if document else None)
        context.load_cert_chain(paths[0] or "", paths[1])


def _file(field: str, path: str) -> str:
    if not Path(path).is_file():
        raise SetupError(f"{field} names {path[:200]}, and there is no such file.")
    return path


def _need_nkeys() -> None:
    try:
        import nkeys  # noqa: F401, PLC0415 - wanted by nats-py, and only for these
    except ImportError:
        raise SetupError('NATS_CREDS and NATS_NKEY need nkeys: pip install "cliffracer[nkeys]".') from None
