"""Opening one connection: which servers, with what credentials, and what went wrong in words."""

import asyncio
import ipaddress
import random
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import nats.errors

from cliffracer.errors import CliffracerError, SetupError
from cliffracer.messaging.transport.guard import GuardedClient

STEP = 2.0  # seconds for each step of a connection: TCP, TLS, first answer
_WHOLE = 6.0
_REFUSALS = ("authorization", "authentication", "revoked", "expired", "tls required", "nkey", "jwt")


class NatsSettings(Protocol):
    """The fields of the settings that a connection needs. A value may be None, a string or a secret."""

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


class Refused(CliffracerError):
    """The server is there and will not have us: trying again with the same settings does not help."""


class Dialer:
    """Tries the known servers in turn; ``read`` gives the settings anew for each try, so that rotated credentials are used."""

    def __init__(self, read: Callable[[], NatsSettings], name: str) -> None:
        self._read = read
        self._name = name
        self._discovered: dict[str, str] = {}  # URL -> the host name that its certificate is for
        self._leaving: str | None = None
        self.check()

    @property
    def addresses(self) -> list[str]:
        """The URLs from the settings, with their credentials."""
        listed = plain(self._read().nats_url) or "nats://localhost:4222"
        return [address.strip() for address in listed.split(",") if address.strip()]

    @property
    def label(self) -> str:
        """The URLs without credentials, for people to read."""
        return ", ".join(without_credentials(address) for address in self.addresses)

    def check(self) -> None:
        """Raise `SetupError` for settings that cannot work."""
        settings = self._read()
        for field in ("nats_creds", "nats_tls_ca", "nats_tls_cert", "nats_tls_key"):
            path = plain(getattr(settings, field))
            if path and not Path(path).is_file():
                raise SetupError(f"{field.upper()} names {path}, and there is no such file.")
        for address in self.addresses:
            if urlsplit(address if "://" in address else f"nats://{address}").scheme not in ("nats", "tls", "ws", "wss"):
                raise SetupError(f"NATS_URL has {without_credentials(address)}: it must begin with nats:// or tls://.")
        self._context()

    def leave(self, client: GuardedClient) -> None:
        """Try this server last: it is going away."""
        self._leaving = client.address

    async def dial(self, lost: Callable[[GuardedClient, str], None]) -> GuardedClient:
        """Return a connection to the first server that takes us; raise the most telling failure otherwise.

        `Refused` for credentials and certificates, `OSError` or `nats.errors.Error` for what may pass.
        """
        failure: Exception = OSError("no server known")
        for address, hostname in self._order():
            client = GuardedClient(address, lost)
            try:
                async with asyncio.timeout(_WHOLE):
                    await self._open(client, address, hostname)
            except Exception as error:  # noqa: BLE001 - whatever one server does, the next is tried
                client.abort()
                failure = failure if isinstance(failure, Refused) else self._told(error)
                continue
            except BaseException:  # cancelled: not one socket is left behind
                client.abort()
                raise
            self._discover(client, address, hostname)
            return client
        raise failure

    def _order(self) -> list[tuple[str, str | None]]:
        known: dict[str, str | None] = dict.fromkeys(self.addresses)
        known.update({address: host for address, host in self._discovered.items() if address not in known})
        pairs = list(known.items())
        random.shuffle(pairs)
        pairs.sort(key=lambda pair: pair[0] == self._leaving)
        return pairs

    async def _open(self, client: GuardedClient, address: str, hostname: str | None) -> None:
        settings = self._read()
        context = self._context()
        client.demands_tls = context is not None or address.startswith("tls://")
        options: dict[str, Any] = {
            "user": plain(settings.nats_user),
            "password": plain(settings.nats_password),
            "token": plain(settings.nats_token),
            "user_credentials": plain(settings.nats_creds),
            **_nkey(plain(settings.nats_nkey)),
        }
        if context is not None:
            options["tls"] = context
        if hostname is not None:
            options["tls_hostname"] = hostname
        await client.open(address, name=self._name, connect_timeout=STEP, **options)

    def _context(self) -> ssl.SSLContext | None:
        settings = self._read()
        authority, certificate, key = (plain(getattr(settings, f"nats_tls_{part}")) for part in ("ca", "cert", "key"))
        if not (authority or certificate):
            return None
        try:
            context = ssl.create_default_context(cafile=authority)
            if certificate:
                context.load_cert_chain(certificate, key)
        except (OSError, ValueError) as error:
            raise SetupError(f"NATS_TLS_CA, NATS_TLS_CERT or NATS_TLS_KEY cannot be used: {error}") from error
        return context

    def _discover(self, client: GuardedClient, address: str, hostname: str | None) -> None:
        told = urlsplit(address).hostname
        for found in client.discovered_servers:
            certified = hostname or told if _is_ip(found.hostname) and not _is_ip(told) else None
            self._discovered[_with_credentials_of(address, found.geturl())] = certified or ""
        self._discovered = dict(list(self._discovered.items())[-64:])

    def _told(self, error: Exception) -> Exception:
        text = reason(error)
        if isinstance(error, ssl.SSLError | SetupError | ImportError):
            return Refused(text)
        if isinstance(error, nats.errors.Error) and any(word in text.lower() for word in _REFUSALS):
            user = plain(self._read().nats_user) or urlsplit(self.addresses[0]).username
            return Refused(f"{text} for user {user}" if user else text)
        return error


def plain(value: Any) -> str | None:
    """Return the string in a setting, which may be a secret, a path or absent."""
    if value is None:
        return None
    reveal = getattr(value, "reveal", None)
    text = str(reveal() if callable(reveal) else value)
    return text or None


def without_credentials(address: str) -> str:
    """Return a server's URL as it may be logged."""
    parts = urlsplit(address if "://" in address else f"nats://{address}")
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def reason(error: BaseException) -> str:
    """Return a failure to connect in a few words."""
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, socket.gaierror):
        return "host name not found"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate does not verify: {error.verify_message}"
    text = str(error).removeprefix("nats: ").strip("'\" ")
    return text or type(error).__name__


def _nkey(value: str | None) -> dict[str, str | None]:
    """Return nats-py's option for an nkey: the setting is a seed, or names a file that holds one."""
    if value is None:
        return {}
    return {"nkeys_seed": value} if Path(value).is_file() else {"nkeys_seed_str": value}


def _is_ip(host: str | None) -> bool:
    try:
        ipaddress.ip_address(host or "")
    except ValueError:
        return False
    return True


def _with_credentials_of(address: str, found: str) -> str:
    credentials, at, _ = urlsplit(address).netloc.rpartition("@")
    parts = urlsplit(found)
    return parts._replace(netloc=f"{credentials}{at}{parts.netloc}").geturl()
