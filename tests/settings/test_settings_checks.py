"""Settings seen together: derived values, production, weak secrets, copies."""

import random
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from string import ascii_letters, digits
from typing import Annotated
from urllib.parse import unquote, urlsplit

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cliffracer.errors import SetupError
from cliffracer.settings import Secret, Settings, values

CURE = 'make one by: python -c "import secrets; print(secrets.token_urlsafe(48))"'


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ({"db_host": "h"}, "postgresql://h:5432/"),
        ({"db_name": "shop"}, "postgresql://localhost:5432/shop"),
        ({"db_host": "h", "db_name": "s p", "db_user": "ada", "db_password": "a/b@c:?"}, "postgresql://ada:a%2Fb%40c%3A%3F@h:5432/s%20p"),
        ({"db_host": "::1", "db_port": 6000}, "postgresql://[::1]:6000/"),
        ({"db_host": "/run/postgresql", "db_user": "ada"}, "postgresql://ada@%2Frun%2Fpostgresql:5432/"),
        ({"db_user": "ada", "db_port": 1}, None),
        ({"db_host": "h", "database_url": "postgresql://other/x"}, "postgresql://other/x"),
    ],
)
def test_the_database_url_is_put_together(given: dict[str, object], url: str | None) -> None:
    """DB_HOST and its companions make the URL, unless there is one."""
    assert Settings(**given).database_url == url


@given(st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1).filter(str.strip))
def test_any_password_survives_the_database_url(password: str) -> None:
    """A password of any characters comes out of the built URL as it went in."""
    url = Settings(db_host="h", db_user="u", db_password=password).database_url
    assert url is not None
    assert unquote(urlsplit(url).netloc.rpartition("@")[0].partition(":")[2]) == password


def test_what_depends_on_the_environment() -> None:
    """Production listens to all and shows no documentation pages; both can be set."""
    assert (Settings().http_host, Settings().docs) == ("127.0.0.1", True)
    assert (Settings(env="production").http_host, Settings(env="production").docs) == ("0.0.0.0", False)
    assert (Settings(env="production", docs=True, http_host="::1").docs, Settings(docs=False).docs) == (True, False)
    assert not Settings(env="production").given("docs")


def test_a_copy_follows_what_changed() -> None:
    """`changed` keeps values and origins, and derives again what follows from others."""
    first = Settings(db_host="h", limit=5)
    second = first.changed("embedded server", env="production", db_name="x", nats_url="nats://h")
    assert (second.limit, second.database_url, second.docs, second.http_host) == (5, "postgresql://h:5432/x", False, "0.0.0.0")
    assert (str(second.origin("nats_url")), str(second.origin("limit")), second.given("docs")) == ("embedded server", "argument", False)
    assert first.changed(database_url="postgresql://o/x").changed(db_name="y").database_url == "postgresql://o/x"
    with pytest.raises(SetupError, match="no setting limt; did you mean limit"):
        first.changed(limt=1)


def test_settings_are_frozen_values() -> None:
    """Settings cannot be changed in place; equal ones are equal and hash alike, wherever they come from."""
    with pytest.raises(AttributeError):
        Settings().limit = 3  # type: ignore[misc]
    assert Settings(limit=100) == Settings()
    assert hash(Settings(nats_token="x")) == hash(Settings(nats_token=Secret("x")))
    with pytest.raises(TypeError):
        Settings("production")  # type: ignore[misc]


