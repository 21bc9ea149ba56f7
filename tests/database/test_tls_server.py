"""A PostgreSQL that has TLS itself, and decides by it whom it lets in."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psycopg
import pytest

from cliffracer.database import Database, create_missing
from cliffracer.errors import SetupError
from tests.database.models import User
from tests.support import certificates
from tests.support.certificates import Certificates
from tests.support.postgres import Server, server
from tests.support.tools import postgres_with_tls
from tests.support.waiting import eventually

WHO = """
local   all all       trust
hostssl all localhost all   cert
hostssl all somebody  all   cert
hostssl all scram     all   scram-sha-256
hostssl all postgres  all   trust
"""


class Place(NamedTuple):
    """The server, the certificates of its world, and those of another one."""

    server: Server
    files: Certificates
    strange: Certificates

    def url(self, user: str = "postgres", host: str = "localhost", **options: object) -> str:
        """Return its address with options of libpq; `verify-full` and our authority unless others are given."""
        given = {"sslmode": "verify-full", "sslrootcert": self.files.authority, **options}
        words = "&".join(f"{name}={value}" for name, value in given.items() if value is not None)
        return f"postgresql://{user}@{host}:{self.server.port}/postgres?{words}"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder, other = tmp_path_factory.mktemp("ours"), tmp_path_factory.mktemp("strange")
    files, strange = certificates.make(folder), certificates.make(other)
    for made in (files, strange):
        made.key.chmod(0o600)
    who = folder / "hba"
    who.write_text(WHO)
    tls = {"ssl": "on", "ssl_cert_file": str(files.certificate), "ssl_key_file": str(files.key), "ssl_ca_file": str(files.authority)}
    with server(programs=postgres_with_tls(), hba_file=str(who), **tls) as own:
        with psycopg.connect(own.url(), autocommit=True) as connection:
            connection.execute("create role localhost login; create role somebody login; create role scram login password 'open sesame'")
        yield Place(own, files, strange)


@pytest.mark.parametrize(
    "options",
    [
        {"sslmode": "prefer", "sslrootcert": None},
        {"sslmode": "require", "sslrootcert": None},
        {"sslmode": "verify-ca"},
        {"sslmode": "verify-full"},
        {"sslnegotiation": "direct"},
        {"ssl_max_protocol_version": "TLSv1.2"},
    ],
)
async def test_connections_are_encrypted(place, options):
    """As the server sees it, for every connection of the pool; rows go and come as without."""
    async with Database.open(place.url(**options), smallest=2) as db:
        await eventually(lambda: db.statistics()["size"] == 2)
        seen = "select bool_and(ssl) from pg_stat_ssl join pg_stat_activity using (pid) where application_name = 'cliffracer'"
        assert await db.fetch_value(bool, seen) is True
        await create_missing(db, [User])
        rows = await db.repository(User).create_many([User(name="x", email=f"{number}@x") for number in range(20)])
        assert await db.repository(User).find(order_by="id") == sorted(rows, key=lambda row: row.id)
        await db.execute("drop table users")


async def test_certificate_stands_for_a_password(place):
    """Whom a certificate names is let in by it; a password goes over a channel that is bound to the server's own certificate."""
    ours = {"sslcert": place.files.certificate, "sslkey": place.files.key}
    async with Database.open(place.url("localhost", **ours)) as db:
        assert await db.fetch_value(str, "select client_dn from pg_stat_ssl where pid = pg_backend_pid()") == "/CN=localhost"
    async with Database.open(place.url("scram:open%20sesame", channel_binding="require")) as db:
        assert await db.fetch_value(str, "select current_user") == "scram"


def refused(place: Place, folder: Path) -> dict[str, tuple[str, str]]:
    """Return addresses that no attempt gets through by, and what is said about each."""
    loose = folder / "loose.key"
    loose.write_bytes(place.files.key.read_bytes())
    loose.chmod(0o644)
    ours, theirs = place.files, place.strange
    both = {"sslcert": ours.certificate, "sslkey": ours.key}
    named = {"host": "db.example.org", "hostaddr": "127.0.0.1"}
    return {
        "in the clear": (place.url(sslmode="disable"), r"no encryption\. If it wants TLS, put sslmode=verify-full into DATABASE_URL"),
        "another authority": (place.url(sslrootcert=theirs.authority), r"certificate verify failed\. Let sslrootcert in DATABASE_URL name"),
        "another host": (place.url(**named), r'does not match host name "db.example.org"\. Let DATABASE_URL have the host name'),
        "no certificate of ours": (
            place.url("localhost"),
            r"requires a valid client certificate\. .*put sslcert and sslkey into DATABASE_URL",
        ),
        "somebody else's": (place.url("somebody", **both), r'certificate authentication failed for user "somebody"\. Check DATABASE_URL'),
        "signed elsewhere": (
            place.url("localhost", sslcert=theirs.certificate, sslkey=theirs.key),
            r"does not know who signed the sslcert",
        ),
        "key of another": (place.url("localhost", sslcert=ours.certificate, sslkey=theirs.key), r"sslkey of DATABASE_URL is not that of"),
        "key for everybody": (place.url("localhost", sslcert=ours.certificate, sslkey=loose), r"chmod 600"),
        "no such key": (place.url(**{**both, "sslkey": "/no.key"}), r"^sslkey=/no\.key in DATABASE_URL: there is no such file\.$"),
        "no such certificate": (
            place.url(**{**both, "sslcert": "/no.pem"}),
            r"^sslcert=/no\.pem in DATABASE_URL: there is no such file\.$",
        ),
        "no such authority": (place.url(sslrootcert="/no.pem"), r"^sslrootcert=/no\.pem in DATABASE_URL: there is no such file\.$"),
        "wrong password": (place.url("scram:guessed"), r'password authentication failed for user "scram"\. Check DATABASE_URL'),
    }


async def test_what_no_attempt_gets_through_is_told_at_once(place, tmp_path):
    """However long a server would be waited for: with where, why and what to do, and without the password."""
    for name, (url, said) in refused(place, tmp_path).items():
        with pytest.raises(SetupError, match=said) as caught:
            async with Database.open(url, wait=30):
                pass
        assert "guessed" not in str(caught.value), name


@pytest.mark.parametrize(
    "options", ["sslmode=require", "sslmode=verify-ca", "sslmode=verify-full", "sslmode=verify-full&sslrootcert=system"]
)
async def test_server_without_tls_is_not_talked_to(postgres, options):
    """What asks for encryption sends nothing in the clear, and says what to do about it."""
    with pytest.raises(SetupError, match=r"does not support SSL, but SSL was required\. Turn TLS on there"):
        async with Database.open(f"{postgres.url(tcp=True)}?{options}", wait=30):
            pass
