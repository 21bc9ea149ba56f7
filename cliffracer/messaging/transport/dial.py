"""Opening one connection: which servers are tried in which order, and what went wrong in words."""

import asyncio
import ipaddress
import secrets
import socket
import ssl
from collections.abc import Callable, Iterable
from urllib.parse import urlsplit

import nats.errors
from loguru import logger

from cliffracer.errors import CliffracerError, SetupError
from cliffracer.messaging.transport.credentials import NatsSettings, options, plain
from cliffracer.messaging.transport.guard import GuardedClient

_STEP = 2.0  # seconds for each step of a connection: TCP, TLS, first answer
_WHOLE = 6.0
_REMEMBERED = 64  # servers that a cluster told us of
_REFUSALS = ("authorization", "authentication", "revoked", "expired", "nkey", "jwt")
_chance = secrets.SystemRandom()


class Refused(CliffracerError):
    """The server is there and will not have us: trying again with the same settings does not help."""


class Dialer:
    """Tries the known servers in turn; ``read`` gives the settings anew for each try, so that rotated credentials are used."""

    def __init__(self, read: Callable[[], NatsSettings], name: str, ping: float) -> None:
        self.ping = ping
        """Seconds between two looks whether the server is alive."""
        self._read = read
        self._settings = read()
        self._name = name
        self._discovered: dict[str, str | None] = {}  # URL -> the host name that its certificate is for
        self._leaving: str | None = None
        self._check()

    @property
    def addresses(self) -> list[str]:
        """The URLs from the settings, with their credentials."""
        listed = plain(self._settings.nats_url) or "nats://localhost:4222"
        return [address.strip() for address in listed.split(",") if address.strip()]

    @property
    def label(self) -> str:
        """The URLs without credentials, for people to read."""
        return ", ".join(without_credentials(address) for address in self.addresses)

    def leave(self, client: GuardedClient) -> None:
        """Try this server last: it is going away."""
        self._leaving = client.address

    async def dial(self, lost: Callable[[GuardedClient, str], None]) -> GuardedClient:
        """Return a connection to the first server that takes us; raise the most telling failure otherwise.

        `Refused` for credentials and certificates, `SetupError` for settings, else whatever may pass.
        """
        failure: Exception = OSError("no server known")
        cancelled = _cancellations()
        self._refresh()
        for address, hostname in self._order():
            client = GuardedClient(address, hostname, lost)
            try:
                async with asyncio.timeout(_WHOLE):
                    await client.open(address, name=self._name, ping=self.ping, connect_timeout=_STEP, **options(self._settings))
            except Exception as error:  # whatever one address answers, the others are tried; the last failure is told
                client.abort()
                if _cancellations() > cancelled:  # swallowed by `asyncio.wait_for`, which nats-py uses, on Python 3.11
                    raise asyncio.CancelledError from error
                failure = failure if isinstance(failure, Refused) else self.told(error, address)
                continue
            except BaseException:  # cancelled: not one socket is left behind
                client.abort()
                raise
            if _cancellations() > cancelled:  # as above
                client.abort()
                raise asyncio.CancelledError
            self.discover(client, client.server.get("connect_urls") or ())
            return client
        raise failure

    def discover(self, client: GuardedClient, servers: Iterable[str]) -> None:
        """Remember the other servers of a cluster, ``host:port``, that one of them told us of."""
        parts = urlsplit(_complete(client.address))
        credentials, at, _ = parts.netloc.rpartition("@")
        for server in servers:
            given = urlsplit(f"//{server}").hostname
            told = client.hostname or parts.hostname
            certified = told if _is_address(given) and not _is_address(told) else None
            self._discovered[f"{parts.scheme}://{credentials}{at}{server}"] = certified
        self._discovered = dict(list(self._discovered.items())[-_REMEMBERED:])

    def _order(self) -> list[tuple[str, str | None]]:
        known: dict[str, str | None] = dict.fromkeys(self.addresses)
        known.update((address, host) for address, host in self._discovered.items() if address not in known)
        pairs = list(known.items())
        _chance.shuffle(pairs)
        pairs.sort(key=lambda pair: (pair[0] == self._leaving, pair[0] in self._discovered))  # these may be out of our reach
        return pairs

    def _refresh(self) -> None:
        try:
            self._settings = self._read()
        except Exception as error:  # noqa: BLE001 - a secret that is being replaced right now may be unreadable in many ways
            logger.warning("the NATS settings cannot be read again, the last ones are used: {reason}", reason=reason(error))

    def _check(self) -> None:
        for address in self.addresses:
            try:
                parts = urlsplit(_complete(address))
                fits = parts.scheme in ("nats", "tls", "ws", "wss") and bool(parts.hostname) and parts.port != 0
            except ValueError:
                fits = False
            if not fits:
                raise SetupError(f"NATS_URL has {without_credentials(address)}: it must look like nats://host:4222.")
        options(self._settings)

    def told(self, error: Exception, address: str) -> Exception:
        """Return the error to raise for a failed attempt: `Refused` where the server, or its certificate, is the reason."""
        text = reason(error)
        if isinstance(error, ssl.SSLError):
            return Refused(text)
        if isinstance(error, ImportError):
            return SetupError(text)
        if isinstance(error, nats.errors.Error) and any(word in text.lower() for word in _REFUSALS):
            user = plain(self._settings.nats_user) or _user_in(address)
            return Refused(f"{text} for user {user}" if user else text)
        return error


def _cancellations() -> int:
    """Return how often the present task was asked to stop and has not yet."""
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()


def without_credentials(address: str) -> str:
    """Return a server's URL as it may be logged."""
    scheme, _, rest = _complete(address).partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"


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


def _complete(address: str) -> str:
    return address if "://" in address else f"nats://{address}"


def _user_in(address: str) -> str | None:
    parts = urlsplit(_complete(address))
    return parts.username if parts.password is not None else None  # alone it is a token


def _is_address(host: str | None) -> bool:
    try:
        ipaddress.ip_address(host or "")
    except ValueError:
        return False
    return True