def test_a_copy_that_msgspec_made_knows_its_values() -> None:
    """`msgspec.structs.replace` gives settings that work, all said to be arguments."""
    copied = msgspec.structs.replace(Settings(limit=5), wait=3.0)
    assert (copied.limit, copied.wait, str(copied.origin("limit"))) == (5, 3.0, "argument")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"database_pool_max": 5, "database_pool_min": 6},
            "database_pool_min (argument): database_pool_min (6) is over database_pool_max (5).",
        ),
        ({"nats_tls_cert": "/c"}, "nats_tls_cert (argument) needs nats_tls_key too."),
        ({"nats_tls_key": "/c"}, "nats_tls_key (argument) needs nats_tls_cert too."),
        ({"auth_secret_key": "short"}, f"auth_secret_key (argument) has 5 bytes: a key for HS256 has 32 at least; {CURE}."),
        ({"env": "production", "auth_secret_key": "z" * 64}, f"auth_secret_key (argument) repeats a few characters; {CURE}."),
        ({"auth_secret_key": "z" * 31}, f"auth_secret_key (argument) has 31 bytes: a key for HS256 has 32 at least; {CURE}."),
        ({"auth_secret_key": "changeme" * 5}, f"auth_secret_key (argument) is the text of an example; {CURE}."),
        ({"auth_secret_key": "secret!" * 6}, f"auth_secret_key (argument) repeats a few characters; {CURE}."),
        ({"auth_secret_key": "password" * 4 + "1"}, f"auth_secret_key (argument) repeats a few characters; {CURE}."),
        ({"auth_secret_key": "changeme"}, f"auth_secret_key (argument) is the text of an example; {CURE}."),
        (
            {"auth_secret_key": "please-change-me-in-production-0123456789"},
            f"auth_secret_key (argument) is the text of an example; {CURE}.",
        ),
        ({"auth_secret_key": "your-256-bit-secret-your-256-bit-secret"}, f"auth_secret_key (argument) is the text of an example; {CURE}."),
        ({"env": "production", "db_password": "changeme"}, "db_password (argument) is the text of an example: set the real one."),
        ({"env": "production", "nats_token": "<token>"}, "nats_token (argument) is the text of an example: set the real one."),
    ],
)
def test_settings_that_do_not_go_together(given: dict[str, object], message: str) -> None:
    """A contradiction and a weak or example secret are told in one line, without the secret."""
    with pytest.raises(SetupError) as caught:
        Settings(**given)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "key",
    [
        "0123456789abcdef" * 2,
        "k" * 31 + "!",
        "test-secret-that-is-long-enough-for-hs256",
        "of-a-key-that-is-long-of-a-key-that-is-long",
        "é" * 10 + "abcdefghijkl",
    ],
)
def test_a_long_key_is_taken(key: str) -> None:
    """32 bytes that are no example and no repetition of a few characters are a key."""
    assert Settings(auth_secret_key=key).auth_secret_key == Secret(key)


@pytest.mark.parametrize("alphabet", ["0123456789", "0123456789abcdef", ascii_letters + digits + "-_"])
def test_keys_drawn_by_lot_are_taken(alphabet: str) -> None:
    """Nothing that a generator makes is held for a repetition, of digits, hex or base64."""
    lots = random.Random(7)
    for length in (32, 40, 64, 86):
        for _ in range(100):
            Settings(auth_secret_key="".join(lots.choices(alphabet, k=length)))


@pytest.mark.parametrize("env", ["development", "test"])
@pytest.mark.parametrize("key", ["k" * 32, "x" * 48, "abc123" * 8])
def test_keys_of_a_few_characters_do_outside_production(env: str, key: str) -> None:
    """What a test writes for a key is one where nobody lives by it."""
    assert Settings(env=env, auth_secret_key=key).auth_secret_key == Secret(key)


def test_example_passwords_do_in_development() -> None:
    """A database of one's own machine may have any password."""
    assert Settings(db_password="changeme").db_password == Secret("changeme")


BOTH = """\
NATS_URL and DATABASE_URL are not set, and CLIFFRACER_ENV is production: embedded servers are for development. \
Set NATS_URL and DATABASE_URL (or CLIFFRACER_NATS_URL and CLIFFRACER_DATABASE_URL)."""
ONE = """\
{0} is not set, and CLIFFRACER_ENV is production: embedded servers are for development. Set {0} (or CLIFFRACER_{0})."""


@pytest.mark.parametrize(
    ("given", "needs", "message"),
    [
        ({}, {"database": True}, BOTH),
        ({"nats_url": "nats://h"}, {"database": True}, ONE.format("DATABASE_URL")),
        ({}, {}, ONE.format("NATS_URL")),
    ],
)
def test_production_needs_real_servers(given: dict[str, object], needs: dict[str, bool], message: str) -> None:
    """In production an unset URL of a server that is needed is refused by the variable's name."""
    with pytest.raises(SetupError) as caught:
        Settings(env="production", **given).require_servers(**needs)
    assert str(caught.value) == message


def test_servers_that_are_there_or_not_needed_are_enough() -> None:
    """Development needs no URL, and production only those that are used."""
    Settings().require_servers(database=True)
    Settings(env="production", nats_url="nats://h", db_host="h").require_servers(database=True)
    Settings(env="production", nats_url="nats://h").require_servers()
    shards = Settings(env="production", nats_url="nats://h", database_urls=("postgres://a,b/x", "postgres://c/x"))
    shards.require_servers(database=True)
    assert shards.databases == ("postgres://a,b/x", "postgres://c/x")
    assert Settings(database_url="postgres://a/x").databases == ("postgres://a/x",)
    assert Settings().databases == ()


