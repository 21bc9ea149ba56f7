"""Connections that are encrypted, to the server that is meant and to no other."""

import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest

from cliffracer.database import Database
from cliffracer.errors import SetupError, Unavailable
from tests.support import certificates
from tests.support.certificates import Certificates
from tests.support.postgres import Server
from tests.support.tls import encrypted


class Place(NamedTuple):
    """A server that is reached by TLS only, and the certificates of its world."""

    port: int
    files: Certificates

    def url(self, **options: object) -> str:
        """Return its address with options of libpq."""
        words = "&".join(f"{name}={value}" for name, value in options.items())
        return f"postgresql://postgres@localhost:{self.port}/postgres?{words}"


@contextlib.asynccontextmanager
async def served(postgres: Server, folder: Path, *, asks: bool = False) -> AsyncIterator[Place]:
    files = certificates.make(folder)
    files.key.chmod(0o600)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(files.certificate, files.key)
    if asks:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(files.authority)
    async with encrypted(postgres.port, context) as port:
        yield Place(port, files)


@pytest.mark.parametrize("mode", ["prefer", "require", "verify-ca", "verify-full"])
async def test_every_mode_encrypts_where_the_server_can(postgres, tmp_path, mode):
    """What sslmode asks for is had, for the pool's connections, streams and the listener alike."""
    async with served(postgres, tmp_path) as place:
        url = place.url(sslmode=mode, **({"sslrootcert": place.files.authority} if "verify" in mode else {}))
        async with Database.open(url, smallest=2) as db:
            assert await db.fetch_value(int, "select 6 * 7") == 42
            assert [row async for row in db.stream(int, "select generate_series(1, 3)")] == [1, 2, 3]
            link = db.pool.take()
            assert link.session.pgconn.ssl_in_use
            db.pool.give(link)


async def test_wrong_authority_is_refused_at_once(postgres, tmp_path):
    """A certificate that somebody else signed is a set-up error, however long a server would be waited for."""
    (tmp_path / "other").mkdir()
    other = certificates.make(tmp_path / "other")
    async with served(postgres, tmp_path) as place:
        for mode in ("verify-ca", "verify-full"):
            with pytest.raises(SetupError, match=r"refuses us: .*certificate verify failed.*DATABASE_URL"):
                async with Database.open(place.url(sslmode=mode, sslrootcert=other.authority), wait=30):
                    pass


async def test_certificate_of_another_host_is_refused(postgres, tmp_path):
    """verify-full looks at the name too, verify-ca does not."""
    async with served(postgres, tmp_path) as place:
        url = f"postgresql://postgres@db.example.org:{place.port}/postgres?hostaddr=127.0.0.1&sslrootcert={place.files.authority}"
        async with Database.open(f"{url}&sslmode=verify-ca") as db:
            assert await db.fetch_value(int, "select 1") == 1
        with pytest.raises(SetupError, match=r"does not match host name"):
            async with Database.open(f"{url}&sslmode=verify-full", wait=30):
                pass


async def test_missing_authority_is_named(postgres, tmp_path):
    """A path to nothing is told with the path."""
    async with served(postgres, tmp_path) as place:
        with pytest.raises(SetupError, match=r"nowhere\.pem"):
            async with Database.open(place.url(sslmode="verify-full", sslrootcert=tmp_path / "nowhere.pem"), wait=30):
                pass


async def test_client_certificate_is_sent(postgres, tmp_path):
    """A server that asks for a certificate gets ours; without one it lets nobody in."""
    async with served(postgres, tmp_path, asks=True) as place:
        ours = {"sslmode": "verify-full", "sslrootcert": place.files.authority}
        url = place.url(**ours, sslcert=place.files.certificate, sslkey=place.files.key)
        async with Database.open(url) as db:
            assert await db.fetch_value(int, "select 1") == 1
        with pytest.raises((SetupError, Unavailable)):
            async with Database.open(place.url(**ours)):
                pass