class ShopSettings(Settings, frozen=True, kw_only=True):
    """Settings that a user added to ours."""

    shop_name: str
    shop_tags: list[str] = msgspec.field(default_factory=list)
    shop_timeout: Annotated[float, values.seconds(0, 60)] = 1.0
    shop_key: Secret[str] | None = None
    shop_size: int = 3


def test_users_can_add_settings(load, tmp_path) -> None:
    """A subclass's fields are read from the same places, by their types or by our readers."""
    given = {"NAME": "x", "TAGS": "a, b", "TIMEOUT": "5s", "KEY": "hunter2", "SIZE": "7"}
    environ = {f"CLIFFRACER_SHOP_{name}": value for name, value in given.items()}
    found = ShopSettings.load(folder=tmp_path, environ=environ)
    assert (found.shop_name, found.shop_tags, found.shop_timeout, found.shop_size) == ("x", ["a", "b"], 5.0, 7)
    assert found.shop_key == Secret("hunter2")
    assert "hunter2" not in repr(found)
    with pytest.raises(SetupError, match=r"CLIFFRACER_SHOP_SIZE \(environment\) is 'x': Expected `int`"):
        ShopSettings.load(folder=tmp_path, environ=environ | {"CLIFFRACER_SHOP_SIZE": "x"})
    with pytest.raises(SetupError, match="shop_name is not set"):
        ShopSettings.load(folder=tmp_path, environ={})


def test_settings_are_light_to_import() -> None:
    """Importing the settings pulls in none of the heavy parts."""
    heavy = ("loguru", "nats", "psycopg", "starlette", "uvicorn", "authlib")
    code = f"import sys, cliffracer.settings; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


class Varied(Settings, frozen=True, kw_only=True):
    """Fields of many types, as users have them."""

    switch: bool | None = None
    within: timedelta | None = None
    weights: dict[str, int] = msgspec.field(default_factory=dict)
    tags: list[str] | None = None
    place: Path | None = None


def test_own_settings_are_written_as_ours_are(tmp_path: Path) -> None:
    """A bool by its words, a length of time by its unit, a list by commas; what is no text as JSON."""
    environ = {"SWITCH": "off", "WITHIN": "1m30s", "WEIGHTS": '{"a": 1}', "TAGS": "a, b", "PLACE": "/srv/x"}
    found = Varied.load(folder=tmp_path, environ={f"CLIFFRACER_{name}": value for name, value in environ.items()})
    assert (found.switch, found.within, found.weights) == (False, timedelta(seconds=90), {"a": 1})
    assert (found.tags, found.place) == (["a", "b"], Path("/srv/x"))
    with pytest.raises(SetupError) as caught:
        Varied.load(folder=tmp_path, environ={"CLIFFRACER_SWITCH": "perhaps", "CLIFFRACER_WITHIN": "soon", "CLIFFRACER_WEIGHTS": "{a"})
    for words in ("true or false is wanted", "a length of time is wanted", "JSON is wanted"):
        assert words in str(caught.value)


@pytest.mark.parametrize(
    ("text", "members"),
    [
        ("[::1]:80, [fe80::1]:80", ["[::1]:80", "[fe80::1]:80"]),
        ("[a-z]*.txt,b", ["[a-z]*.txt", "b"]),
        ("{name}.json,{id}", ["{name}.json", "{id}"]),
        ('["a,b", "c"]', ["a,b", "c"]),
        ("[]", []),
    ],
)
def test_a_list_is_written_by_commas_or_as_json(tmp_path: Path, text: str, members: list[str]) -> None:
    """What only begins like JSON, such as an address of IPv6, is none; what was meant to be some is told."""
    assert Varied.load(folder=tmp_path, environ={"CLIFFRACER_TAGS": text}).tags == members
    with pytest.raises(SetupError, match="JSON is wanted"):
        Varied.load(folder=tmp_path, environ={"CLIFFRACER_TAGS": '["a", b]'})


def test_a_length_of_time_may_be_that_of_iso_8601(tmp_path: Path) -> None:
    """As it is written in JSON."""
    assert Varied.load(folder=tmp_path, environ={"CLIFFRACER_WITHIN": "PT90S"}).within == timedelta(seconds=90)


def test_a_type_that_no_setting_can_be_is_named(tmp_path: Path) -> None:
    """With what to do, and not as a failure of ours."""

    class Odd(Settings, frozen=True, kw_only=True):
        number: complex = 1j

    with pytest.raises(SetupError, match="A setting cannot be a complex: declare it as text"):
        Odd.load(folder=tmp_path, environ={"CLIFFRACER_NUMBER": "1"})
